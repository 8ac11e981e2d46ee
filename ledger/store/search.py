"""Looking for studies among a hundred thousand, and looking at what is going on: few queries, each by an
index or over one small table.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Integer, Select, and_, case, cast, exists, func, or_, select

from ledger.delivery import DeliveryEvent, DeliveryRecord, DeliveryState
from ledger.identifiers import SeriesId, StudyId
from ledger.job import JobEvent, JobRecord, JobState
from ledger.pause import PauseKind
from ledger.present import Activity, Found, Present, Search
from ledger.schema import (
    delivery,
    event,
    job,
    quarantine,
    result,
    routing_note,
    series,
    study,
    worker,
)
from ledger.store.database import Database, Transaction
from ledger.store.outbox import due_job
from ledger.store.paused import is_paused
from ledger.store.rows import delivery_record, job_record, result_record, study_record
from ledger.study import RoutingNote, StudyEvent, StudyRecord, StudyState

_JOBS = (JobState.QUEUED, JobState.RUNNING, JobState.PARKED)
_DELIVERIES = (DeliveryState.WAITING, DeliveryState.SENDING, DeliveryState.SENT, DeliveryState.PARKED)


class Searching(Database):
    """Questions of the console."""

    def signature(self) -> tuple[object, ...]:
        """Something that is another whenever there is news: for comparing only."""
        arrived = select(func.max(study.c.last_arrival_at)).where(study.c.state == StudyState.OPEN)
        with self.read() as tx:
            return (
                tx.connection.execute(select(func.max(event.c.id))).scalar(),
                tx.connection.execute(arrived).scalar(),
                tx.connection.execute(select(func.max(worker.c.seen_at))).scalar(),
            )

    def present(self) -> Present:
        """What is unfinished now."""
        with self.read() as tx:
            due = due_job(tx.now)  # What is paused is not late.
            queued_since = tx.connection.execute(select(func.min(job.c.next_attempt_at)).where(due)).scalar()
            paused = is_paused(PauseKind.PEER, delivery.c.peer)
            waiting = (delivery.c.state == DeliveryState.WAITING) & ~paused
            waiting_since = tx.connection.execute(
                select(func.min(delivery.c.created_at)).where(waiting)
            ).scalar()
            return Present(
                open_studies=_count(tx, study, study.c.state == StudyState.OPEN),
                jobs={state: _count(tx, job, job.c.state == state) for state in _JOBS},
                deliveries={state: _count(tx, delivery, delivery.c.state == state) for state in _DELIVERIES},
                quarantined=_count(tx, quarantine),
                oldest_queued_s=None if queued_since is None else tx.now - queued_since,
                oldest_waiting_s=None if waiting_since is None else tx.now - waiting_since,
            )

    def activity(self, *, buckets: int = 60, bucket_s: float = 60.0) -> Activity:
        """What happened in the last `buckets` spans of `bucket_s` seconds, up to now."""
        kinds = {
            "closed": (event.c.thing == "study") & (event.c.event == StudyEvent.COMPLETED),
            "finished": (event.c.thing == "job") & (event.c.event == JobEvent.FINISHED),
            "committed": (event.c.thing == "delivery") & (event.c.event == DeliveryEvent.CONFIRMED),
            "failed": (event.c.after == JobState.PARKED) & (event.c.before != event.c.after),
        }
        with self.read() as tx:
            since = tx.now - buckets * bucket_s
            number = cast(func.floor((event.c.at - since) / bucket_s), Integer).label("number")
            each = select(number, *(case((where, 1), else_=0).label(kind) for kind, where in kinds.items()))
            lately = each.where(event.c.at >= since).subquery()
            sums = [func.sum(lately.c[kind]) for kind in kinds]
            counts = {kind: [0] * buckets for kind in kinds}
            # One walk over the hour, whatever is counted: a busy one has tens of thousands of events.
            for position, *times in tx.connection.execute(
                select(lately.c.number, *sums).group_by(lately.c.number)
            ):
                for kind, found in zip(kinds, times, strict=True):
                    counts[kind][min(buckets - 1, position)] += int(found)
        return Activity(bucket_s=bucket_s, **{kind: tuple(found) for kind, found in counts.items()})

    def receiving(self, *, limit: int = 12) -> list[StudyRecord]:
        """Studies that are open, the latest arrival first."""
        query = select(study).where(study.c.state == StudyState.OPEN)
        with self.read() as tx:
            rows = tx.connection.execute(query.order_by(study.c.last_arrival_at.desc()).limit(limit))
            return [study_record(row) for row in rows]

    def search(self, wanted: Search) -> list[Found]:
        """The studies that fit, the latest arrival first: at most `wanted.limit` of them."""
        with self.read() as tx:
            query = select(study).where(*_conditions(wanted, tx.connection.dialect.name))
            query = query.order_by(study.c.last_arrival_at.desc(), study.c.id.desc()).limit(wanted.limit)
            return found_of(tx, [study_record(row) for row in tx.connection.execute(query)])

    def found(self, ids: Collection[StudyId]) -> list[Found]:
        """These studies, the latest arrival first."""
        query = select(study).where(study.c.id.in_(list(ids)))
        query = query.order_by(study.c.last_arrival_at.desc(), study.c.id.desc())
        with self.read() as tx:
            return found_of(tx, [study_record(row) for row in tx.connection.execute(query)])

    def callers(self, *, limit: int = 100) -> list[str]:
        """AE titles that sent studies, for a list to choose from."""
        query = select(study.c.calling).distinct().order_by(study.c.calling).limit(limit)
        with self.read() as tx:
            return [row.calling for row in tx.connection.execute(query)]


def found_of(tx: Transaction, studies: Sequence[StudyRecord]) -> list[Found]:
    """The studies with their jobs, deliveries, modalities and notes: a handful of queries for all of them."""
    ids = [one.id for one in studies]
    if not ids:
        return []
    modalities: defaultdict[int, list[str]] = defaultdict(list)
    asked = select(series.c.study_id, series.c.modality).where(series.c.study_id.in_(ids)).distinct()
    for row in tx.connection.execute(asked.order_by(series.c.modality)):
        modalities[row.study_id].append(row.modality)
    jobs = _jobs_of(tx, ids)
    deliveries = _deliveries_of(tx, ids)
    notes = _notes_of(tx, [one for one in studies if not jobs[one.id]])
    return [
        Found(
            study=one,
            modalities=tuple(modalities[one.id]),
            jobs=tuple(jobs[one.id]),
            deliveries=tuple(deliveries[one.id]),
            notes=tuple(notes[one.id]),
        )
        for one in studies
    ]


def _conditions(wanted: Search, dialect: str) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if text := wanted.text.replace("\0", "").strip():
        columns = [study.c.uid, study.c.accession_number]
        if wanted.patients:
            columns += [study.c.patient_id, study.c.patient_name, study.c.description]
        pattern = "%" + re.sub(r"([\\%_])", r"\\\1", text) + "%"
        # SQLite's LIKE takes a for A by itself; asked to compare lower case, it takes twice as long.
        like = "ilike" if dialect == "postgresql" else "like"
        found.append(or_(*(getattr(column, like)(pattern, escape="\\") for column in columns)))
    if wanted.accession:
        found.append(study.c.accession_number == wanted.accession)
    if wanted.since:
        found.append(study.c.study_date >= wanted.since)
    if wanted.until:
        found.append(study.c.study_date <= wanted.until)
    if wanted.calling:
        found.append(study.c.calling == wanted.calling)
    if wanted.state is not None:
        found.append(study.c.state == wanted.state)
    if wanted.modality:
        found.append(exists().where(series.c.study_id == study.c.id, series.c.modality == wanted.modality))
    if wanted.jobs is not None:
        # By the index of what is unfinished: few jobs are, and their studies are found at once.
        found.append(study.c.id.in_(select(job.c.study_id).where(job.c.state == wanted.jobs)))
    if wanted.before is not None:
        at, last = wanted.before
        earlier = and_(study.c.last_arrival_at == at, study.c.id < last)
        found.append(or_(study.c.last_arrival_at < at, earlier))
    return found


def _jobs_of(tx: Transaction, ids: Sequence[StudyId]) -> defaultdict[int, list[JobRecord]]:
    query: Select[Any] = (
        select(job, study.c.uid.label("study_uid"), series.c.uid.label("series_uid"))
        .join(study, study.c.id == job.c.study_id)
        .join(series, series.c.id == job.c.series_id)
    )
    found: defaultdict[int, list[JobRecord]] = defaultdict(list)
    for row in tx.connection.execute(query.where(job.c.study_id.in_(ids)).order_by(job.c.id)):
        found[row.study_id].append(job_record(row))
    return found


def _deliveries_of(tx: Transaction, ids: Sequence[StudyId]) -> defaultdict[int, list[DeliveryRecord]]:
    rows = tx.connection.execute(
        select(delivery).where(delivery.c.study_id.in_(ids)).order_by(delivery.c.id)
    ).all()
    made = select(result).where(result.c.id.in_({row.result_id for row in rows}))
    results = {row.id: result_record(row) for row in tx.connection.execute(made)}
    found: defaultdict[int, list[DeliveryRecord]] = defaultdict(list)
    for row in rows:
        found[row.study_id].append(delivery_record(row, results[row.result_id]))
    return found


def _notes_of(tx: Transaction, studies: Sequence[StudyRecord]) -> defaultdict[int, list[RoutingNote]]:
    found: defaultdict[int, list[RoutingNote]] = defaultdict(list)
    if not studies:
        return found
    latest = {one.id: one.generation for one in studies}
    query = select(routing_note).where(routing_note.c.study_id.in_(list(latest)))
    for row in tx.connection.execute(query.order_by(routing_note.c.id)):
        if row.generation == latest[row.study_id]:
            series_id = None if row.series_id is None else SeriesId(row.series_id)
            note = RoutingNote(series_id=series_id, rule=row.rule, taken=row.taken, because=row.because)
            found[row.study_id].append(note)
    return found


def _count(tx: Transaction, table: Any, *where: ColumnElement[bool]) -> int:
    return int(tx.connection.execute(select(func.count()).select_from(table).where(*where)).scalar_one())
