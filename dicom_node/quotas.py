"""How much one caller may send: counted for each AE title, and off unless the site says otherwise.

A scanner that runs wild, or a migration that somebody started at the wrong destination, fills the spool and
keeps everybody else's studies waiting. A quota answers with "come again later" (0xA700), so nothing is lost:
the sender keeps what it has and tries again.

What counts per minute and per hour lies in memory: a node that is started again begins to count anew.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from dicom_node.limits import Quota
from dicom_node.peers import PeerSettings, calling_as
from ledger.errors import SiteError
from ledger.identifiers import AETitle
from ledger.store.ledger import Ledger

_MINUTE_S, _HOUR_S = 60.0, 3600.0
_LOOK_S = 1.0  # How long one look at the ledger for open studies is believed,
_WEIGH_S = 30.0  # and one at the bytes that a caller has here.
_CALLERS_MAXIMUM = 1024  # whose counts are remembered: anybody can make up AE titles


class OverQuota(SiteError):
    """A caller has sent what it may for now: its [quota] says how much."""


class _Window:
    """How much came within the last `span_s`, to a sixtieth of it."""

    def __init__(self, span_s: float) -> None:
        self._span_s = span_s
        self._parts: deque[tuple[int, int]] = deque()  # number of the sixtieth, how much
        self._sum = 0

    def add(self, amount: int, now: float) -> None:
        self._clear(now)
        part = int(now * 60 / self._span_s)
        if self._parts and self._parts[-1][0] == part:
            self._parts[-1] = (part, self._parts[-1][1] + amount)
        else:
            self._parts.append((part, amount))
        self._sum += amount

    def total(self, now: float) -> int:
        self._clear(now)
        return self._sum

    def _clear(self, now: float) -> None:
        oldest = int(now * 60 / self._span_s) - 60
        while self._parts and self._parts[0][0] <= oldest:
            self._sum -= self._parts.popleft()[1]


@dataclass(slots=True)
class _Caller:
    """What one AE title has sent lately."""

    instances: _Window = field(default_factory=lambda: _Window(_MINUTE_S))
    bytes: _Window = field(default_factory=lambda: _Window(_HOUR_S))
    held: int = 0  # bytes here, by the ledger
    weighed_at: float = float("-inf")


class Quotas:
    """Counts what each caller sends. Every method may be called by any thread."""

    def __init__(
        self,
        quota: Quota,
        peers: Iterable[PeerSettings],
        ledger: Ledger,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._quota, self._peers, self._ledger, self._clock = quota, tuple(peers), ledger, clock
        self._lock = threading.Lock()
        self._callers: dict[str, _Caller] = {}
        self._open: dict[str, int] = {}
        self._looked_at = float("-inf")

    def of(self, calling: str, address: str) -> Quota:
        """The quota of whoever calls itself `calling` and calls from `address`."""
        peer = calling_as(self._peers, calling, address)
        return self._quota if peer is None else peer.quota.over(self._quota)

    def check_association(self, calling: AETitle, address: str) -> str | None:
        """Why `calling` has to come again later; None where it has not."""
        quota, name = self.of(str(calling), address), str(calling)
        if not quota.open_studies:
            return None
        with self._lock:
            due = self._clock() - self._looked_at >= _LOOK_S
            if due:
                self._looked_at = self._clock()
        if due:
            try:
                self._open = self._ledger.open_by_caller()
            except SiteError:
                return None  # What cannot be recorded is not acknowledged either: that is another's business.
        count = self._open.get(name, 0)
        if count < quota.open_studies:
            return None
        return (
            f"{count} studies of {name} are not complete yet, and {quota.open_studies} is its limit "
            "([quota] open_studies): it may come again when some are"
        )

    def check_instance(self, calling: AETitle, address: str) -> None:
        """Count one more instance of `calling`. Raises `OverQuota` where it is one too many."""
        name, now = str(calling), self._clock()
        quota = self.of(name, address)
        if not (quota.instances_per_minute or quota.bytes_per_hour or quota.spool_bytes):
            return
        with self._lock:
            caller = self._caller(name)
            sent, received = caller.instances.total(now), caller.bytes.total(now)
            weigh = bool(quota.spool_bytes) and now - caller.weighed_at >= _WEIGH_S
            if weigh:
                caller.weighed_at = now
        if quota.instances_per_minute and sent >= quota.instances_per_minute:
            raise OverQuota(
                f"{name} has sent {sent} instances within a minute, and {quota.instances_per_minute} is its "
                "limit ([quota] instances_per_minute)"
            )
        if quota.bytes_per_hour and received >= quota.bytes_per_hour:
            raise OverQuota(
                f"{name} has sent {received} bytes within an hour, and {quota.bytes_per_hour} is its limit "
                "([quota] bytes_per_hour)"
            )
        if weigh:
            held = self._ledger.bytes_held_for(name)
            with self._lock:
                caller.held = held
        if quota.spool_bytes and caller.held >= quota.spool_bytes:
            raise OverQuota(
                f"{caller.held} bytes of {name} are here, and {quota.spool_bytes} is its limit "
                "([quota] spool_bytes): [retention] decides when they go"
            )
        with self._lock:
            caller.instances.add(1, now)

    def received(self, calling: AETitle, size: int) -> None:
        """`size` bytes of an instance came in from `calling`, whatever becomes of them."""
        with self._lock:
            caller = self._callers.get(str(calling))
            if caller is not None:
                caller.bytes.add(size, self._clock())
                caller.held += size

    def _caller(self, name: str) -> _Caller:
        if name not in self._callers and len(self._callers) >= _CALLERS_MAXIMUM:
            del self._callers[next(iter(self._callers))]
        return self._callers.setdefault(name, _Caller())
