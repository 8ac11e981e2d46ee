"""What an operator decides about one job: again, or not at all. Its history and the audit trail keep it."""

from collections.abc import Sequence

from ledger.audit import Actor
from ledger.delivery import DeliveryRecord, DeliveryState
from ledger.errors import WetreadError
from ledger.identifiers import JobId
from ledger.job import JobState
from ledger.notification import NotificationRecord, NotificationState
from ledger.store.ledger import Ledger
from ledger.transition import IllegalTransition


class NothingToDecide(WetreadError):
    """The job stands where the decision would put it, or nobody has to decide."""


def retry(ledger: Ledger, number: int, because: str, *, by: Actor) -> str:
    """Open the job again, or its deliveries and notifications where the job itself is done. Returns what was
    done, as a sentence.
    """
    job = ledger.job(JobId(number))
    if job.state in (JobState.PARKED, JobState.CANCELLED):
        ledger.retry_job(job.id, because, by=by)
        return f"Job {job.id} ({job.model}) is queued again; its attempts start from zero."
    stopped = [
        delivery
        for delivery in ledger.deliveries_of(job.id)
        if delivery.state in (DeliveryState.PARKED, DeliveryState.DECLINED, DeliveryState.CANCELLED)
    ]
    untold = [
        one
        for one in ledger.notifications_of(job.study_id)
        if one.job_id == job.id and one.state in (NotificationState.PARKED, NotificationState.CANCELLED)
    ]
    if not stopped and not untold:
        raise NothingToDecide(
            f"job {job.id} is {job.state}, and none of its deliveries is parked, declined or cancelled"
        )
    stopped, untold = _retried(ledger, stopped, untold, because, by)
    again = []
    if stopped:
        peers = ", ".join(sorted({delivery.peer for delivery in stopped}))
        again.append(f"{_deliveries(len(stopped))} to {peers}")
    if untold:
        receivers = ", ".join(sorted({one.receiver for one in untold}))
        again.append(f"{_notifications(len(untold))} to {receivers}")
    return f"Job {job.id} keeps its results; {' and '.join(again)} will be sent again."


def _retried(
    ledger: Ledger,
    stopped: Sequence[DeliveryRecord],
    untold: Sequence[NotificationRecord],
    because: str,
    by: Actor,
) -> tuple[list[DeliveryRecord], list[NotificationRecord]]:
    """Those of both that go again. Raises `IllegalTransition` where none can, with the first one's reason."""
    deliveries, notifications = [], []
    refused: IllegalTransition | None = None
    for delivery in stopped:
        try:
            ledger.retry_delivery(delivery.id, because, by=by)
            deliveries.append(delivery)
        except IllegalTransition as error:
            refused = refused or error
    for one in untold:
        try:
            ledger.retry_notification(one.id, because, by=by)
            notifications.append(one)
        except IllegalTransition as error:
            refused = refused or error
    if refused is not None and not deliveries and not notifications:
        raise refused
    return deliveries, notifications


def cancel(ledger: Ledger, number: int, because: str, *, by: Actor) -> str:
    """Withdraw the job, or what is left to deliver of a job that is done. Returns what was done, as a
    sentence.
    """
    job = ledger.job(JobId(number))
    if job.state in (JobState.QUEUED, JobState.RUNNING, JobState.PARKED):
        ledger.cancel_job(job.id, because, by=by)
        return f"Job {job.id} ({job.model}) is cancelled. `wetread retry {job.id}` opens it again."
    settled = (DeliveryState.COMMITTED, DeliveryState.DECLINED, DeliveryState.CANCELLED)
    left = [delivery for delivery in ledger.deliveries_of(job.id) if delivery.state not in settled]
    told = (NotificationState.TAKEN, NotificationState.CANCELLED, NotificationState.GATHERED)
    untold = [
        one for one in ledger.notifications_of(job.study_id) if one.job_id == job.id and one.state not in told
    ]
    if not left and not untold:
        raise NothingToDecide(f"job {job.id} is {job.state}, and nothing of it is left to deliver")
    for delivery in left:
        ledger.cancel_delivery(delivery.id, because, by=by)
    for one in untold:
        ledger.cancel_notification(one.id, because, by=by)
    done = [_deliveries(len(left))] if left else []
    done += [_notifications(len(untold))] if untold else []
    return f"Job {job.id} keeps its results; {' and '.join(done)} cancelled."


def _notifications(count: int) -> str:
    return "1 notification" if count == 1 else f"{count} notifications"


def _deliveries(count: int) -> str:
    return "1 delivery" if count == 1 else f"{count} deliveries"
