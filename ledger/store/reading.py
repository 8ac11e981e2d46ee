"""What the console asks: everything that is known of a study or a job, and the ledger at a glance."""

import re
from collections.abc import Collection
from typing import Any

from sqlalchemy import Row, Select, Table, func, or_, select

from ledger.delivery import DeliveryRecord, DeliveryState
from ledger.identifiers import JobId, SeriesId, StudyId, Uid
from ledger.job import JobRecord, JobState
from ledger.overview import Counts
from ledger.pause import PauseKind
from ledger.result import ResultRecord
from ledger.schema import delivery, instance, job, outbox, quarantine, result, routing_note, series, study
from ledger.store.database import Database, NotInLedger, Transaction
from ledger.store.outbox import due_job
from ledger.store.paused import is_paused
from ledger.store.rows import delivery_record, job_record, result_record, study_record
from ledger.study import RoutingNote, StudyRecord, StudyState

_JOB_NUMBER = re.compile(r"(?:job\s*)?#?([0-9]{1,18})", re.IGNORECASE)


class Reading(Database):
    """Questions that change nothing."""

    def studies(
        self, *, limit: int = 50, state: StudyState | None = None, text: str | None = None
    ) -> list[StudyRecord]:
        """Studies, the latest arrival first; with `text`, those that have it in UID, accession number,
        patient id, patient name or description.
        """
        query = select(study).order_by(study.c.last_arrival_at.desc(), study.c.id.desc()).limit(limit)
        if state is not None:
            query = query.where(study.c.state == state)
        if text:
            columns = (study.c.uid, study.c.accession_number, study.c.patient_id, study.c.patient_name)
            query = query.where(
                or_(*(c.icontains(text, autoescape=True) for c in (*columns, study.c.description)))
            )
        with self.read() as tx:
            return [study_record(row) for row in tx.connection.execute(query)]

    def find(self, text: str) -> StudyRecord | JobRecord | None:
        """What an operator means: a Study Instance UID, an accession number (its latest study), or a job's
        number.

        A number that is an accession number as well is the study's; "job 12" is always the job.
        """
        text = text.replace("\0", "").strip()
        named = select(study).where(or_(study.c.uid == text, study.c.accession_number == text))
        number = _JOB_NUMBER.fullmatch(text)
        with self.read() as tx:
            row = tx.connection.execute(named.order_by(study.c.id.desc()).limit(1)).first() if text else None
            if row is not None:
                return study_record(row)
            if number is not None:
                row = tx.connection.execute(jobs_with_uids().where(job.c.id == int(number[1]))).first()
        return None if row is None else job_record(row)

    def study(self, study_id: StudyId) -> StudyRecord:
        """One study. Raises `NotInLedger`."""
        return study_record(self._one(select(study).where(study.c.id == study_id), f"study {study_id}"))

    def job(self, job_id: JobId) -> JobRecord:
        """One job. Raises `NotInLedger`."""
        return job_record(self._one(jobs_with_uids().where(job.c.id == job_id), f"job {job_id}"))

    def _one(self, query: Select[Any], name: str) -> Row[Any]:
        with self.read() as tx:
            row = tx.connection.execute(query).first()
        if row is None:
            raise NotInLedger(f"there is no {name}")
        return row

    def jobs_of(self, study_id: StudyId) -> list[JobRecord]:
        """The jobs of a study, the oldest first."""
        with self.read() as tx:
            query = jobs_with_uids().where(job.c.study_id == study_id).order_by(job.c.id)
            return [job_record(row) for row in tx.connection.execute(query)]

    def jobs(self, *, states: Collection[JobState] | None = None, limit: int = 100) -> list[JobRecord]:
        """Jobs in any of `states` (None: in all), the latest first."""
        query = jobs_with_uids().order_by(job.c.id.desc()).limit(limit)
        if states is not None:
            query = query.where(job.c.state.in_(list(states)))
        with self.read() as tx:
            return [job_record(row) for row in tx.connection.execute(query)]

    def results_of(self, job_id: JobId) -> list[ResultRecord]:
        """What a job made, leaves before the root."""
        with self.read() as tx:
            query = select(result).where(result.c.job_id == job_id).order_by(result.c.id)
            return [result_record(row) for row in tx.connection.execute(query)]

    def deliveries_of(self, job_id: JobId) -> list[DeliveryRecord]:
        """Where the results of a job go, in the order in which they were opened."""
        with self.read() as tx:
            made = select(result).where(result.c.job_id == job_id)
            results = {row.id: result_record(row) for row in tx.connection.execute(made)}
            query = select(delivery).where(delivery.c.job_id == job_id).order_by(delivery.c.id)
            return [delivery_record(row, results[row.result_id]) for row in tx.connection.execute(query)]

    def deliveries(
        self, *, states: Collection[DeliveryState] | None = None, limit: int = 100
    ) -> list[DeliveryRecord]:
        """Deliveries in any of `states` (None: in all), the latest first."""
        query = select(delivery).order_by(delivery.c.id.desc()).limit(limit)
        if states is not None:
            query = query.where(delivery.c.state.in_(list(states)))
        with self.read() as tx:
            rows = tx.connection.execute(query).all()
            made = select(result).where(result.c.id.in_({row.result_id for row in rows}))
            results = {row.id: result_record(row) for row in tx.connection.execute(made)}
        return [delivery_record(row, results[row.result_id]) for row in rows]

    def routing_notes(self, study_id: StudyId) -> list[RoutingNote]:
        """What the rules said when the study was last closed."""
        latest = select(func.max(routing_note.c.generation)).where(routing_note.c.study_id == study_id)
        query = select(routing_note).where(
            routing_note.c.study_id == study_id, routing_note.c.generation == latest.scalar_subquery()
        )
        with self.read() as tx:
            rows = tx.connection.execute(query.order_by(routing_note.c.id)).all()
        return [
            RoutingNote(
                series_id=None if row.series_id is None else SeriesId(row.series_id),
                rule=row.rule,
                taken=row.taken,
                because=row.because,
            )
            for row in rows
        ]

    def counts(self) -> Counts:
        """The ledger at a glance."""
        with self.read() as tx:
            due = due_job(tx.now)  # What is paused is not late.
            paused = is_paused(PauseKind.PEER, delivery.c.peer)
            waiting = (delivery.c.state == DeliveryState.WAITING) & ~paused
            queued_since = tx.connection.execute(select(func.min(job.c.next_attempt_at)).where(due)).scalar()
            waiting_since = tx.connection.execute(
                select(func.min(delivery.c.created_at)).where(waiting)
            ).scalar()
            unpublished = select(func.count()).select_from(outbox).where(outbox.c.published_at.is_(None))
            by_state = {table.name: _by_state(tx, table) for table in (study, job, delivery)}
            return Counts(
                studies={state: by_state["study"].get(state, 0) for state in StudyState},
                instances=_count(tx, select(func.count()).select_from(instance)),
                jobs={state: by_state["job"].get(state, 0) for state in JobState},
                deliveries={state: by_state["delivery"].get(state, 0) for state in DeliveryState},
                oldest_queued_s=None if queued_since is None else tx.now - queued_since,
                oldest_waiting_s=None if waiting_since is None else tx.now - waiting_since,
                quarantined=_count(tx, select(func.count()).select_from(quarantine)),
                unpublished=_count(tx, unpublished),
            )

    def is_our_result(self, sop_instance: Uid) -> bool:
        """Whether we made this instance: it came back from the archive, and must not be analysed."""
        query = select(result.c.id).where(result.c.sop_instance == sop_instance.value).limit(1)
        with self.read() as tx:
            return tx.connection.execute(query).first() is not None


def jobs_with_uids() -> Select[Any]:
    """Jobs with the UIDs of their study and series: what `job_record` takes."""
    return (
        select(job, study.c.uid.label("study_uid"), series.c.uid.label("series_uid"))
        .join(study, study.c.id == job.c.study_id)
        .join(series, series.c.id == job.c.series_id)
    )


def _count(tx: Transaction, query: Select[Any]) -> int:
    return int(tx.connection.execute(query).scalar_one())


def _by_state(tx: Transaction, table: Table) -> dict[str, int]:
    query = select(table.c.state, func.count().label("total")).group_by(table.c.state)
    return {row.state: row.total for row in tx.connection.execute(query)}
