"""The ledger at a glance."""

from collections.abc import Mapping
from dataclasses import dataclass

from ledger.delivery import DeliveryState
from ledger.identifiers import Digest, StudyId
from ledger.job import JobState
from ledger.study import StudyState


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How much there is of everything. Every state is a key, also where its count is 0."""

    studies: Mapping[StudyState, int]
    instances: int  #: whose files are held; purged ones do not count
    jobs: Mapping[JobState, int]
    deliveries: Mapping[DeliveryState, int]
    oldest_queued_s: float | None  #: age of the oldest job that is queued, due and not paused; None: none is
    oldest_waiting_s: float | None  #: age of the oldest delivery that waits, due or not, but for paused peers
    quarantined: int
    unpublished: int  #: hints that the queue has not been given


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantineRecord:
    """A received file that was set aside. `sop_instance` is as the peer said it, and need not be a UID."""

    id: int
    at: float
    sop_instance: str
    digest: Digest
    path: str  #: relative to the spool
    because: str
    calling: str
    address: str
    study_id: StudyId | None
