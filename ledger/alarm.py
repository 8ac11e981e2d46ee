"""
An alarm: something out of order that an operator should look at, from when it was seen until it is gone.

What is out of order is decided where all of it can be seen (`console.alarms`); the ledger keeps since when,
and what became of it, so that whoever is told of it is told once, and hears when it is over.
"""

from dataclasses import dataclass
from typing import Literal, get_args

#: What can be out of order. Whoever is told chooses among these words.
AlarmKind = Literal[
    "node down",
    "node silent",
    "disk full",
    "disk",
    "ledger disk full",
    "queue",
    "job parked",
    "delivery parked",
    "delivery declined",
    "peer away",
    "notification parked",
    "receiver away",
    "sender refused",
    "incomplete",
    "quarantine",
    "paused",
    "model",
    "model broken",
    "unsigned model",
    "certificate",
    "certificate expired",
    "certificate expires",
    "ledger away",
    "rules",
    "paused",
]
ALARM_KINDS: tuple[str, ...] = get_args(AlarmKind)


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenAlarm:
    """One that is seen now. `about` tells those of one kind apart: a peer, a receiver, a job."""

    kind: str
    about: str
    words: str
    urgent: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmRecord:
    """One as the ledger keeps it. Times are seconds since 1970-01-01 UTC by the database's clock."""

    id: int
    kind: str
    about: str
    words: str  #: as they were last
    urgent: bool
    opened_at: float
    seen_at: float
    cleared_at: float | None
