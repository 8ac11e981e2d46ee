"""Connections that do nothing are let go: one client with a slow network, or none at all, holds a place of
the `connections` that there are, and uvicorn has no limit for it.
"""

import asyncio
import time
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol


def patient_for(stall_s: float) -> type[H11Protocol]:
    """A protocol for uvicorn whose peers may be silent for `stall_s` seconds."""
    return type("PatientH11", (_Patient,), {"stall_s": stall_s})


class _Patient(H11Protocol):
    """HTTP/1.1 with an end of patience: for a request's head, within a body, and for taking an answer."""

    stall_s: float
    _watch: asyncio.TimerHandle | None = None
    _waiting_since = _heard_at = 0.0
    _blocked_since: float | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._waiting_since = self._heard_at = time.monotonic()
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

    def _look(self) -> None:
        now = time.monotonic()
        cycle: Any = self.cycle
        if cycle is None or cycle.response_complete:
            since: float | None = self._waiting_since
        elif self._blocked_since is not None:
            since = self._blocked_since
        else:
            since = self._heard_at if cycle.more_body and not self.flow.read_paused else None
        if since is not None and now - since > self.stall_s:
            # Not close(): that would wait until the peer has taken what is still to be sent.
            self.transport.abort()
            return
        self._watch = self.loop.call_later(max(0.05, self.stall_s / 8), self._look)
