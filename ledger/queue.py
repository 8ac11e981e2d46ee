"""The queue as people look at it: what waits for a worker, and in which order."""

from dataclasses import dataclass

from ledger.job import JobRecord
from ledger.study import StudyRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedJob:
    """A job that waits."""

    job: JobRecord
    study: StudyRecord
    place: float  #: within its lane; the smallest goes first
    arranged: bool  #: Operators decided its place: workers take it in this order, whatever they keep loaded.
    due: bool  #: A worker may take it now, unless it is paused.
