"""What a shadow version said otherwise than the active one: read from both results once, and kept."""

import threading
from collections import OrderedDict
from dataclasses import dataclass

from console.difference import compare_pair
from console.settings import Site
from ledger.identifiers import JobId
from ledger.store.ledger import Ledger
from results.difference import Difference

_KEPT = 500  # Results never change, so neither do their differences.


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two runs on the same images. `difference` is None where the files of one were deleted."""

    active_job: JobId
    shadow_job: JobId
    active: str  #: version: outcome
    shadow: str
    active_s: float  #: seconds in the model
    shadow_s: float
    difference: Difference | None


class Comparisons:
    """Compares pairs of runs for whoever asks from any thread, one asker at a time."""

    def __init__(self, site: Site, ledger: Ledger) -> None:
        self._site, self._ledger = site, ledger
        self._kept: OrderedDict[tuple[JobId, JobId], Pair] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, name: str, limit: int = 20) -> tuple[Pair, ...]:
        """The last studies that the model `name` and a shadow of it have both seen, the latest first."""
        found = []
        with self._lock:
            for active, shadow in self._ledger.shadow_pairs(name, limit):
                key = (active.id, shadow.id)
                pair = self._kept.get(key)
                if pair is None:
                    pair = Pair(
                        active_job=active.id,
                        shadow_job=shadow.id,
                        active=f"{active.model.partition('@')[2]}: {active.outcome}",
                        shadow=f"{shadow.model.partition('@')[2]}: {shadow.outcome}",
                        active_s=active.timings.get("model", 0.0),
                        shadow_s=shadow.timings.get("model", 0.0),
                        difference=compare_pair(self._site, self._ledger, active, shadow),
                    )
                    self._kept[key] = pair
                    while len(self._kept) > _KEPT:
                        self._kept.popitem(last=False)
                found.append(pair)
        return tuple(found)
