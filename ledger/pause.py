"""
What an operator holds still for a while: a model, a worker, or a destination.

Rule 1: nothing is broken off. What is running runs to its end, and what is being sent is sent.
Rule 2: what waits keeps its place, and no attempt is counted.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class PauseKind(StrEnum):
    """What is held still."""

    MODEL = "model"  #: Its jobs stay queued.
    WORKER = "worker"  #: It finishes what it has, and takes no other job.
    PEER = "peer"  #: What goes there waits here.


#: Between the name of a paused thing and what else its full name may have: a version, a process.
SEPARATORS = {PauseKind.MODEL: "@", PauseKind.WORKER: "/", PauseKind.PEER: ""}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """Who holds what still, since when, and why."""

    kind: PauseKind
    name: str  #: a model with or without its version; a worker or its host; a peer
    since: float
    by: str
    because: str = ""

    def covers(self, kind: PauseKind, name: str) -> bool:
        """Whether it holds `name`: of a model all versions, where it names none; of a host all workers."""
        if kind is not self.kind:
            return False
        between = SEPARATORS[kind]
        return name == self.name or bool(between and name.startswith(self.name + between))

    @property
    def said(self) -> str:
        """Who and why, to be put behind "is paused"; the time is the reader's to write."""
        return f"by {self.by}" + (f": {self.because.rstrip('.')}" if self.because else "")


def pause_of(pauses: Iterable[Pause], kind: PauseKind, name: str) -> Pause | None:
    """The pause that holds `name`; None where it goes on."""
    return next((one for one in pauses if one.covers(kind, name)), None)
