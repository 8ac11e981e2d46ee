"""A bad network between two peers: late, in pieces, cut off, or with a hole that bytes fall into.

It stands between a client and a server on loopback and passes bytes on, each direction through faults of its
own, and can be told to break off in any of the ways in which a network does.
"""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from tests.patience import patient


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """What happens to the bytes of one direction. Counts are bytes since the connection began."""

    latency_s: float = 0.0  #: before each piece is passed on
    pieces: int = 65_536  #: the most that is passed on at once
    dribble_s: float = 0.0  #: between two pieces
    hole_after: int | None = None  #: From here on they are taken, and go nowhere.
    reset_after: int | None = None  #: From here on both sides get a reset (SO_LINGER 0).
    close_after: int | None = None  #: From here on this direction is closed in order, and the other goes on.


@dataclass
class BadProxy:
    """A proxy that listens."""

    port: int
    upstream: int
    there: Way  #: from client to server
    back: Way
    passed_there: int = 0
    passed_back: int = 0
    swallowed: threading.Event = field(default_factory=threading.Event)  #: Something fell into the hole.
    broken: threading.Event = field(default_factory=threading.Event)  #: A reset was sent.
    over: threading.Event = field(default_factory=threading.Event)
    _lines: list[socket.socket] = field(default_factory=list)
    _threads: list[threading.Thread] = field(default_factory=list)

    def serve(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection(("127.0.0.1", self.upstream))
                self._lines += [client, server]
                for line in (client, server):
                    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for source, sink, way in ((client, server, self.there), (server, client, self.back)):
                    thread = threading.Thread(
                        target=self._carry, args=(source, sink, way, way is self.there), daemon=True
                    )
                    thread.start()
                    self._threads.append(thread)

    def cut(self) -> None:
        """Reset every connection now, on both sides."""
        for line in self._lines:
            with suppress(OSError):
                line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                # A close alone waits for the thread that reads it.
                line.shutdown(socket.SHUT_RD)
                line.close()
        self.broken.set()

    def close(self) -> None:
        self.over.set()
        for line in self._lines:
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)
            line.close()
        for thread in self._threads:
            thread.join(patient(5))

    def _carry(self, source: socket.socket, sink: socket.socket, way: Way, there: bool) -> None:
        count = 0
        with suppress(OSError):
            while not self.over.is_set():
                data = source.recv(65_536)
                if not data:
                    sink.shutdown(socket.SHUT_WR)
                    return
                for at in range(0, len(data), way.pieces):
                    piece = data[at : at + way.pieces]
                    if way.latency_s or way.dribble_s:
                        self.over.wait(way.latency_s or way.dribble_s)
                    kept = self._pass(sink, piece, count, way)
                    count += len(piece)
                    if there:
                        self.passed_there += kept
                    else:
                        self.passed_back += kept
                    if way.reset_after is not None and count >= way.reset_after:
                        self.cut()
                        return
                    if way.close_after is not None and count >= way.close_after:
                        sink.shutdown(socket.SHUT_WR)
                        return

    def _pass(self, sink: socket.socket, piece: bytes, count: int, way: Way) -> int:
        """Pass on what may pass; how many bytes that were."""
        ends = [limit for limit in (way.hole_after, way.reset_after, way.close_after) if limit is not None]
        kept = piece[: max(0, min(ends) - count)] if ends else piece
        if kept:
            sink.sendall(kept)
        if way.hole_after is not None and len(kept) < len(piece):
            self.swallowed.set()
        return len(kept)


@contextmanager
def bad_proxy(upstream: int, *, there: Way | None = None, back: Way | None = None) -> Iterator[BadProxy]:
    """A proxy to the port `upstream` on loopback, until the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = BadProxy(listener.getsockname()[1], upstream, there or Way(), back or Way())
        acceptor = threading.Thread(target=proxy.serve, args=(listener,), daemon=True)
        acceptor.start()
        try:
            yield proxy
        finally:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            proxy.close()
            acceptor.join(patient(5))
