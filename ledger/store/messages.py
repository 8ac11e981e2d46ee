"""
Messages of any kind: who is told of alarms, and how much that is owed to one receiver goes into one message.

Each is opened once, however many processes look for what is owed: whoever opens one holds what it is about.
"""

from collections.abc import Collection, Iterator, Sequence

from sqlalchemy import ColumnElement, exists, func, insert, select

from ledger.notification import (
    AlarmWish,
    NewNotification,
    NotificationEvent,
    NotificationState,
    Occasion,
    OwedAlarm,
    OwedNotification,
    Wish,
)
from ledger.schema import alarm, job, notification, receiver
from ledger.store.alarms import alarm_record
from ledger.store.database import Database, Transaction
from ledger.store.history import note
from ledger.store.jobs import overtakes
from ledger.store.moves import NOTIFICATION, STUDY, lock, move
from ledger.store.outbox import hint_notifications

#: Alarms about a receiver, which it cannot be told of.
_ABOUT_RECEIVERS = ("receiver away", "notification parked")


class Messages(Database):
    """What is told of alarms, and of many things at once."""

    def owed_alarms(self, wishes: Collection[AlarmWish], *, limit: int = 100) -> list[OwedAlarm]:
        """Of which alarms has to be told now, the oldest first: at most `limit` to each receiver.

        Of an alarm that nobody was told of, nobody is told that it is over. A receiver is not told that it
        cannot be told.
        """
        known = self._since(wishes)
        owed: list[OwedAlarm] = []
        with self.read() as tx:
            for wish in wishes:
                owed += _owed_alarms(tx, wish, since=known[wish.receiver], limit=limit)
        return sorted(owed, key=lambda one: (one.at, one.alarm.id, one.receiver))

    def open_alarm(self, owed: OwedAlarm, new: NewNotification) -> int | None:
        """Record the message and have it sent. None: another process was first; nothing was changed."""
        with self.write() as tx:
            return (
                None
                if _alarm_told(tx, owed)
                else open_message(tx, owed.receiver, owed.occasion, new, alarm_id=owed.alarm.id)
            )

    def open_digest(self, owed: Sequence[OwedNotification | OwedAlarm], new: NewNotification) -> int | None:
        """Record one message that tells one receiver of all of `owed`, and have it sent. None: another
        process was first with some of it; nothing was changed.
        """
        receiver = owed[0].receiver
        with self.write() as tx:
            for study_id in sorted({one.study_id for one in owed if isinstance(one, OwedNotification)}):
                lock(tx, STUDY, study_id)
            if any(_alarm_told(tx, one) if isinstance(one, OwedAlarm) else run_told(tx, one) for one in owed):
                return None
            opened = open_message(tx, receiver, Occasion.DIGEST, new)
            for one in owed:
                row = insert(notification).values(_gathered(one, new, opened, tx.now)).returning(notification)
                because = f"told within notification {opened}"
                gathered = tx.connection.execute(row).one()
                move(tx, NOTIFICATION, gathered, NotificationEvent.GATHERED, because=because)
            return opened

    def opened_lately(self, receiver: str, *, within_s: float) -> int:
        """How many messages were opened for a receiver within so many seconds."""
        with self.read() as tx:
            query = select(func.count()).where(
                notification.c.receiver == receiver,
                notification.c.created_at > tx.now - within_s,
                notification.c.state != NotificationState.GATHERED,
            )
            return int(tx.connection.execute(query).scalar_one())

    def _since(self, wishes: Collection[Wish | AlarmWish]) -> dict[str, float]:
        """Since when each receiver is known here."""
        with self.read() as tx:
            known = _known(tx)
        if all(wish.receiver in known for wish in wishes):
            return known
        with self.write() as tx:
            known = _known(tx)
            for wish in wishes:
                if wish.receiver not in known:
                    known[wish.receiver] = tx.now
                    tx.connection.execute(insert(receiver).values(name=wish.receiver, since=tx.now))
        return known


def open_message(
    tx: Transaction, receiver: str, occasion: Occasion, new: NewNotification, **about: object
) -> int:
    """The row of a message that waits, its hint and its history. `about` are the columns that say of what."""
    values = {
        "job_epoch": 0,
        "rule": "",
        "subject": "",
        "corrects": False,
        **about,
        "receiver": receiver,
        "occasion": occasion,
        "control_id": new.control_id,
        "body": new.body,
        "state": NotificationState.WAITING,
        "attempts": 0,
        "epoch": 0,
        "created_at": tx.now,
        "next_attempt_at": tx.now,
        "because": "",
    }
    opened: int = tx.connection.execute(
        insert(notification).values(values).returning(notification.c.id)
    ).scalar_one()
    study_id, job_id = values.get("study_id"), values.get("job_id")
    note(
        tx,
        "notification",
        "opened",
        thing_id=opened,
        study_id=study_id if isinstance(study_id, int) else None,
        job_id=job_id if isinstance(job_id, int) else None,
        after=NotificationState.WAITING,
        because=f"to {receiver}: {occasion}" + (", a correction" if values["corrects"] else ""),
        detail={"control_id": new.control_id},
    )
    hint_notifications(tx, [opened])
    return opened


def _gathered(
    one: OwedNotification | OwedAlarm, new: NewNotification, told_in: int, now: float
) -> dict[str, object]:
    """The row that says of one thing that the message `told_in` tells it."""
    if isinstance(one, OwedAlarm):
        about: dict[str, object] = {"alarm_id": one.alarm.id, "job_epoch": 0, "rule": "", "subject": ""}
        about |= {"study_id": None, "job_id": None, "corrects": False}
    else:
        about = {"alarm_id": None, "job_epoch": one.job_epoch, "rule": one.rule, "subject": one.subject}
        about |= {"study_id": one.study_id, "job_id": one.job_id, "corrects": one.corrects}
    return {
        **about,
        "told_in": told_in,
        "receiver": one.receiver,
        "occasion": one.occasion,
        "control_id": new.control_id,
        "body": "",
        "state": NotificationState.WAITING,
        "attempts": 0,
        "epoch": 0,
        "created_at": now,
        "next_attempt_at": now,
        "because": "",
    }


def run_told(tx: Transaction, owed: OwedNotification) -> bool:
    """Whether the receiver is told of this end of a run already, or of what took its place."""
    same = exists().where(
        notification.c.job_id == job.c.id,
        notification.c.receiver == owed.receiver,
        notification.c.job_epoch == owed.job_epoch,
    )
    query = select(job.c.id).where(job.c.id == owed.job_id, same | later_told(owed.receiver))
    return tx.connection.execute(query).first() is not None


def later_told(receiver: str) -> ColumnElement[bool]:
    """Of a `job`: whether the receiver is told what a later one in its place had to say.

    That the later one was given up takes no result's place.
    """
    later = job.alias("later")
    return exists().where(
        overtakes(later),
        notification.c.job_id == later.c.id,
        notification.c.receiver == receiver,
        notification.c.occasion != Occasion.GIVEN_UP,
    )


def _alarm_told(tx: Transaction, owed: OwedAlarm) -> bool:
    """Whether the receiver is told already; nobody else opens one about this alarm until `tx` ends."""
    tx.connection.execute(select(alarm.c.id).where(alarm.c.id == owed.alarm.id).with_for_update())
    same = select(notification.c.id).where(
        notification.c.alarm_id == owed.alarm.id,
        notification.c.receiver == owed.receiver,
        notification.c.occasion == owed.occasion,
    )
    return tx.connection.execute(same).first() is not None


def _owed_alarms(tx: Transaction, wish: AlarmWish, *, since: float, limit: int) -> Iterator[OwedAlarm]:
    def told(occasion: Occasion) -> ColumnElement[bool]:
        return exists().where(
            notification.c.alarm_id == alarm.c.id,
            notification.c.receiver == wish.receiver,
            notification.c.occasion == occasion,
        )

    itself = (alarm.c.about == wish.receiver) & alarm.c.kind.in_(_ABOUT_RECEIVERS)
    wanted = alarm.c.kind.in_(wish.kinds) & ~itself
    # What came and went meanwhile, nobody has to look at any more.
    begun = select(alarm).where(
        wanted, alarm.c.opened_at >= since, alarm.c.cleared_at.is_(None), ~told(Occasion.ALARM)
    )
    over = select(alarm).where(
        wanted, alarm.c.cleared_at >= since, told(Occasion.ALARM), ~told(Occasion.CLEARED)
    )
    for row in tx.connection.execute(begun.order_by(alarm.c.id).limit(limit)):
        yield OwedAlarm(
            receiver=wish.receiver, alarm=alarm_record(row), occasion=Occasion.ALARM, at=row.opened_at
        )
    for row in tx.connection.execute(over.order_by(alarm.c.id).limit(limit)):
        yield OwedAlarm(
            receiver=wish.receiver, alarm=alarm_record(row), occasion=Occasion.CLEARED, at=row.cleared_at
        )


def _known(tx: Transaction) -> dict[str, float]:
    return {row.name: row.since for row in tx.connection.execute(select(receiver))}
