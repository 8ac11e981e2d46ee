"""How often somebody may try: so many at once, and then one in a while, for each address and each name.

Kept in memory: what has to survive a restart is the lock of an account, which is in the ledger.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

_KNOWN_MAX = 10_000  # Keys; the one that was used longest ago goes first.


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `burst` tries at once, and one every `every_s` seconds in the long run."""

    burst: int
    every_s: float


@dataclass(slots=True)
class Throttle:
    """Counts tries by key (generic cell rate algorithm: one number for each key)."""

    rate: Rate
    clock: Callable[[], float] = time.monotonic
    _due: "OrderedDict[str, float]" = field(default_factory=OrderedDict, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def wait_s(self, key: str) -> float:
        """Count one try of `key`. 0: it may; else it may in so many seconds, and this one is not counted."""
        with self._lock:
            now = self.clock()
            due = max(self._due.pop(key, now), now)
            wait = due - now - (self.rate.burst - 1) * self.rate.every_s
            self._due[key] = due if wait > 0 else due + self.rate.every_s
            while len(self._due) > _KNOWN_MAX:
                self._due.popitem(last=False)
            return max(0.0, wait)

    def forget(self, key: str) -> None:
        """It was right: nothing is held against it."""
        with self._lock:
            self._due.pop(key, None)
