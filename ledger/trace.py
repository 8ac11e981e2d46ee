"""What a settled study leaves behind, with the times of its steps: all of its journey, and no patient.

Times are seconds since 1970-01-01 UTC: by the database's clock, and stages of runs by that of their worker.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ledger.identifiers import JobId, StudyId


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedDelivery:
    """One result to one peer."""

    id: int
    peer: str
    role: str
    state: str
    attempts: int
    created_at: float
    sent_at: float | None
    committed_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedJob:
    """One job. `began` and `seconds` are those of its last measured run, by stage."""

    id: JobId
    rule: str
    model: str
    lane: str
    state: str
    outcome: str | None
    attempts: int
    created_at: float
    started_at: float | None
    finished_at: float | None
    device: str = ""
    began: Mapping[str, float] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    deliveries: tuple[TracedDelivery, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedStudy:
    """One closing of one study, and all that came of it."""

    id: StudyId
    generation: int
    calling: str
    opened_at: float
    last_arrival_at: float
    closed_at: float
    closed_as: str
    instances: int
    series: int
    jobs: tuple[TracedJob, ...] = ()
