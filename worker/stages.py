"""
How long a run may take in each of its stages, and in all: a clock that stands still while it waits its turn.

Pure: it is given the time, and says when patience ends.
"""

import math
from dataclasses import dataclass, field

from worker.exchange import WAITING, Stage

DOING: dict[str, str] = {
    "start": "while it started",
    "open": "while it opened the model",
    "load": "while it read the images",
    "ready": "while it waited for the model",
    "model": "while the model ran",
    "computed": "while its findings waited to be encoded",
    "encode": "while it encoded the results",
    "check": "while it checked the results",
}


@dataclass(slots=True)
class StageClock:
    """The limits of one run. Times are seconds on a clock that nobody sets."""

    stage_s: float  #: of a stage that names no limit
    longest_s: float  #: of all stages together, however often the child says that it enters one
    stage: Stage = "ready"
    limit_s: float = math.inf
    deadline: float = math.inf
    _left_s: float = field(default=math.inf)
    _since: float = 0.0

    def begin(self, now: float) -> None:
        """The child has been given the run, which waits for the lane that reads."""
        self._left_s, self._since = self.longest_s, now
        self.stage, self.deadline, self.limit_s = "ready", math.inf, math.inf

    def enter(self, stage: Stage, limit_s: float | None, now: float) -> None:
        """The run enters `stage`, where it may stay for `limit_s`, or for the site's `stage_s`."""
        if self.stage not in WAITING:
            self._left_s -= now - self._since
        self.stage, self._since = stage, now
        if stage in WAITING:
            self.limit_s, self.deadline = math.inf, math.inf
            return
        self.limit_s = self.stage_s if limit_s is None else limit_s
        if self.limit_s > self._left_s:
            self.deadline, self.limit_s = now + max(0.0, self._left_s), self.longest_s
        else:
            self.deadline = now + self.limit_s

    @property
    def waits(self) -> bool:
        return self.stage in WAITING
