"""
Celery's pool of threads, with a gate and a bell.

With `worker_disable_prefetch` the consumer fetches the next message only while fewer are in hand than the
pool says that it can hold. Here the bench says that: a hint that is fetched for nothing is one that an idle
worker cannot see. And nothing tells the consumer that there is room again: it looks when its poll ends, up to
a second later (Celery 5.7). Here it is woken.
"""

from collections.abc import Callable
from typing import Any, Protocol

from celery.concurrency.thread import TaskPool


class Gate(Protocol):
    """Who decides whether another message may be fetched."""

    entered: int  #: messages in hand

    @property
    def open(self) -> bool:
        """Whether there is room for one more."""

    wake: Callable[[], None]  #: set by the pool: called, from any thread, when there may be room again


class WakingThreads(TaskPool):  # type: ignore[misc]  # Celery has no types.
    """Threads that say when they are free; with a gate, that may be all that they decide."""

    gate: Gate | None = None
    _hub: Any = None

    @property
    def num_processes(self) -> int:
        """How many messages may be in hand now."""
        if self.gate is None:
            return int(self.limit)
        return min(int(self.limit), self.gate.entered + self.gate.open)

    def register_with_event_loop(self, loop: Any) -> None:
        """Called by Celery once its event loop is there, and again after every lost connection."""
        self._hub = loop
        if self.gate is not None:
            self.gate.wake = lambda: self._wake(None)

    def on_apply(self, *args: Any, **kwargs: Any) -> Any:
        """Start a task; when it has ended, and Celery has noted that, have the event loop turn once."""
        result = super().on_apply(*args, **kwargs)
        result.f.add_done_callback(self._wake)
        return result

    def _wake(self, _: object) -> None:
        if self._hub is not None:
            # From another thread, call_soon interrupts the poll. What it calls does not matter.
            self._hub.call_soon(_nothing)


def gated(gate: Gate) -> type[WakingThreads]:
    """A pool whose consumer asks `gate` before it fetches."""
    return type("GatedThreads", (WakingThreads,), {"gate": gate})


def _nothing() -> None:
    pass
