"""What is going on at this moment, and what a search for studies gives: values for whoever watches."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ledger.delivery import DeliveryRecord, DeliveryState
from ledger.identifiers import StudyId
from ledger.job import JobRecord, JobState
from ledger.study import RoutingNote, StudyRecord, StudyState


@dataclass(frozen=True, slots=True, kw_only=True)
class Present:
    """Counts of what is unfinished, and what happened in the last hour. Every state is a key.

    What is finished is not counted here: there may be millions of it, and nobody waits for it.
    """

    open_studies: int
    jobs: Mapping[JobState, int]  #: queued, running, parked
    deliveries: Mapping[DeliveryState, int]  #: waiting, sending, sent, parked
    quarantined: int
    oldest_queued_s: float | None  #: age of the oldest job that is queued, due and not paused; None: none is
    oldest_waiting_s: float | None  #: age of the oldest delivery that waits; None: none does


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """How often something happened in each of several equal spans of time, the oldest span first."""

    bucket_s: float
    closed: tuple[int, ...]  #: studies judged complete
    finished: tuple[int, ...]  #: jobs that ended with a result
    committed: tuple[int, ...]  #: results that are proven to be at their destination
    failed: tuple[int, ...]  #: jobs and deliveries that were parked


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What somebody looks for. Everything that is given has to hold; `text` may be in any of UID, accession
    number and, with `patients`, patient id, patient name and description. Dates are DICOM's (yyyymmdd), both
    ends included.
    """

    text: str = ""
    patients: bool = False  #: who asks may see patients: a hit by a name tells the name
    accession: str = ""  #: the whole of it
    since: str = ""
    until: str = ""
    calling: str = ""  #: AE title of who sent it
    modality: str = ""
    state: StudyState | None = None
    jobs: JobState | None = None  #: one of its jobs stands there
    before: tuple[float, StudyId] | None = None  #: the next page: later than (arrival, id) is left out
    limit: int = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A study with what is needed to say where it stands."""

    study: StudyRecord
    modalities: tuple[str, ...]
    jobs: tuple[JobRecord, ...]  #: the oldest first
    deliveries: tuple[DeliveryRecord, ...]
    notes: tuple[RoutingNote, ...] = field(default=())  #: only where it has no job
