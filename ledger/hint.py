"""A hint is a word to the queue that there is something to do. Losing or repeating one changes nothing."""

from dataclasses import dataclass
from enum import StrEnum

from ledger.identifiers import DeliveryId, JobId


class HintKind(StrEnum):
    """What the hint is about."""

    JOB = "job"
    DELIVERY = "delivery"
    NOTIFICATION = "notification"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hint:
    """One row of the outbox. `queue` is stat, routine or deliver."""

    id: int
    kind: HintKind
    subject_id: int  #: of the job, the delivery or the notification
    queue: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepReport:
    """What one sweep found to do. Doing it again at once finds nothing."""

    expired_jobs: tuple[JobId, ...] = ()  #: Their worker fell silent; they are queued again.
    parked_jobs: tuple[JobId, ...] = ()  #: Their worker fell silent on the last attempt.
    expired_deliveries: tuple[DeliveryId, ...] = ()  #: Their worker fell silent; they wait again.
    expired_notifications: tuple[int, ...] = ()  #: The same.
    hinted: int = 0  #: what nobody took although the queue was told long ago, or never
    forgotten: int = 0  #: rows of the outbox that have served

    @property
    def found_anything(self) -> bool:
        """Whether there is something worth a line in the log."""
        expired = self.expired_jobs or self.expired_deliveries or self.expired_notifications
        return bool(expired or self.parked_jobs or self.hinted)
