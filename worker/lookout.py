"""
What a worker tells others, and what it looks out for: while it computes urgent jobs, and workers with nothing
to do; while an operator holds it still the end of that. Nothing here moves a job by itself, so a ledger that
is away only makes it late.
"""

import threading
from collections.abc import Callable
from dataclasses import replace

import structlog

from ledger.errors import SiteError
from ledger.store.ledger import Ledger
from ledger.usage import WorkerReport
from worker.attempt import Child
from worker.claim import steady_s
from worker.gauges import GaugeReader
from worker.seats import Seats
from worker.settings import WorkerSettings

log = structlog.get_logger()

_PROGRESS_S = 1.0  # How far jobs are is told no more often than this.


class Lookout:
    """A thread beside the bench."""

    def __init__(
        self,
        ledger: Ledger,
        settings: WorkerSettings,
        child: Child,
        seats: Seats,
        *,
        owner: str,
        take_urgent: Callable[[], None],
        gauges: GaugeReader | None = None,
    ) -> None:
        """`take_urgent` takes an urgent job, if there is one, and returns at once."""
        self._ledger = ledger
        self._settings = settings
        self._child = child
        self._seats = seats
        self._owner = owner
        self._take_urgent = take_urgent
        self._gauges = gauges or GaugeReader()
        self._over = threading.Event()
        self._told: WorkerReport | None = None
        self._told_at = 0.0
        self._looked_at = 0.0
        self._thread = threading.Thread(target=self._watch, name="lookout", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, within_s: float) -> None:
        """Say goodbye, so that nobody leaves a job to this worker."""
        self._over.set()
        self._gauges.stop()
        self._seats.changed.set()
        self._thread.join(within_s)

    def _watch(self) -> None:
        while not self._over.is_set():
            still = self._seats.idle and not self._seats.paused
            pause_s = self._settings.heartbeat_s if still else self._settings.look_s
            self._seats.changed.wait(pause_s)
            self._seats.changed.clear()
            if self._over.is_set():
                break
            try:
                self._tell()
                self._look()
            except SiteError as away:
                log.debug("lookout.blind", because=str(away))
                self._over.wait(self._settings.look_s)
        try:
            self._ledger.forget_worker(self._owner)
        except SiteError as away:
            log.debug("lookout.blind", because=str(away))

    def _tell(self) -> None:
        """Say what this worker keeps and whether it is idle, where that is news or was said long ago; and now
        and then how far it is with what it has in hand.
        """
        ready, keeping, seats = self._child.ready, self._seats.keeping, self._seats
        report = WorkerReport(
            owner=self._owner,
            device=ready.device if ready else "",
            models=keeping.models if ready else (),
            idle=seats.idle and ready is not None and not seats.paused,
            budget_bytes=ready.budget_bytes if ready else 0,
            taken_bytes=keeping.taken_bytes if ready else 0,
            works=seats.works,
            gauges=self._gauges.of(ready.gpu) if ready else None,
        )
        told_s = steady_s() - self._told_at
        progress = bool(report.works) and report != self._told and told_s >= _PROGRESS_S
        if _is_news(report, self._told) or progress or told_s >= self._settings.heartbeat_s:
            self._ledger.report_worker(report)
            self._told, self._told_at = report, steady_s()

    def _look(self) -> None:
        """While a job waits here: is there an urgent one, or somebody who could have this one now?"""
        if steady_s() - self._looked_at < self._settings.look_s:
            return
        self._looked_at = steady_s()
        if self._seats.paused and not self._ledger.worker_paused(self._owner):
            log.info("worker.resumed", owner=self._owner)
            self._seats.pause(paused=False)
        if self._seats.idle:
            self._seats.others_idle = False
            return
        idle = self._ledger.others_idle(self._owner, fresh_s=self._settings.lease_s)
        stirred, self._seats.others_idle = self._seats.others_idle and not idle, idle
        if stirred:
            self._seats.wake()
        if idle and (waiting := self._seats.waiting) is not None:
            self._child.let_go(waiting.bell)
        elif self._seats.lets_urgent_pass:
            self._take_urgent()


def _is_news(report: WorkerReport, told: WorkerReport | None) -> bool:
    """Whether others would do something else if they knew; how far a job is changes nothing for them."""
    if told is None:
        return True
    return replace(report, works=(), gauges=None) != replace(told, works=(), gauges=None)
