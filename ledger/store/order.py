"""
The order of the queue: by age, but for what an operator moved.

A job's place is its number, or the rank that somebody gave it between two others. A job that was
moved, forward or back, and what stands before it is *arranged*: any worker takes it in exactly this order,
whatever models it keeps.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Double, Row, and_, cast, false, func, or_, select, update

from ledger.audit import Actor
from ledger.identifiers import JobId, StudyId
from ledger.job import JobState, Priority
from ledger.queue import QueuedJob
from ledger.schema import job, study
from ledger.store.audit import audit
from ledger.store.database import Database, Transaction
from ledger.store.history import decided, note
from ledger.store.moves import JOB, STUDY, lock, locked
from ledger.store.outbox import hint_jobs
from ledger.store.reading import jobs_with_uids
from ledger.store.rows import job_record, study_record
from ledger.study import StudyState
from ledger.transition import IllegalTransition

_QUEUED = job.c.state == JobState.QUEUED


def place() -> ColumnElement[float]:
    """Where a job stands in its lane: the smallest goes first."""
    return func.coalesce(job.c.rank, cast(job.c.id, Double))


def arranged_until(tx: Transaction) -> dict[Priority, float]:
    """By lane, the place of the last queued job that was moved; nothing where none was."""
    moved = and_(_QUEUED, job.c.rank.is_not(None))
    last = select(job.c.priority, func.max(job.c.rank).label("last")).where(moved).group_by(job.c.priority)
    return {Priority(row.priority): row.last for row in tx.connection.execute(last)}


def is_arranged(until: Mapping[Priority, float]) -> ColumnElement[bool]:
    """Whether a job stands where an operator has said what the order is."""
    return or_(false(), *(and_(job.c.priority == lane, place() <= last) for lane, last in until.items()))


class Order(Database):
    """Looking at the queue, and changing its order."""

    def queue(self, limit: int = 500) -> list[QueuedJob]:
        """What is queued, in the order in which a worker that keeps no model would take it."""
        with self.read() as tx:
            until = arranged_until(tx)
            query = jobs_with_uids().add_columns(place().label("place")).where(_QUEUED)
            # By the words of the lanes "stat" comes last.
            rows = tx.connection.execute(
                query.order_by(job.c.priority.desc(), place(), job.c.id).limit(limit)
            ).all()
            theirs = select(study).where(study.c.id.in_({row.study_id for row in rows}))
            studies = {row.id: study_record(row) for row in tx.connection.execute(theirs)}
            return [
                QueuedJob(
                    job=job_record(row),
                    study=studies[row.study_id],
                    place=row.place,
                    arranged=row.place <= until.get(Priority(row.priority), float("-inf")),
                    due=row.next_attempt_at <= tx.now,
                )
                for row in rows
            ]

    def place_job(self, job_id: JobId, *, after: JobId | None, by: Actor, because: str = "") -> None:
        """Have a queued job taken right after the queued job `after` of the same lane, or first of all.

        Raises `NotInLedger`, and `IllegalTransition` where one of the two is not queued, or in another lane.
        """
        with self.write() as tx:
            row = _lock_queued(tx, job_id)
            lane = _lane(tx, Priority(row.priority), but=job_id)
            before = None
            if after is not None:
                before = next((at for at, one in enumerate(lane) if one.id == after), None)
                if before is None:
                    raise IllegalTransition(
                        f"job {job_id} cannot go behind job {after}, which does not wait in the "
                        f"{row.priority} lane (any more)"
                    )
            at = 0 if before is None else before + 1
            rank = _between(lane, at)
            if rank is None:
                lane = _spread(tx, lane)
                rank = _between(lane, at)
            if at == 0 and rank is not None:
                rank = min(rank, float(job_id))  # Also where it was first already, it is to stay so.
            tx.connection.execute(update(job).where(job.c.id == job_id).values(rank=rank))
            where = "to the front" if after is None else f"behind job {after}"
            said = f"moved {where} of the {row.priority} lane" if after is None else f"moved {where}"
            _note(tx, row, "moved", because=because or said, by=by, after=after, ahead_of=len(lane) - at)
            audit(tx, by, "job.moved", thing_id=job_id, detail={"after": after})

    def set_priority(self, job_id: JobId, priority: Priority, *, by: Actor, because: str = "") -> None:
        """Have a queued job wait in the other lane. Raises `IllegalTransition` unless it is queued, and
        `NotInLedger`.
        """
        with self.write() as tx:
            if _change_lane(tx, _lock_queued(tx, job_id), priority, by=by, because=because):
                audit(tx, by, f"job.made_{priority}", thing_id=job_id)

    def set_study_priority(
        self, study_id: StudyId, priority: Priority, *, by: Actor, because: str = ""
    ) -> list[JobId]:
        """The same of all queued jobs of a study; which changed. Those that are opened for it later are stat,
        or again wait as their rule says.

        Raises `NotInLedger`, and `IllegalTransition` where its images were purged.
        """
        with self.write() as tx:
            owner = lock(tx, STUDY, study_id)
            if owner.state == StudyState.PURGED:
                raise IllegalTransition(f"study {study_id} is purged: nothing of it waits")
            stat = priority is Priority.STAT
            tx.connection.execute(update(study).where(study.c.id == owner.id).values(stat=stat))
            event = f"made_{priority}"
            note(
                tx,
                "study",
                event,
                thing_id=owner.id,
                study_id=owner.id,
                because=because,
                detail=decided(by.name),
            )
            # A shadow run must not hold up what somebody waits for.
            mine = (job.c.study_id == owner.id) & _QUEUED & (job.c.priority != priority) & ~job.c.shadow
            changed = locked(tx, JOB, mine)
            for row in changed:
                _change_lane(tx, row, priority, by=by, because=because)
            audit(tx, by, f"study.{event}", thing_id=study_id, detail={"jobs": [row.id for row in changed]})
            return [JobId(row.id) for row in changed]


def _lock_queued(tx: Transaction, job_id: JobId) -> Row[Any]:
    row = lock(tx, JOB, job_id)
    if row.state != JobState.QUEUED:
        raise IllegalTransition(f"job {job_id} is {row.state}: only what is queued has a place in the queue")
    return row


def _lane(tx: Transaction, lane: Priority, *, but: JobId) -> Sequence[Row[Any]]:
    query = select(job.c.id, place().label("place")).where(_QUEUED, job.c.priority == lane, job.c.id != but)
    return tx.connection.execute(query.order_by(place(), job.c.id)).all()


def _between(lane: Sequence[Row[Any]], at: int) -> float | None:
    """A place before the `at`-th of the lane, and behind the one before that; None: there is none left."""
    if not lane:
        return 0.0
    if at == 0:
        return float(lane[0].place - 1.0)
    low = float(lane[at - 1].place)
    if at == len(lane):
        return low + 0.5
    high = float(lane[at].place)
    middle = (low + high) / 2
    return middle if low < middle < high else None


def _spread(tx: Transaction, lane: Sequence[Row[Any]]) -> Sequence[Row[Any]]:
    """Give the jobs of a lane places that leave room between them, in the same order."""
    first = float(lane[0].place)
    step = 1.0 / (len(lane) + 1)
    ranks = {row.id: first + number * step for number, row in enumerate(lane)}
    for job_id, rank in ranks.items():
        tx.connection.execute(update(job).where(job.c.id == job_id).values(rank=rank))
    query = select(job.c.id, place().label("place")).where(job.c.id.in_(list(ranks)))
    return tx.connection.execute(query.order_by(place(), job.c.id)).all()


def _change_lane(tx: Transaction, row: Row[Any], priority: Priority, *, by: Actor, because: str) -> bool:
    """Whether it waited in the other one."""
    if row.priority == priority:
        return False
    # In the other lane it has the place of its age, until somebody moves it there.
    tx.connection.execute(update(job).where(job.c.id == row.id).values(priority=priority, rank=None))
    _note(tx, row, f"made_{priority}", because=because or f"from {row.priority} to {priority}", by=by)
    hint_jobs(tx, [(row.id, priority)])
    return True


def _note(tx: Transaction, row: Row[Any], event: str, *, because: str, by: Actor, **detail: object) -> None:
    note(
        tx,
        "job",
        event,
        thing_id=row.id,
        study_id=row.study_id,
        job_id=row.id,
        before=row.state,
        after=row.state,
        because=because,
        detail={**decided(by.name), **detail},
    )
