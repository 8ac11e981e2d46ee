"""Notifications: which are owed, opening each once, and sending it until its receiver has it."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Row, and_, exists, false, func, literal, or_, select

from ledger.audit import Actor
from ledger.delivery import DeliveryState
from ledger.identifiers import JobId, StudyId
from ledger.job import JobState
from ledger.notification import (
    Fault,
    NewNotification,
    NotificationClaim,
    NotificationEvent,
    NotificationRecord,
    NotificationState,
    Occasion,
    OwedNotification,
    Wish,
)
from ledger.schema import delivery, given_up, job, notification, result, study
from ledger.store.audit import audit
from ledger.store.database import Transaction
from ledger.store.history import decided
from ledger.store.jobs import overtakes
from ledger.store.messages import Messages, later_told, open_message, run_told
from ledger.store.moves import NOTIFICATION, STUDY, lock, lock_held, locked, move, renew, take_lease
from ledger.store.outbox import due_notification, hint_next_notification, hint_notifications
from ledger.store.rows import result_record
from ledger.store.stand_ins import stands_in
from ledger.study import StudyState
from ledger.transition import IllegalTransition

_ANSWERS = (NotificationEvent.ACCEPTED, NotificationEvent.POSTPONED, NotificationEvent.REFUSED)
_JOB = (job.c.id, job.c.study_id, job.c.rule, job.c.subject, job.c.model)
_UNDER_WAY = (DeliveryState.WAITING, DeliveryState.SENDING, DeliveryState.SENT)


class Notifications(Messages):
    """What a worker and an operator do with a notification."""

    def owed_notifications(self, wishes: Collection[Wish], *, limit: int = 100) -> list[OwedNotification]:
        """What has to be told now, the oldest end of a run first: at most `limit` to each receiver.

        A receiver that is new here hears of what ends from now on.
        """
        known = self._since(wishes)
        owed: list[OwedNotification] = []
        with self.read() as tx:
            for wish in wishes:
                owed += _owed(tx, wish, since=known[wish.receiver], limit=limit)
        return sorted(owed, key=lambda one: (one.at, one.job_id, one.receiver))

    def open_notification(self, owed: OwedNotification, new: NewNotification) -> int | None:
        """Record the message and have it sent. None: another process was first, with this or with one that
        makes what this says out of date; nothing was changed.
        """
        with self.write() as tx:
            lock(tx, STUDY, owed.study_id)  # Whoever opens one about this study holds it.
            of = tx.connection.execute(select(job).where(job.c.id == owed.job_id)).one()
            marked = owed.corrects or owed.beside
            if run_told(tx, owed) or _told_before(tx, owed.receiver, of) != marked:
                return None
            values = {
                "study_id": owed.study_id,
                "job_id": owed.job_id,
                "job_epoch": owed.job_epoch,
                "rule": owed.rule,
                "subject": owed.subject,
                "corrects": owed.corrects,
            }
            return open_message(tx, owed.receiver, owed.occasion, new, **values)

    def claim_notification(
        self, notification_id: int, *, owner: str, lease_s: float
    ) -> NotificationClaim | None:
        """Take the lease of a notification for `lease_s` seconds and count an attempt.

        None: it does not wait, is not yet due, is not there, or has to let an earlier one go first.
        """
        with self.write() as tx:
            due = (notification.c.id == notification_id) & due_notification(tx.now)
            rows = locked(tx, NOTIFICATION, due)
            if not rows:
                return None
            (row,) = rows
            attempt, epoch = take_lease(
                tx,
                NOTIFICATION,
                row,
                NotificationEvent.CLAIMED,
                owner=owner,
                lease_s=lease_s,
                because=row.because,  # What the receiver said last stays until it says something else.
                detail={"receiver": row.receiver},
            )
            return NotificationClaim(
                notification_id=row.id,
                epoch=epoch,
                owner=owner,
                attempt=attempt,
                receiver=row.receiver,
                job_id=None if row.job_id is None else JobId(row.job_id),
                control_id=row.control_id,
                body=row.body,
            )

    def renew_notification(self, claim: NotificationClaim, *, lease_s: float) -> bool:
        """Hold the lease for another `lease_s` seconds. False: it is lost."""
        with self.write() as tx:
            return renew(
                tx,
                NOTIFICATION,
                claim.notification_id,
                epoch=claim.epoch,
                owner=claim.owner,
                lease_s=lease_s,
            )

    def record_notification(
        self, claim: NotificationClaim, event: NotificationEvent, *, because: str, retry_in_s: float = 0.0
    ) -> NotificationState:
        """Record the receiver's answer: ACCEPTED, POSTPONED for `retry_in_s` seconds, or REFUSED. The state
        after. Raises `LeaseLost`.
        """
        if event not in _ANSWERS:
            raise IllegalTransition(f"a receiver's answer cannot be {event}")
        with self.write() as tx:
            row = lock_held(tx, NOTIFICATION, claim.notification_id, epoch=claim.epoch, owner=claim.owner)
            values: dict[str, object] = {}
            if event is NotificationEvent.ACCEPTED:
                values["taken_at"] = tx.now
            if event is NotificationEvent.POSTPONED:
                values["next_attempt_at"] = tx.now + retry_in_s
            if event is NotificationEvent.ACCEPTED and _purged(tx, row):
                values["body"] = ""
            detail = {"owner": claim.owner, "attempt": row.attempts, "receiver": row.receiver}
            state = move(tx, NOTIFICATION, row, event, because=because, detail=detail, **values)
            if event is NotificationEvent.POSTPONED:
                hint_notifications(tx, [row.id])
            else:
                hint_next_notification(tx, row)
            return NotificationState(state)

    def cancel_notification(self, notification_id: int, because: str, *, by: Actor) -> None:
        """Withdraw a notification. Raises `IllegalTransition` where it is too late, `NotInLedger`."""
        with self.write() as tx:
            row = lock(tx, NOTIFICATION, notification_id)
            body = "" if _purged(tx, row) else row.body
            event, detail = NotificationEvent.WITHDRAWN, decided(by.name)
            move(tx, NOTIFICATION, row, event, because=because, detail=detail, body=body)
            hint_next_notification(tx, row)
            audit(tx, by, "notification.cancelled", thing_id=notification_id)

    def retry_notification(self, notification_id: int, because: str, *, by: Actor) -> None:
        """Send a parked or cancelled notification after all. Raises `IllegalTransition`, `NotInLedger`."""
        with self.write() as tx:
            row = lock(tx, NOTIFICATION, notification_id)
            if not row.body:
                raise IllegalTransition(
                    f"notification {notification_id} cannot be sent again: what it said was purged"
                )
            if (newer := _told_since(tx, row)) is not None:
                raise IllegalTransition(
                    f"notification {notification_id} cannot be sent again: what it says is out of date since "
                    f"notification {newer} to {row.receiver}"
                )
            event, detail = NotificationEvent.RESUBMITTED, decided(by.name)
            move(tx, NOTIFICATION, row, event, because=because, detail=detail, next_attempt_at=tx.now)
            hint_notifications(tx, [row.id])
            audit(tx, by, "notification.retried", thing_id=notification_id)

    def notifications_of(self, study_id: StudyId) -> list[NotificationRecord]:
        """What was and will be told about a study, the oldest first."""
        query = select(notification).where(notification.c.study_id == study_id)
        with self.read() as tx:
            return [_record(row) for row in tx.connection.execute(query.order_by(notification.c.id))]

    def notifications(
        self, *, states: Collection[NotificationState] | None = None, limit: int = 100
    ) -> list[NotificationRecord]:
        """Notifications in any of `states` (None: in all), the latest first."""
        query = select(notification).order_by(notification.c.id.desc()).limit(limit)
        if states is not None:
            query = query.where(notification.c.state.in_(list(states)))
        with self.read() as tx:
            return [_record(row) for row in tx.connection.execute(query)]


def _purged(tx: Transaction, row: Row[Any]) -> bool:
    """Whether what was said about the study of a notification is kept no longer than it has to be."""
    state = select(study.c.state).where(study.c.id == row.study_id)
    return bool(tx.connection.execute(state).scalar() == StudyState.PURGED)


def _told_since(tx: Transaction, row: Row[Any]) -> int | None:
    """The latest notification to the same receiver that takes the place of this one, if there is one."""
    if row.study_id is None:
        return None
    later = notification.c.id > row.id
    if row.occasion != Occasion.GIVEN_UP:  # Which takes no result's place.
        later &= notification.c.occasion != Occasion.GIVEN_UP
    query = select(func.max(notification.c.id)).where(
        later,
        notification.c.study_id == row.study_id,
        notification.c.receiver == row.receiver,
        notification.c.rule == row.rule,
        notification.c.subject == row.subject,
        notification.c.state != NotificationState.CANCELLED,
    )
    found: int | None = tx.connection.execute(query).scalar()
    return found


def _told_before(tx: Transaction, receiver: str, row: Row[Any]) -> bool:
    """Whether the receiver may have an earlier result of the same rule about the same as the job `row`."""
    query = select(notification.c.id).where(
        notification.c.receiver == receiver,
        notification.c.study_id == row.study_id,
        notification.c.rule == row.rule,
        notification.c.subject == row.subject,
        notification.c.job_id < row.id,
        notification.c.occasion != Occasion.GIVEN_UP,  # Then there was nothing to correct.
        # Nor where it said no, or was never asked.
        notification.c.state != NotificationState.PARKED,
        (notification.c.state != NotificationState.CANCELLED) | (notification.c.attempts > 0),
    )
    return tx.connection.execute(query).first() is not None


def _owed(tx: Transaction, wish: Wish, *, since: float, limit: int) -> Iterator[OwedNotification]:
    rows = [
        *_ended(tx, wish, since=since, limit=limit),
        *(_given_up(tx, wish, since=since, limit=limit) if Occasion.GIVEN_UP in wish.occasions else ()),
    ]
    for row in rows:
        told_before = _told_before(tx, wish.receiver, row)
        report = None
        if row.report_id is not None:
            report = tx.connection.execute(select(result).where(result.c.id == row.report_id)).one()
        yield OwedNotification(
            receiver=wish.receiver,
            study_id=StudyId(row.study_id),
            job_id=JobId(row.id),
            job_epoch=row.ended_epoch,
            rule=row.rule,
            subject=row.subject,
            model=row.model,
            occasion=Occasion(row.occasion),
            at=row.ended_at,
            because=row.because,
            fault=Fault(row.fault) if row.fault else None,
            report=None if report is None else result_record(report),
            corrects=told_before and row.occasion != Occasion.GIVEN_UP,
            beside=told_before and row.occasion == Occasion.GIVEN_UP,
        )


def _ended(tx: Transaction, wish: Wish, *, since: float, limit: int) -> Sequence[Row[Any]]:
    """Jobs that are done, and whose report the archive has, and that of no later job in their place.

    Of other results that an archive refused for good nobody knows when it will have them: they are not waited
    for, or a segmentation that it never takes would keep the findings from everybody.
    """
    mine = _sent_for(wish, job)
    # Of the forms of a report, the one that the archive has.
    report = (
        select(func.max(result.c.id))
        .join(delivery, delivery.c.result_id == result.c.id)
        .where(
            mine,
            delivery.c.root,
            delivery.c.state == DeliveryState.COMMITTED,
            ~stands_in(),
            result.c.purged == false(),  # Else there is nothing left to tell.
        )
        .correlate(job)
        .scalar_subquery()
    )
    query = (
        select(
            *_JOB,
            job.c.because,
            job.c.outcome.label("occasion"),
            job.c.epoch.label("ended_epoch"),
            job.c.finished_at.label("ended_at"),
            literal("").label("fault"),
            report.label("report_id"),
        )
        .where(
            job.c.state == JobState.DONE,
            job.c.finished_at >= since,
            job.c.outcome.in_([str(one) for one in wish.occasions]),
            _wanted(wish),
            ~_told(wish, job.c.epoch),
            report.is_not(None),
            ~exists().where(mine, delivery.c.state.in_(_UNDER_WAY)),
            ~_out_of_date(wish),
        )
        .order_by(job.c.finished_at, job.c.id)
        .limit(limit)
    )
    return tx.connection.execute(query).all()


def _sent_for(wish: Wish, its: FromClause) -> ColumnElement[bool]:
    """The deliveries of a job that matter to the receiver; notes about earlier results do not."""
    mine = (delivery.c.job_id == its.c.id) & ~delivery.c.note
    return mine & (delivery.c.peer == wish.archive) if wish.archive else mine


def _out_of_date(wish: Wish) -> ColumnElement[bool]:
    """Whether a later job took the place of `job`, and the archive has its report or the receiver was told.

    An archive may prove that it has both in the wrong order, or be sent the earlier one again.
    """
    later = job.alias("later")
    there = exists().where(
        overtakes(later),
        later.c.state == JobState.DONE,
        _sent_for(wish, later),
        delivery.c.root,
        delivery.c.state == DeliveryState.COMMITTED,
        result.c.id == delivery.c.result_id,
        ~stands_in(result, later),
    )
    return there | later_told(wish.receiver)


def _given_up(tx: Transaction, wish: Wish, *, since: float, limit: int) -> Sequence[Row[Any]]:
    """Jobs that are parked, once it is decided what their destinations hear of it, and they did."""
    mine = (delivery.c.job_id == job.c.id) & ~delivery.c.note
    query = (
        select(
            *_JOB,
            given_up.c.because,
            literal(str(Occasion.GIVEN_UP)).label("occasion"),
            given_up.c.job_epoch.label("ended_epoch"),
            given_up.c.at.label("ended_at"),
            given_up.c.fault,
            given_up.c.result_id.label("report_id"),
        )
        .join(job, job.c.id == given_up.c.job_id)
        .where(
            given_up.c.settled,
            given_up.c.at >= since,
            # One that an operator asked for again will have another end.
            job.c.state == JobState.PARKED,
            job.c.epoch == given_up.c.job_epoch,
            job.c.destinations != [],  # Not of a rule that looks at studies without telling anybody.
            _wanted(wish),
            ~_told(wish, given_up.c.job_epoch),
            ~exists().where(mine, delivery.c.state.in_(_UNDER_WAY)),
        )
        .order_by(given_up.c.at, given_up.c.id)
        .limit(limit)
    )
    return tx.connection.execute(query).all()


def _wanted(wish: Wish) -> ColumnElement[bool]:
    rules = job.c.rule.in_(wish.rules) if wish.rules else job.c.id.is_not(None)
    if not wish.models:
        return rules
    named = [
        or_(job.c.model == one, job.c.model.startswith(f"{one}@", autoescape=True)) for one in wish.models
    ]
    return and_(rules, or_(*named))


def _told(wish: Wish, epoch: ColumnElement[Any]) -> ColumnElement[bool]:
    return exists().where(
        notification.c.job_id == job.c.id,
        notification.c.receiver == wish.receiver,
        notification.c.job_epoch == epoch,
    )


def _record(row: Row[Any]) -> NotificationRecord:
    return NotificationRecord(
        id=row.id,
        study_id=None if row.study_id is None else StudyId(row.study_id),
        job_id=None if row.job_id is None else JobId(row.job_id),
        receiver=row.receiver,
        occasion=Occasion(row.occasion),
        corrects=row.corrects,
        control_id=row.control_id,
        state=NotificationState(row.state),
        attempts=row.attempts,
        created_at=row.created_at,
        next_attempt_at=row.next_attempt_at,
        because=row.because,
        taken_at=row.taken_at,
    )
