"""What an operator decides about one job: again, or not at all. Its history keeps every decision."""

from ledger.delivery import DeliveryState
from ledger.errors import WetreadError
from ledger.identifiers import JobId
from ledger.job import JobState
from ledger.store.ledger import Ledger


class NothingToDecide(WetreadError):
    """The job stands where the decision would put it, or nobody has to decide."""


def retry(ledger: Ledger, number: int, because: str) -> str:
    """Open the job again, or its deliveries where the job itself is done. Returns what was done, as a
    sentence.
    """
    job = ledger.job(JobId(number))
    if job.state in (JobState.PARKED, JobState.CANCELLED):
        ledger.retry_job(job.id, because)
        return f"Job {job.id} ({job.model}) is queued again; its attempts start from zero."
    stopped = [
        delivery
        for delivery in ledger.deliveries_of(job.id)
        if delivery.state in (DeliveryState.PARKED, DeliveryState.DECLINED, DeliveryState.CANCELLED)
    ]
    if not stopped:
        raise NothingToDecide(
            f"job {job.id} is {job.state}, and none of its deliveries is parked, declined or cancelled"
        )
    for delivery in stopped:
        ledger.retry_delivery(delivery.id, because)
    peers = ", ".join(sorted({delivery.peer for delivery in stopped}))
    return f"Job {job.id} keeps its results; {_deliveries(len(stopped))} to {peers} will be sent again."


def cancel(ledger: Ledger, number: int, because: str) -> str:
    """Withdraw the job, or what is left to deliver of a job that is done. Returns what was done, as a
    sentence.
    """
    job = ledger.job(JobId(number))
    if job.state in (JobState.QUEUED, JobState.RUNNING, JobState.PARKED):
        ledger.cancel_job(job.id, because)
        return f"Job {job.id} ({job.model}) is cancelled. `wetread retry {job.id}` opens it again."
    settled = (DeliveryState.COMMITTED, DeliveryState.DECLINED, DeliveryState.CANCELLED)
    left = [delivery for delivery in ledger.deliveries_of(job.id) if delivery.state not in settled]
    if not left:
        raise NothingToDecide(f"job {job.id} is {job.state}, and nothing of it is left to deliver")
    for delivery in left:
        ledger.cancel_delivery(delivery.id, because)
    return f"Job {job.id} keeps its results; {_deliveries(len(left))} cancelled."


def _deliveries(count: int) -> str:
    return "1 delivery" if count == 1 else f"{count} deliveries"
