"""Who may stay: no address takes every place, and connections that do nothing are let go.

One client with a slow network, or none at all, holds a place of the `connections` that there are, and uvicorn
has no limit for it. A connection that never asked for anything has no claim to its place: where all are
taken, the one that has been silent longest gives way, so a crowd of them keeps nobody out.
"""

import asyncio
import socket
import time
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol


class Entrance(socket.socket):
    """A listening socket that keeps no more than `each` connections of one address, but for the `exempt`.

    What is refused is closed before a byte of it is read, a TLS handshake included.
    """

    def __init__(self, listening: socket.socket, *, each: int, exempt: frozenset[str]) -> None:
        """Takes over what `listening` listens at."""
        super().__init__(fileno=listening.detach())
        self._each, self._exempt = each, exempt
        self._inside: list[tuple[str, socket.socket]] = []

    def accept(self) -> tuple[socket.socket, Any]:
        """The next connection. Raises `ConnectionAbortedError` for one too many; asyncio goes on."""
        connection, remote = super().accept()
        # Whoever serves a connection closes this very object: no word of its end can be missed.
        self._inside = [(address, one) for address, one in self._inside if one.fileno() >= 0]
        here = sum(address == remote[0] for address, _ in self._inside)
        if here >= self._each and remote[0] not in self._exempt:
            connection.close()
            raise ConnectionAbortedError(f"{here} connections of this address are open, which is the limit")
        self._inside.append((remote[0], connection))
        return connection, remote


def patient_for(*, head_s: float, stall_s: float) -> type[H11Protocol]:
    """A protocol for uvicorn: peers ask within `head_s` seconds, then may be silent for `stall_s`."""
    return type("PatientH11", (_Patient,), {"head_s": head_s, "stall_s": stall_s})


class _Patient(H11Protocol):
    """HTTP/1.1 with an end of patience: for a request's head, within a body, and for taking an answer."""

    head_s: float
    stall_s: float
    _watch: asyncio.TimerHandle | None = None
    _waiting_since = _heard_at = 0.0
    _blocked_since: float | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._waiting_since = self._heard_at = time.monotonic()
        if self.limit_concurrency is not None and len(self.connections) >= self.limit_concurrency:
            self._have_one_give_way()
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._watch is not None:
            self._watch.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._heard_at = time.monotonic()
        super().data_received(data)

    def on_response_complete(self) -> None:
        self._waiting_since = time.monotonic()
        super().on_response_complete()

    def pause_writing(self) -> None:
        self._blocked_since = time.monotonic()
        super().pause_writing()

    def resume_writing(self) -> None:
        self._blocked_since = None
        super().resume_writing()

    def _have_one_give_way(self) -> None:
        # Not those whose answer is complete: some of it may still be on its way.
        silent = [one for one in self.connections if isinstance(one, _Patient) and one.cycle is None]
        longest = min(silent, key=lambda one: one._waiting_since)
        if longest is not self:
            self.connections.discard(longest)  # uvicorn does it when the loss is told, which may be too late.
            longest.transport.abort()

    def _look(self) -> None:
        now = time.monotonic()
        cycle: Any = self.cycle
        limit_s = self.head_s if cycle is None else self.stall_s
        if cycle is None or cycle.response_complete:
            since: float | None = self._waiting_since
        elif self._blocked_since is not None:
            since = self._blocked_since
        else:
            since = self._heard_at if cycle.more_body and not self.flow.read_paused else None
        if since is not None and now - since > limit_s:
            # Not close(): that would wait until the peer has taken what is still to be sent.
            self.transport.abort()
            return
        self._watch = self.loop.call_later(max(0.05, min(self.head_s, self.stall_s) / 8), self._look)
