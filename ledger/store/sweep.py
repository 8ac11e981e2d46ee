"""
The sweep: what no message brings, a look at the tables does.

Any process may sweep at any time, also two at once: every step asks for a state and changes it in one
transaction, so the second finds nothing left to do.
"""

from typing import Any

from sqlalchemy import ColumnElement, Table, delete, exists, literal, or_, select

from ledger.delivery import DeliveryEvent, DeliveryState
from ledger.hint import HintKind, SweepReport
from ledger.identifiers import DeliveryId, JobId
from ledger.job import JobEvent, JobState
from ledger.notification import Fault, NotificationEvent, NotificationState
from ledger.schema import delivery, job, notification, outbox
from ledger.store.database import Database, Transaction
from ledger.store.moves import DELIVERY, JOB, NOTIFICATION, locked, move
from ledger.store.outbox import (
    due_delivery,
    due_job,
    due_notification,
    hint_deliveries,
    hint_jobs,
    hint_notifications,
)
from ledger.store.stand_ins import give_up

_OPEN_JOB = (JobState.QUEUED,)
_OPEN_DELIVERY = (DeliveryState.WAITING,)
_OPEN_NOTIFICATION = (NotificationState.WAITING,)


class Sweep(Database):
    """Taking back leases, and telling the queue again."""

    def sweep(self, *, republish_after_s: float, attempts_max: int, crash_backoff_s: float) -> SweepReport:
        """Take back expired leases, hint at what nobody took, forget old hints.

        A job whose lease ran out is queued again after `crash_backoff_s` seconds, or parked if it has used
        `attempts_max` attempts. What is due and was last hinted at more than `republish_after_s` seconds ago,
        or never, is hinted at again.
        """
        with self.write() as tx:
            expired, parked = _expired_jobs(tx, attempts_max, crash_backoff_s)
            deliveries = _expired_deliveries(tx)
            notifications = _expired_notifications(tx)
        with self.write() as tx:
            hinted = _hint_again(tx, republish_after_s)
            forgotten = _forget(tx, republish_after_s)
        return SweepReport(
            expired_jobs=tuple(expired),
            parked_jobs=tuple(parked),
            expired_deliveries=tuple(deliveries),
            expired_notifications=tuple(notifications),
            hinted=hinted,
            forgotten=forgotten,
        )


def _expired_jobs(tx: Transaction, attempts_max: int, backoff_s: float) -> tuple[list[JobId], list[JobId]]:
    expired: list[JobId] = []
    parked: list[JobId] = []
    lapsed = (job.c.state == JobState.RUNNING) & (job.c.lease_until < tx.now)
    for row in locked(tx, JOB, lapsed, skip=True):
        because = f"{row.lease_owner} fell silent in attempt {row.attempts} of {attempts_max}"
        detail = {"owner": row.lease_owner, "attempt": row.attempts, "epoch": row.epoch}
        if row.attempts >= attempts_max:
            give_up(tx, row, Fault.UNKNOWN, because=because, detail=detail)
            parked.append(JobId(row.id))
            continue
        due = tx.now + backoff_s
        move(tx, JOB, row, JobEvent.LEASE_EXPIRED, because=because, detail=detail, next_attempt_at=due)
        hint_jobs(tx, [(row.id, row.priority)])
        expired.append(JobId(row.id))
    return expired, parked


def _expired_deliveries(tx: Transaction) -> list[DeliveryId]:
    expired: list[DeliveryId] = []
    lapsed = (delivery.c.state == DeliveryState.SENDING) & (delivery.c.lease_until < tx.now)
    for row in locked(tx, DELIVERY, lapsed, skip=True):
        because = f"{row.lease_owner} fell silent while sending to {row.peer}"
        move(
            tx,
            DELIVERY,
            row,
            DeliveryEvent.LEASE_EXPIRED,
            because=because,
            next_attempt_at=tx.now,
            in_doubt=True,  # Nobody knows how far it got.
        )
        hint_deliveries(tx, [row.id])
        expired.append(DeliveryId(row.id))
    return expired


def _expired_notifications(tx: Transaction) -> list[int]:
    expired: list[int] = []
    lapsed = notification.c.state == NotificationState.SENDING
    lapsed &= notification.c.lease_until < tx.now
    for row in locked(tx, NOTIFICATION, lapsed, skip=True):
        because = f"{row.lease_owner} fell silent while sending to {row.receiver}"
        move(tx, NOTIFICATION, row, NotificationEvent.LEASE_EXPIRED, because=because, next_attempt_at=tx.now)
        hint_notifications(tx, [row.id])
        expired.append(row.id)
    return expired


def _hint_again(tx: Transaction, republish_after_s: float) -> int:
    """Hint at what is due and was not hinted at lately; how many."""

    def lately(kind: HintKind, subject: ColumnElement[Any]) -> ColumnElement[bool]:
        young = or_(outbox.c.published_at.is_(None), outbox.c.published_at > tx.now - republish_after_s)
        return exists().where(outbox.c.kind == kind, outbox.c.subject_id == subject, young)

    query = select(job.c.id, job.c.priority).where(due_job(tx.now), ~lately(HintKind.JOB, job.c.id))
    jobs = [(row.id, row.priority) for row in tx.connection.execute(query.order_by(job.c.id))]
    owed = select(delivery.c.id).where(due_delivery(tx.now), ~lately(HintKind.DELIVERY, delivery.c.id))
    deliveries = list(tx.connection.execute(owed.order_by(delivery.c.id)).scalars())
    untold = select(notification.c.id).where(
        due_notification(tx.now), ~lately(HintKind.NOTIFICATION, notification.c.id)
    )
    notifications = list(tx.connection.execute(untold.order_by(notification.c.id)).scalars())
    hint_jobs(tx, jobs)
    hint_deliveries(tx, deliveries)
    hint_notifications(tx, notifications)
    return len(jobs) + len(deliveries) + len(notifications)


def _forget(tx: Transaction, republish_after_s: float) -> int:
    """Delete hints that were given long ago, and those whose subject is no longer to be done; how many."""

    def over(kind: HintKind, table: Table, states: tuple[str, ...]) -> ColumnElement[bool]:
        alive = exists(literal(1)).where(table.c.id == outbox.c.subject_id, table.c.state.in_(states))
        return (outbox.c.kind == kind) & ~alive

    served = outbox.c.published_at <= tx.now - republish_after_s
    moot = over(HintKind.JOB, job, _OPEN_JOB) | over(HintKind.DELIVERY, delivery, _OPEN_DELIVERY)
    moot |= over(HintKind.NOTIFICATION, notification, _OPEN_NOTIFICATION)
    return tx.connection.execute(delete(outbox).where(served | moot)).rowcount
