"""
Keeps the books beside the requests: adds up what happened, and since when something is out of order.

Figures would be added up by whoever asks for them as well; but images that are purged before anybody asks
would be missing from them. So it is done whether anybody asks or not.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import structlog

from console.alarms import Alarm
from console.settings import Site
from console.web.metrics import known_now
from ledger.alarm import SeenAlarm
from ledger.errors import WetreadError
from ledger.job import JobState
from ledger.store.ledger import Ledger

log = structlog.get_logger()

ROUND_S = 10.0
_BLIND = ("ledger away",)  # Whoever sees this sees nothing else.
_PAUSE_S = 0.05  # Between two pieces of a long history: the node wants to write as well.


class Clerk:
    """Works in a thread of its own, from `start` to `stop`."""

    def __init__(
        self,
        site: Site,
        ledger: Ledger,
        alarms: Callable[[], Sequence[Alarm] | None],
        *,
        round_s: float = ROUND_S,
    ) -> None:
        """`alarms` are those that are seen at the moment; None: nobody has looked yet."""
        self._ledger, self._alarms, self._round_s = ledger, alarms, round_s
        self._site = site
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="clerk", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, after the piece that is being written."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(5.0)

    def round(self) -> None:
        """Add up everything that is there, and keep the alarms."""
        known = known_now(self._site, self._ledger)
        while not self._stopping.is_set() and not self._ledger.add_up(known):
            self._stopping.wait(_PAUSE_S)
        parked: Counter[str] = Counter()
        for line in self._ledger.standing().jobs:
            if line.state == JobState.PARKED:
                parked[line.of] += line.many
        seen = self._alarms()
        # What nobody could look for is not over.
        if seen is not None and not any(one.kind in _BLIND for one in seen):
            self._ledger.keep_alarms(kept(seen, parked))

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.round()
            except WetreadError as error:
                log.warning("clerk.waits", because=str(error))
            except Exception as error:  # the outermost loop of this thread: the next round comes
                log.error("clerk.stumbled", error=type(error).__name__)  # noqa: TRY400 no values of strangers in the log
            self._stopping.wait(self._round_s)


def kept(seen: Iterable[Alarm], parked: Mapping[str, int]) -> list[SeenAlarm]:
    """The alarms as the ledger keeps them: one of each kind about the same.

    Of parked jobs only the latest are shown one by one, so they come and go as others are parked; what is
    kept is one alarm for each model, from `parked`, the number of such jobs by model.
    """
    found: dict[tuple[str, str], SeenAlarm] = {}
    for one in seen:
        if one.kind != "job parked":
            key = (one.kind, one.about)
            found.setdefault(
                key, SeenAlarm(kind=one.kind, about=one.about, words=one.words, urgent=one.urgent)
            )
    for model, many in sorted(parked.items()):
        jobs = f"1 job of {model} is" if many == 1 else f"{many} jobs of {model} are"
        words = f"{jobs} parked: nothing more happens to them by itself"
        found["job parked", model] = SeenAlarm(kind="job parked", about=model, words=words, urgent=True)
    return list(found.values())
