"""
One model, one input set, one attempt after another until it has an answer.

Rule 1: every change of a job's state is a row of `TRANSITIONS`. If it is not in the
table it cannot happen, and `docs/states.md` is drawn from the table.

Rule 2: this module knows nothing of Celery. A broker may lose or repeat a message;
the job does not notice, because only the ledger moves it.

Rule 3: whoever works on a job holds a `Claim`, and every write carries its epoch. A worker that
slept through its lease holds an old epoch and can change nothing (a fencing token: Kleppmann 2016).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from ledger.completeness import Shortfall
from ledger.errors import WetreadError
from ledger.identifiers import Digest, InstanceId, JobId, SeriesId, StudyId, Uid
from ledger.result import ResultRecord


class JobState(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"  #: Recorded; no worker holds it.
    RUNNING = "running"  #: One worker holds its lease.
    DONE = "done"  #: Its results are spooled and its deliveries opened.
    PARKED = "parked"  #: Will not run again unless an operator asks.
    CANCELLED = "cancelled"  #: Withdrawn by an operator, or overtaken by a later one.


class JobEvent(StrEnum):
    """What can happen to a job."""

    CLAIMED = "claimed"  #: A worker took the lease; an attempt is counted before the work begins.
    FINISHED = "finished"  #: Results were spooled and recorded.
    CRASHED = "crashed"  #: The child that computed died or was killed; the job returns at once.
    LEASE_EXPIRED = "lease_expired"  #: The worker fell silent; the sweeper took the lease back.
    RELEASED = "released"  #: The worker is being stopped and gives the job back; the attempt does not count.
    GAVE_UP = "gave_up"  #: Attempts used up, or the error would repeat itself.
    RESUBMITTED = "resubmitted"  #: An operator asked for it again; attempts start from zero.
    WITHDRAWN = "withdrawn"  #: An operator cancelled it.
    SUPERSEDED = "superseded"  #: A late instance made a newer job for the same rule and series.


TRANSITIONS: dict[tuple[JobState, JobEvent], JobState] = {
    (JobState.QUEUED, JobEvent.CLAIMED): JobState.RUNNING,
    (JobState.QUEUED, JobEvent.GAVE_UP): JobState.PARKED,
    (JobState.QUEUED, JobEvent.WITHDRAWN): JobState.CANCELLED,
    (JobState.QUEUED, JobEvent.SUPERSEDED): JobState.CANCELLED,
    (JobState.RUNNING, JobEvent.FINISHED): JobState.DONE,
    (JobState.RUNNING, JobEvent.CRASHED): JobState.QUEUED,
    (JobState.RUNNING, JobEvent.LEASE_EXPIRED): JobState.QUEUED,
    (JobState.RUNNING, JobEvent.RELEASED): JobState.QUEUED,
    (JobState.RUNNING, JobEvent.GAVE_UP): JobState.PARKED,
    (JobState.RUNNING, JobEvent.WITHDRAWN): JobState.CANCELLED,
    (JobState.RUNNING, JobEvent.SUPERSEDED): JobState.CANCELLED,
    (JobState.PARKED, JobEvent.RESUBMITTED): JobState.QUEUED,
    (JobState.PARKED, JobEvent.WITHDRAWN): JobState.CANCELLED,
    (JobState.PARKED, JobEvent.SUPERSEDED): JobState.CANCELLED,
    (JobState.CANCELLED, JobEvent.RESUBMITTED): JobState.QUEUED,
}


class Priority(StrEnum):
    """Which of the two queues a job waits in. The order within a queue is decided in SQL."""

    STAT = "stat"
    ROUTINE = "routine"


class Outcome(StrEnum):
    """What a finished job had to say."""

    FOUND = "found"  #: There are findings.
    NOTHING = "nothing"  #: The model ran, and found nothing.
    REFUSED = "refused"  #: The images are not for this model, or failed quality control; the report says why.


class LeaseLost(WetreadError):
    """Another worker holds the job, or nobody should: this worker's answer does not count."""


#: The name of an input that is an earlier examination, before its number: 1 is the latest of them.
EARLIER = "earlier "


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingJob:
    """A job that waits for earlier examinations, and has not been begun."""

    id: JobId
    study_id: StudyId
    rule: str
    subject: str
    key: Digest
    shadow: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """A job to be opened in the transaction that closes its study.

    `key` is a digest of rule, model, settings and input set: the same key is the same job and opens no
    second one.
    """

    key: Digest
    series_id: SeriesId  #: of several: the one whose grid findings have
    rule: str
    model: str  #: `name` or `name@version`, as the rule says
    settings: Mapping[str, object] = field(default_factory=dict)
    priority: Priority = Priority.ROUTINE
    destinations: tuple[str, ...] = ()  #: names of peers; none makes it a shadow run
    inputs: tuple[InstanceId, ...] = ()
    names: tuple[str, ...] = ()  #: which input of the model each of `inputs` fills; none: it has but one
    subject: str = ""  #: what it is about, within rule and study; empty: its series
    earlier_asked: int | None = None  #: earlier examinations that its rule asks for, at most
    wait_s: float = 0.0  #: it is not begun before: what it would like to have is still being fetched
    shadow: bool = False  #: a version that runs beside the active one: `ledger.channel`
    again: int = 0  #: runs of the same on the same before it, whose results it replaces


@dataclass(frozen=True, slots=True, kw_only=True)
class JobInput:
    """One file that a job works on."""

    sop_instance: Uid
    path: str  #: relative to the spool
    digest: Digest
    name: str = ""  #: which input of the model it fills; empty: the only one


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The time-limited right to work on a job. Every later write carries `epoch`."""

    job_id: JobId
    epoch: int
    owner: str
    lease_s: float
    attempt: int  #: 1 for the first
    study_id: StudyId
    study: Uid
    series: Uid
    rule: str
    model: str
    settings: Mapping[str, object]
    priority: Priority
    destinations: tuple[str, ...]
    inputs: tuple[JobInput, ...]
    predecessor: ResultRecord | None = None  #: The report that this job's report replaces.
    #: The same by destination: each may have another one, in the form that it is sent, or none.
    predecessors: Mapping[str, ResultRecord] = field(default_factory=dict)
    earlier_asked: int | None = None  #: Earlier examinations that its rule asks for, at most.
    shortfall: Shortfall | None = None  #: What was missing of the study when it was closed.
    again: int = 0  #: Runs of the same on the same before it: its results have other UIDs than theirs.


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """A job as the ledger knows it."""

    id: JobId
    study_id: StudyId
    study: Uid
    series: Uid
    rule: str
    model: str
    priority: Priority
    destinations: tuple[str, ...]
    state: JobState
    attempts: int
    epoch: int
    because: str  #: Why it stands where it stands; empty where the state says it all.
    outcome: Outcome | None
    created_at: float
    started_at: float | None
    finished_at: float | None
    next_attempt_at: float
    lease_owner: str | None
    lease_until: float | None
    timings: Mapping[str, float]  #: seconds by stage: queue, load, wait, open, model, encode, check
    supersedes: JobId | None
    shadow: bool = False  #: its model is a version that runs beside the active one, to be compared
    again: int = 0  #: runs of the same on the same before it
