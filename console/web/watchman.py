"""What an operator should look at, found out beside the requests: some of it takes a second.

Two rounds: what the ledger tells changes from one moment to the next; certificates, models and the node's own
answer are asked for less often.
"""

import threading
import time

import structlog

from console.alarms import Alarm, urgent_first
from console.settings import Site
from console.status import ledger_alarms, site_alarms
from ledger.errors import WetreadError
from ledger.store.ledger import Ledger

log = structlog.get_logger()

_QUICK_S = 2.0
_SLOW_S = 30.0


class Watchman:
    """Looks in a thread of its own, from `start` to `stop`."""

    def __init__(self, site: Site, ledger: Ledger) -> None:
        self._site, self._ledger = site, ledger
        self._stopping = threading.Event()
        self._looked = threading.Event()
        self._quick: tuple[Alarm, ...] = ()
        self._slow: tuple[Alarm, ...] = ()
        self._thread = threading.Thread(target=self._run, name="watchman", daemon=True)

    @property
    def alarms(self) -> tuple[Alarm, ...]:
        """As found last, the most urgent first."""
        return tuple(urgent_first([*self._slow, *self._quick]))

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """End, after the round that goes on."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(5.0)

    def wait(self, within_s: float) -> bool:
        """Whether the first round is over, after at most `within_s` seconds."""
        return self._looked.wait(within_s)

    def look(self, *, slow: bool) -> None:
        """One round."""
        try:
            if slow:
                self._slow = tuple(site_alarms(self._site, self._ledger))
            self._quick = tuple(ledger_alarms(self._site, self._ledger))
        except WetreadError as error:
            self._quick = (Alarm("ledger away", f"nothing is known of the studies: {error}"),)
        self._looked.set()

    def _run(self) -> None:
        slow_at = float("-inf")
        while not self._stopping.is_set():
            slow = time.monotonic() - slow_at >= _SLOW_S
            if slow:
                slow_at = time.monotonic()
            try:
                self.look(slow=slow)
            except Exception:
                log.exception("watchman.stumbled")
            self._stopping.wait(_QUICK_S)
