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
    FromClause,
    Integer,
    Row,
    ScalarSelect,
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
from ledger.notification import NotificationState
from ledger.pause import PauseKind
from ledger.result import Role
from ledger.schema import delivery, job, notification, result
from ledger.schema import outbox as table
from ledger.store.database import Database, Transaction
from ledger.store.paused import is_paused

#: The queue of the workers that send.
DELIVER = "deliver"
_IN_THE_WAY = (DeliveryState.WAITING, DeliveryState.SENDING)


def hint_jobs(tx: Transaction, jobs: Iterable[tuple[int, str]]) -> None:
    """Have the queue told of jobs, given as (id, priority)."""
    _hint(tx, HintKind.JOB, jobs)


def hint_deliveries(tx: Transaction, ids: Iterable[int]) -> None:
    """Have the queue told of deliveries."""
    _hint(tx, HintKind.DELIVERY, [(subject, DELIVER) for subject in ids])


def hint_notifications(tx: Transaction, ids: Iterable[int]) -> None:
    """Have the queue told of notifications."""
    _hint(tx, HintKind.NOTIFICATION, [(subject, DELIVER) for subject in ids])


def _hint(tx: Transaction, kind: HintKind, subjects: Iterable[tuple[int, str]]) -> None:
    rows = [
        {"kind": kind, "subject_id": subject, "queue": queue, "created_at": tx.now, "published_at": None}
        for subject, queue in subjects
    ]
    if rows:
        tx.connection.execute(insert(table), rows)


def due_job(now: float | BindParameter[float]) -> ColumnElement[bool]:
    """A job that a worker may take now."""
    paused = is_paused(PauseKind.MODEL, job.c.model)
    return and_(job.c.state == JobState.QUEUED, job.c.next_attempt_at <= now, ~paused)


def due_delivery(now: float | BindParameter[float]) -> ColumnElement[bool]:
    """A delivery that a worker may take now."""
    paused = is_paused(PauseKind.PEER, delivery.c.peer)
    return and_(
        delivery.c.state == DeliveryState.WAITING, delivery.c.next_attempt_at <= now, ~paused, ~held_back()
    )


def held_back() -> ColumnElement[bool]:
    """A delivery that has to let another one go first.

    To one peer, a study's results go in the order of their jobs, so that a result never precedes the one that
    it supersedes; and within a job the root goes after its leaves (IHE AIR), so that no reader follows a
    reference into nothing. A blending goes after the maps, and key images after all other leaves, for what
    they refer to may be refused. What is parked or cancelled holds nobody back, and neither does a rejection
    note, which is about earlier results.
    """
    first = delivery.alias("first")
    return exists().where(
        first.c.study_id == delivery.c.study_id,
        first.c.peer == delivery.c.peer,
        first.c.state.in_(_IN_THE_WAY),
        ~first.c.note,
        or_(
            first.c.job_id < delivery.c.job_id,
            and_(
                first.c.job_id == delivery.c.job_id,
                ~first.c.root,
                or_(delivery.c.root, _refers_to(_role_of(delivery), _role_of(first))),
            ),
        ),
    )


def _role_of(one: FromClause) -> ScalarSelect[str]:
    return select(result.c.role).where(result.c.id == one.c.result_id).correlate(one).scalar_subquery()


def _refers_to(later: ScalarSelect[str], first: ScalarSelect[str]) -> ColumnElement[bool]:
    """Whether leaves of the role `later` refer to those of the role `first`."""
    key_images = and_(later == Role.KEY_IMAGES, first != Role.KEY_IMAGES)
    return or_(key_images, and_(later == Role.BLENDING, first == Role.PARAMETRIC_MAP))


def due_notification(now: float | BindParameter[float]) -> ColumnElement[bool]:
    """A notification that a worker may send now: to one receiver, those about one study, or about one alarm,
    go in their order.
    """
    first = notification.alias("first")
    earlier = exists().where(
        or_(first.c.study_id == notification.c.study_id, first.c.alarm_id == notification.c.alarm_id),
        first.c.receiver == notification.c.receiver,
        first.c.state.in_((NotificationState.WAITING, NotificationState.SENDING)),
        first.c.id < notification.c.id,
    )
    return and_(
        notification.c.state == NotificationState.WAITING, notification.c.next_attempt_at <= now, ~earlier
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


def hint_next_notification(tx: Transaction, row: Row[Any]) -> None:
    """Have the queue told of the notification that waited for this one."""
    if row.alarm_id is not None:
        same = notification.c.alarm_id == row.alarm_id
    elif row.study_id is not None:
        same = notification.c.study_id == row.study_id
    else:
        return  # One that tells of many holds nobody up.
    query = select(notification.c.id).where(
        same,
        notification.c.receiver == row.receiver,
        due_notification(tx.now),
    )
    hint_notifications(tx, tx.connection.execute(query).scalars().all())


@cache
def _unpublished() -> Select[Any]:
    """What `Outbox.unpublished` asks for. Put together once: the relay asks fifty times a second."""
    rank = case((table.c.queue == Priority.STAT, 0), (table.c.queue == DELIVER, 1), else_=2)
    of_job = and_(table.c.kind == HintKind.JOB, table.c.subject_id == job.c.id)
    of_delivery = and_(table.c.kind == HintKind.DELIVERY, table.c.subject_id == delivery.c.id)
    of_notification = and_(table.c.kind == HintKind.NOTIFICATION, table.c.subject_id == notification.c.id)
    now = bindparam("now", type_=Float)
    return (
        select(func.max(table.c.id).label("id"), table.c.kind, table.c.subject_id, table.c.queue)
        .select_from(
            table.outerjoin(job, of_job)
            .outerjoin(delivery, of_delivery)
            .outerjoin(notification, of_notification)
        )
        .where(table.c.published_at.is_(None), or_(due_job(now), due_delivery(now), due_notification(now)))
        .group_by(table.c.kind, table.c.subject_id, table.c.queue)
        .order_by(rank, table.c.subject_id)
        .limit(bindparam("most", type_=Integer))
    )


class Outbox(Database):
    """What the relay reads and ticks off."""

    def unpublished(self, limit: int = 500) -> list[Hint]:
        """What to tell the queue now, in this order: stat jobs, deliveries and notifications, routine jobs;
        the oldest first.

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
