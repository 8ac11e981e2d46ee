"""
One lease, renewed while the work goes on, and given up the moment it can no longer be trusted.

The ledger refuses a write with an old epoch, so a late worker can change nothing there. This file makes it
stop early as well: a worker that could not renew, or that was stopped (SIGSTOP, a paused virtual machine) for
longer than `silence_s`, rings the bell that ends its work, and writes nothing more.
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable
from enum import StrEnum
from types import TracebackType
from typing import Self

import structlog

from ledger.errors import SiteError
from ledger.job import LeaseLost

log = structlog.get_logger()

#: Includes the time that the machine was suspended, where the system can tell (Linux).
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def steady_s() -> float:
    """Seconds on a clock that nobody sets."""
    return time.clock_gettime(_CLOCK)


class Interruption(StrEnum):
    """Why a run is broken off from outside."""

    LEASE_LOST = "lease_lost"  #: Another worker has the job by now, or nobody should.
    STOPPING = "stopping"  #: This worker is being stopped.
    INPUT_BROKEN = "input_broken"  #: The files are not what arrived.
    BYSTANDER = "bystander"  #: The child had to be killed for another run's sake.
    SOMEBODY_IDLE = "somebody_idle"  #: It only waits here, and another worker has nothing to do.


class Bell:
    """Rings once, from any thread, and can be waited for together with a pipe."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # A signal handler may ring while its own thread is ringing.
        self._read, self._write = os.pipe()
        self.rung: Interruption | None = None

    def ring(self, why: Interruption) -> None:
        """Only the first ring counts."""
        with self._lock:
            if self.rung is None and self._write >= 0:
                self.rung = why
                os.write(self._write, b"!")

    def fileno(self) -> int:
        """Readable once it has rung."""
        return self._read

    def close(self) -> None:
        with self._lock:
            for descriptor in (self._read, self._write):
                with contextlib.suppress(OSError):
                    os.close(descriptor)
            self._read = self._write = -1


class Lease:
    """Renews a claim from a thread until the `with` block ends; calls `lost` once if it cannot."""

    def __init__(
        self,
        renew: Callable[[], bool],
        *,
        what: str,
        heartbeat_s: float,
        silence_s: float,
        lost: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = steady_s,
    ) -> None:
        self._renew = renew
        self._what = what
        self._heartbeat_s = heartbeat_s
        self._silence_s = silence_s
        self._lost = lost
        self._clock = clock
        self._renewed_at = clock()
        self.ledger_away = False  #: The latest renewal failed because the ledger was away.
        self._over = threading.Event()
        self._gone = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"lease of {what}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    @property
    def held(self) -> bool:
        """Whether this worker may still believe that the work is its own."""
        return not self._gone.is_set() and self._clock() - self._renewed_at <= self._silence_s

    def confirm(self) -> None:
        """Goes before every side effect. Raises `LeaseLost` unless `held`."""
        if not self.held:
            raise LeaseLost(
                f"the lease of {self._what} was not renewed for {self._clock() - self._renewed_at:.0f} s"
            )

    def _beat(self) -> None:
        pause_s = self._heartbeat_s
        while not self._over.wait(pause_s):
            # Before the question: the lease runs from when the ledger answered, which is later.
            asked_at = self._clock()
            try:
                still_ours = self.held and self._renew()
            except SiteError as away:
                log.warning("lease.not_renewed", what=self._what, because=str(away))
                self.ledger_away = True
                pause_s = min(self._heartbeat_s, 1.0)
                if self.held:
                    continue
                still_ours = False
            if not still_ours:
                self._gone.set()
                log.warning(
                    "lease.lost", what=self._what, silent_s=round(self._clock() - self._renewed_at, 1)
                )
                self._lost()
                return
            self._renewed_at, self.ledger_away = asked_at, False
            pause_s = self._heartbeat_s
