"""
The outbox: what the queue is to be told, written with the change that makes it worth telling.

A hint that is lost after publication costs time until the next sweep; one that is published twice costs a
claim that finds nothing. So no hint is ever waited for, and none is taken for the truth.
"""

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Float,
    Integer,
    Row,
    Select,
    and_,
    bindparam,
    case,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)

from ledger.delivery import DeliveryState
from ledger.hint import Hint, HintKind
from ledger.job import JobState, Priority
from ledger.schema import delivery, job
from ledger.schema import outbox as table
from ledger.store.database import Database, Transaction

#: The queue of the workers that send.
DELIVER = "deliver"
_IN_THE_WAY = (DeliveryState.WAITING, DeliveryState.SENDING)


def hint_jobs(tx: Transaction, jobs: Iterable[tuple[int, str]]) -> None:
    """Have the queue told of jobs, given as (id, priority)."""
    _hint(tx, HintKind.JOB, jobs)


def hint_deliveries(tx: Transaction, ids: Iterable[int]) -> None:
    """Have the queue told of deliveries."""
    _hint(tx, HintKind.DELIVERY, [(subject, DELIVER) for subject in ids])


def _hint(tx: Transaction, kind: HintKind, subjects: Iterable[tuple[int, str]]) -> None:
    rows = [
        {"kind": kind, "subject_id": subject, "queue": queue, "created_at": tx.now, "published_at": None}
        for subject, queue in subjects
    ]
    if rows:
        tx.connection.execute(insert(table), rows)


def due_job(now: float | BindParameter[float]) -> ColumnElement[bool]:
    """A job that a worker may take now."""
    return and_(job.c.state == JobState.QUEUED, job.c.next_attempt_at <= now)


def due_delivery(now: float | BindParameter[float]) -> ColumnElement[bool]:
    """A delivery that a worker may take now."""
    return and_(delivery.c.state == DeliveryState.WAITING, delivery.c.next_attempt_at <= now, ~held_back())


def held_back() -> ColumnElement[bool]:
    """A delivery that has to let another one go first.

    To one peer, a study's results go in the order of their jobs, so that a result never precedes the one that
    it supersedes; and within a job the root goes after its leaves (IHE AIR), so that no reader follows a
    reference into nothing. What is parked or cancelled holds nobody back, and neither does a rejection note,
    which is about earlier results.
    """
    first = delivery.alias("first")
    return exists().where(
        first.c.study_id == delivery.c.study_id,
        first.c.peer == delivery.c.peer,
        first.c.state.in_(_IN_THE_WAY),
        ~first.c.note,
        or_(
            first.c.job_id < delivery.c.job_id,
            and_(first.c.job_id == delivery.c.job_id, delivery.c.root, ~first.c.root),
        ),
    )


def hint_next(tx: Transaction, row: Row[Any]) -> None:
    """Have the queue told of what waited for this one."""
    query = select(delivery.c.id).where(
        delivery.c.study_id == row.study_id,
        delivery.c.peer == row.peer,
        delivery.c.job_id >= row.job_id,
        due_delivery(tx.now),
    )
    hint_deliveries(tx, tx.connection.execute(query.order_by(delivery.c.id)).scalars().all())


@cache
def _unpublished() -> Select[Any]:
    """What `Outbox.unpublished` asks for. Put together once: the relay asks fifty times a second."""
    rank = case((table.c.queue == Priority.STAT, 0), (table.c.queue == DELIVER, 1), else_=2)
    of_job = and_(table.c.kind == HintKind.JOB, table.c.subject_id == job.c.id)
    of_delivery = and_(table.c.kind == HintKind.DELIVERY, table.c.subject_id == delivery.c.id)
    now = bindparam("now", type_=Float)
    return (
        select(func.max(table.c.id).label("id"), table.c.kind, table.c.subject_id, table.c.queue)
        .select_from(table.outerjoin(job, of_job).outerjoin(delivery, of_delivery))
        .where(table.c.published_at.is_(None), or_(due_job(now), due_delivery(now)))
        .group_by(table.c.kind, table.c.subject_id, table.c.queue)
        .order_by(rank, table.c.subject_id)
        .limit(bindparam("most", type_=Integer))
    )


class Outbox(Database):
    """What the relay reads and ticks off."""

    def unpublished(self, limit: int = 500) -> list[Hint]:
        """What to tell the queue now, in this order: stat jobs, deliveries, routine jobs; the oldest first.

        A hint whose subject is not yet due waits; one whose subject is no longer to be done is never given.
        Of several about one subject only the latest is given; `mark_published` ticks off those before it.
        """
        with self.read() as tx:
            rows = tx.connection.execute(_unpublished(), {"now": tx.now, "most": limit}).all()
        return [Hint(id=r.id, kind=HintKind(r.kind), subject_id=r.subject_id, queue=r.queue) for r in rows]

    def mark_published(self, hints: Sequence[Hint]) -> None:
        """The queue has been told: all of `hints` at once."""
        if not hints:
            return
        with self.write() as tx:
            tx.connection.execute(
                update(table)
                .where(
                    table.c.kind == bindparam("of_kind"),
                    table.c.subject_id == bindparam("of_subject"),
                    table.c.id <= bindparam("up_to"),
                    table.c.published_at.is_(None),
                )
                .values(published_at=tx.now),
                [{"of_kind": hint.kind, "of_subject": hint.subject_id, "up_to": hint.id} for hint in hints],
            )
