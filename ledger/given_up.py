"""A job that was given up: what its destinations have to hear. Silence would look like "not processed"."""

from collections.abc import Mapping
from dataclasses import dataclass

from ledger.identifiers import JobId, StudyId
from ledger.job import JobInput
from ledger.notification import Fault


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenUp:
    """One giving up of one job, of which nobody has been told yet."""

    id: int
    study_id: StudyId
    job_id: JobId
    job_epoch: int
    rule: str
    model: str  #: as the rule names it
    settings: Mapping[str, object]
    destinations: tuple[str, ...]
    inputs: tuple[JobInput, ...]
    fault: Fault
    because: str
    at: float
    attempts: int
