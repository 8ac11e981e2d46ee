"""
Studies: what the node looks at to judge them complete, and the transaction that closes one.

Closing is optimistic: the judge says which facts it saw, and nothing happens if they have changed since.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, case, delete, exists, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from ledger.completeness import Statement
from ledger.delivery import DeliveryEvent, DeliveryState
from ledger.identifiers import JobId, SeriesId, StudyId
from ledger.job import JobEvent, JobState, NewJob, Priority
from ledger.result import Role
from ledger.schema import delivery, instance, job, job_input, result, routing_note, series, study
from ledger.store.completeness import insert_statements
from ledger.store.database import Database, Transaction
from ledger.store.history import decided, note
from ledger.store.moves import DELIVERY, JOB, STUDY, lock, locked, move
from ledger.store.outbox import hint_jobs, hint_next
from ledger.store.rows import instance_record, series_record, study_record
from ledger.store.stand_ins import stands_in
from ledger.store.wishes import settle_closing
from ledger.study import (
    Completeness,
    InstanceRecord,
    RoutingNote,
    SeriesRecord,
    StudyEvent,
    StudyRecord,
    StudyState,
)

#: What a later job of the same rule and series overtakes.
_UNFINISHED = (JobState.QUEUED, JobState.RUNNING, JobState.PARKED)
#: A peer has it, or is about to; where a report was declined, it has another form of it.
_ARRIVES = (
    DeliveryState.SENDING,
    DeliveryState.SENT,
    DeliveryState.COMMITTED,
    DeliveryState.DECLINED,
)


class Studies(Database):
    """Open studies, their series, and closing."""

    def open_studies(self) -> list[StudyRecord]:
        """Every study that is open, the longest silent first."""
        query = (
            select(study)
            .where(study.c.state == StudyState.OPEN)
            .order_by(study.c.last_arrival_at, study.c.id)
        )
        with self.read() as tx:
            return [study_record(row) for row in tx.connection.execute(query)]

    def series_of(self, study_id: StudyId) -> list[SeriesRecord]:
        """The series of a study that hold instances; series and instances in the order of arrival."""
        with self.read() as tx:
            rows = tx.connection.execute(
                select(instance).where(instance.c.study_id == study_id).order_by(instance.c.id)
            ).all()
            members: dict[int, list[InstanceRecord]] = {}
            for row in rows:
                members.setdefault(row.series_id, []).append(instance_record(row))
            query = select(series).where(series.c.study_id == study_id).order_by(series.c.id)
            return [
                series_record(row, tuple(members[row.id]))
                for row in tx.connection.execute(query)
                if row.id in members
            ]

    def close_study(
        self,
        study_id: StudyId,
        *,
        seen_instances: int,
        seen_last_arrival_at: float,
        because: str,
        notes: Sequence[RoutingNote],
        jobs: Sequence[NewJob],
        closed_as: Completeness = Completeness.PRESUMED,
        statements: Sequence[Statement] = (),
        rules: int | None = None,
    ) -> list[JobId] | None:
        """Close a study and open its jobs, in one transaction. The ids of the jobs that did not exist before.

        `notes` take the place of what was noted when series of it were routed by themselves. `statements` are
        what every witness said, `rules` the version of the rules that were asked.
        None: something arrived since the facts were read, or the study is not open; nothing was changed.
        Raises `NotInLedger`.
        """
        with self.write() as tx:
            row = lock(tx, STUDY, study_id)
            seen = (StudyState.OPEN, seen_instances, seen_last_arrival_at)
            if (row.state, row.instances, row.last_arrival_at) != seen:
                return None
            generation = row.generation + 1
            opened = [opened for new in jobs if (opened := open_job(tx, row, new)) is not None]
            earlier = (routing_note.c.study_id == row.id) & (routing_note.c.generation == generation)
            tx.connection.execute(delete(routing_note).where(earlier))
            _insert_notes(tx, row.id, generation, notes)
            insert_statements(tx, row.id, generation, statements)
            settle_closing(tx, row.id, because)
            move(
                tx,
                STUDY,
                row,
                StudyEvent.COMPLETED,
                because=because,
                detail={
                    "instances": row.instances,
                    "series": row.series,
                    "jobs": list(opened),
                    "closed_as": closed_as,
                    "rules": rules,
                },
                generation=generation,
                closed_at=tx.now,
                closed_because=because,
                closed_as=closed_as,
                rules=rules,
            )
            return opened

    def route_series(
        self,
        study_id: StudyId,
        series_id: SeriesId,
        *,
        seen_instances: int,
        notes: Sequence[RoutingNote],
        jobs: Sequence[NewJob],
        statement: Statement,
        rules: int | None = None,
    ) -> list[JobId] | None:
        """Open the jobs of a series that is complete while its study is still open, in one transaction.

        The ids of the jobs that did not exist before. None: more of the series arrived since the facts were
        read, or the study is not open; nothing was changed. Raises `NotInLedger`.
        """
        with self.write() as tx:
            row = lock(tx, STUDY, study_id)
            query = select(series.c.instances).where(series.c.id == series_id, series.c.study_id == study_id)
            if row.state != StudyState.OPEN or tx.connection.execute(query).scalar() != seen_instances:
                return None
            generation = row.generation + 1
            opened = [opened for new in jobs if (opened := open_job(tx, row, new)) is not None]
            earlier = (routing_note.c.study_id == row.id) & (routing_note.c.generation == generation)
            mine = routing_note.c.series_id == series_id
            tx.connection.execute(delete(routing_note).where(earlier, mine))
            _insert_notes(tx, row.id, generation, notes)
            insert_statements(tx, row.id, generation, [statement])
            note(
                tx,
                "study",
                "series_routed",
                thing_id=row.id,
                study_id=row.id,
                because=statement.because,
                detail={
                    "series": series_id,
                    "instances": seen_instances,
                    "jobs": list(opened),
                    "rules": rules,
                },
            )
            return opened


def _insert_notes(tx: Transaction, study_id: int, generation: int, notes: Sequence[RoutingNote]) -> None:
    if notes:
        rows = [
            {
                "study_id": study_id,
                "generation": generation,
                "series_id": said.series_id,
                "rule": said.rule,
                "taken": said.taken,
                "because": said.because,
            }
            for said in notes
        ]
        tx.connection.execute(insert(routing_note), rows)


def open_job(
    tx: Transaction,
    owner: Row[Any],
    new: NewJob,
    *,
    why: str = "",
    asked: str = "",
    by: str = "",
) -> JobId | None:
    """Open a job of the study `owner`, overtaking earlier ones of the same rule about the same. None if it
    exists already.

    `why` they are overtaken, unless something arrived or the rule was changed; `asked`, instead of the rule,
    and `by` whom, where an operator wants it.
    """
    subject = new.subject or str(new.series_id)
    same = (job.c.study_id == owner.id) & (job.c.subject == subject) & (job.c.rule == new.rule)
    earlier = locked(tx, JOB, same & (job.c.shadow == new.shadow))
    dialect = postgresql if tx.connection.dialect.name == "postgresql" else sqlite
    priority = Priority.STAT if owner.stat and not new.shadow else new.priority
    values = {
        "key": new.key.value,
        "study_id": owner.id,
        "series_id": new.series_id,
        "rule": new.rule,
        "subject": subject,
        "model": new.model,
        "settings": dict(new.settings),
        "earlier_asked": new.earlier_asked,
        "priority": priority,
        "destinations": list(new.destinations),
        "state": JobState.QUEUED,
        "attempts": 0,
        "epoch": 0,
        "because": "",
        "outcome": None,
        "model_identity": "",
        "created_at": tx.now,
        "next_attempt_at": tx.now + new.wait_s,
        "timings": {},
        "supersedes": max((row.id for row in earlier), default=None),
        "predecessor": None,
        "shadow": new.shadow,
        "again": new.again,
    }
    job_id = tx.connection.execute(
        dialect.insert(job).values(values).on_conflict_do_nothing(index_elements=["key"]).returning(job.c.id)
    ).scalar()
    if job_id is None:
        _restore_inputs(tx, new)
        return None
    insert_inputs(tx, job_id, new)
    beside = ", as a shadow run" if new.shadow else ""
    note(
        tx,
        "job",
        "opened",
        thing_id=job_id,
        study_id=owner.id,
        job_id=job_id,
        after=JobState.QUEUED,
        because=asked or f"rule {new.rule}: {new.model} on {len(new.inputs)} instances{beside}",
        detail=decided(by),
    )
    because = f"overtaken by job {job_id}: {why or _what_is_new(tx, earlier, new)}"
    for row in earlier:
        if row.state in _UNFINISHED:
            move(tx, JOB, row, JobEvent.SUPERSEDED, because=because)
    _withdraw(tx, [row.id for row in earlier], because)
    overtaken = [row.id for row in earlier]
    by_peer = {peer: _predecessor(tx, overtaken, peer) for peer in new.destinations}
    predecessors = {peer: report for peer, report in by_peer.items() if report is not None}
    latest = max(predecessors.values(), default=None)
    if not new.destinations:
        latest = _predecessor(tx, overtaken, None)
    values = {"predecessor": latest, "predecessors": predecessors}
    tx.connection.execute(update(job).where(job.c.id == job_id).values(values))
    if not new.wait_s:  # Else the sweep hints at it, once it is due.
        hint_jobs(tx, [(job_id, priority)])
    return JobId(job_id)


def _what_is_new(tx: Transaction, earlier: Sequence[Row[Any]], new: NewJob) -> str:
    """Why the latest of the earlier jobs is out of date: instances, or only what its rule asks."""
    latest = max((row.id for row in earlier), default=None)
    query = select(job_input.c.instance_id).where(job_input.c.job_id == latest)
    same = set(tx.connection.execute(query).scalars()) == set(new.inputs)
    return "its rule was changed" if same else "more instances arrived"


def _withdraw(tx: Transaction, overtaken: Sequence[int], because: str) -> None:
    """Do not send what is out of date before it arrives. What is on its way already arrives.

    What may have arrived, for all that the peer said, is sent to the end: only what is known to be there can
    be rejected there. Rejection notes go on as well: what they name stays out of date.
    """
    waiting = (delivery.c.job_id.in_(overtaken)) & (delivery.c.state == DeliveryState.WAITING)
    waiting &= ~delivery.c.in_doubt & ~delivery.c.note
    rows = locked(tx, DELIVERY, waiting)
    for row in rows:
        move(tx, DELIVERY, row, DeliveryEvent.SUPERSEDED, because=because)
    for row in rows:
        hint_next(tx, row)


def _predecessor(tx: Transaction, overtaken: Sequence[int], peer: str | None) -> int | None:
    """The latest report of the overtaken jobs that `peer` may have: the new one for it names it.

    Decided once, here, for it is part of the new report's bytes. Without a destination it is the latest that
    is kept.
    """
    reports = select(result.c.id).where(result.c.job_id.in_(overtaken), result.c.role == Role.REPORT)
    if peer is not None:
        arrives = delivery.c.state.in_(_ARRIVES) | (
            (delivery.c.state == DeliveryState.WAITING) & delivery.c.in_doubt
        )
        reports = reports.where(
            exists().where(delivery.c.result_id == result.c.id, delivery.c.peer == peer, arrives)
        )
    # What only says that a run was given up counts where there is nothing else.
    latest_of_runs = case((stands_in(), 1), else_=0), result.c.id.desc()
    reports = reports.join(job, job.c.id == result.c.job_id).order_by(*latest_of_runs)
    found: int | None = tx.connection.execute(reports.limit(1)).scalar()
    return found


def insert_inputs(tx: Transaction, job_id: int, new: NewJob) -> None:
    """Record which instances a job works on, and which input of the model each of them fills."""
    names = new.names or ("",) * len(new.inputs)
    rows = [
        {"job_id": job_id, "instance_id": instance_id, "input": name or None}
        for instance_id, name in zip(new.inputs, names, strict=True)
    ]
    if rows:
        tx.connection.execute(insert(job_input), rows)


def _restore_inputs(tx: Transaction, new: NewJob) -> None:
    """A purge took the inputs of this job; the same instances came back, so it could be run again."""
    job_id = tx.connection.execute(select(job.c.id).where(job.c.key == new.key.value)).scalar_one()
    present = tx.connection.execute(
        select(job_input.c.id).where(job_input.c.job_id == job_id).limit(1)
    ).first()
    if present is None:
        insert_inputs(tx, job_id, new)
