"""
Celery's pool of threads, with a bell.

With `worker_disable_prefetch` the consumer fetches the next message only once a thread is free, but nothing
tells it so: it looks again when its poll ends, up to a second later (Celery 5.7). Here a thread that becomes
free wakes it.
"""

from typing import Any

from celery.concurrency.thread import TaskPool


class WakingThreads(TaskPool):  # type: ignore[misc]  # Celery has no types.
    """Threads that say when they are free."""

    _hub: Any = None

    def register_with_event_loop(self, loop: Any) -> None:
        """Called by Celery once its event loop is there, and again after every lost connection."""
        self._hub = loop

    def on_apply(self, *args: Any, **kwargs: Any) -> Any:
        """Start a task; when it has ended, and Celery has noted that, have the event loop turn once."""
        result = super().on_apply(*args, **kwargs)
        result.f.add_done_callback(self._wake)
        return result

    def _wake(self, _: object) -> None:
        if self._hub is not None:
            # From another thread, call_soon interrupts the poll. What it calls does not matter.
            self._hub.call_soon(_nothing)


def _nothing() -> None:
    pass
