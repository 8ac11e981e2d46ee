"""Which connections may stay, decided before any of them costs a thread.

A TCP connection costs its owner nothing and us two threads, so how many there may be is counted in all, for
each address, and for those that have not become an association yet. Where a count is full, the connection
that has waited longest without asking for an association gives way: a crowd of silent connections keeps
nobody out, whoever they come from.

How often an address may connect is counted as well, but a connection that becomes an association is given
back: many a scanner opens one for every image, and that is honest work.

Addresses that the site has named for its [[peer]] entries are bound by the total alone, and a part of each
count is kept for them.
"""

import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass

from dicom_node.peers import PeerSettings
from dicom_node.settings import NodeSettings

_BUCKETS_MAXIMUM = 4096  # addresses whose rate is remembered

#: An address, its port and that of ours: what tells one connection from another.
Remote = tuple[str, *tuple[int, ...]]
#: Is told the reason in a word, in a sentence, and the address.
Told = Callable[[str, str, str], None]


@dataclass(slots=True)
class _Visitor:
    """A connection that was let in."""

    known: bool
    since: float  # monotonic
    # A second descriptor of the connection, to end it by; gone once it is an association.
    handle: socket.socket | None


@dataclass(slots=True)
class _Bucket:
    """How often an address may connect now: `left` times, and more with every second."""

    left: float
    at: float  # monotonic


class Turnstile:
    """Counts who is inside. Every method may be called by any thread, and none waits for a peer."""

    def __init__(
        self,
        limits: NodeSettings,
        peers: Iterable[PeerSettings] = (),
        *,
        told: Told = lambda reason, because, address: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`told` hears of every refusal."""
        self._limits, self._told, self._clock = limits, told, clock
        # An archive that only reports back about commitments is as known as a scanner.
        self._peers = tuple(peer for peer in peers if peer.receive or peer.vouches)
        self._keeps = any(peer.has_addresses for peer in self._peers)
        self._lock = threading.Lock()
        self._inside: dict[Remote, _Visitor] = {}
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def enter(self, connection: socket.socket, remote: Remote) -> bool:
        """Whether the connection may stay; if so it counts until `leave`."""
        address, now = remote[0], self._clock()
        known = any(peer.is_at(address) for peer in self._peers)
        with self._lock:
            refused = None if known else self._too_often(address, now)
            while refused is None and (full := self._full(address, known=known)):
                if not self._make_room(full, address, now, known=known):
                    refused = full
            if refused is None:
                self._inside[remote] = _Visitor(known, now, connection.dup())
                return True
        self._told(refused, self._sentence(refused, address), address)
        return False

    def associated(self, remote: Remote) -> None:
        """The connection has become an association."""
        with self._lock:
            visitor = self._inside.get(remote)
            if visitor is None or visitor.handle is None:
                return
            visitor.handle.close()
            visitor.handle = None
            if bucket := self._buckets.get(remote[0]):
                bucket.left += 1.0

    def leave(self, remote: Remote) -> None:
        """The connection is over."""
        with self._lock:
            visitor = self._inside.pop(remote, None)
            if visitor is not None and visitor.handle is not None:
                visitor.handle.close()

    def inside(self) -> int:
        """How many connections there are."""
        with self._lock:
            return len(self._inside)

    def _too_often(self, address: str, now: float) -> str | None:
        limits = self._limits
        bucket = self._buckets.pop(address, None) or _Bucket(limits.connections_burst, now)
        self._buckets[address] = bucket  # the latest at the end
        if len(self._buckets) > _BUCKETS_MAXIMUM:
            self._buckets.popitem(last=False)
        bucket.left = min(
            limits.connections_burst, bucket.left + (now - bucket.at) * limits.connections_per_s
        )
        bucket.at = now
        if bucket.left < 1.0:
            return "rate"
        bucket.left -= 1.0
        return None

    def _full(self, address: str, *, known: bool) -> str | None:
        """Which count does not allow one more from `address`."""
        limits = self._limits
        if len(self._inside) >= self._share(limits.maximum_connections, known=known):
            return "total"
        waiting = sum(visitor.handle is not None for visitor in self._inside.values())
        if waiting >= self._share(limits.connections_unassociated, known=known):
            return "unassociated"
        here = sum(remote[0] == address for remote in self._inside)
        if not known and here >= limits.connections_per_address:
            return "address"
        return None

    def _share(self, limit: int, *, known: bool) -> int:
        return kept_for_known(limit, self._limits, known=known) if self._keeps else limit

    def _make_room(self, full: str, address: str, now: float, *, known: bool) -> bool:
        """Have the connection give way that has waited longest; False where none has waited long enough."""
        waiting = [
            (visitor.since, remote, visitor)
            for remote, visitor in self._inside.items()
            if visitor.handle is not None
            and now - visitor.since >= self._limits.give_way_s
            and (full != "address" or remote[0] == address)
            and (known or not visitor.known)
        ]
        if not waiting:
            return False
        _, remote, visitor = min(waiting, key=lambda each: each[0])
        del self._inside[remote]
        assert visitor.handle is not None
        with suppress(OSError):  # Its own thread notices, and ends.
            visitor.handle.shutdown(socket.SHUT_RDWR)
        visitor.handle.close()
        self._told("gave way", self._sentence("gave way", remote[0]), remote[0])
        return True

    def _sentence(self, reason: str, address: str) -> str:
        limits = self._limits
        match reason:
            case "total":
                return f"there are {limits.maximum_connections} connections, which is the limit"
            case "unassociated":
                return (
                    f"{limits.connections_unassociated} connections have not asked for an association yet, "
                    "which is the limit"
                )
            case "address":
                return (
                    f"{limits.connections_per_address} connections come from {address}, which is the limit: "
                    "an address that stands for several machines can be named in the addresses of a [[peer]]"
                )
            case "rate":
                return (
                    f"{address} connects more than {limits.connections_per_s:g} times a second and asks for "
                    "no association"
                )
            case _:
                return (
                    f"a connection from {address} had asked for no association after "
                    f"{limits.give_way_s:g} s, and its place was needed"
                )


def kept_for_known(limit: int, limits: NodeSettings, *, known: bool) -> int:
    """How much of `limit` is there for whom the site knows, or for anybody else."""
    return limit if known else max(1, limit - int(limit * limits.reserved_percent / 100))
