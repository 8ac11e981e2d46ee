"""
From the ledger to the queue: what the ledger wants looked at is published, and then marked as published.

A crash between the two publishes a second time, which is a second hint, which is nothing. So two dispatchers
at once are harmless too. While the queue is away the outbox grows, and nothing else happens.
"""

import threading
from collections.abc import Sequence

import structlog
from celery import Celery
from kombu.exceptions import KombuError
from redis.exceptions import RedisError

from ledger.errors import SiteError
from ledger.failpoint import failpoint
from ledger.hint import Hint, HintKind
from ledger.store.ledger import Ledger
from worker.app import DELIVERY_TASK, JOB_TASK, NOTIFICATION_TASK

log = structlog.get_logger()

_AWAY_PAUSE_S = 1.0
_TASKS = {
    HintKind.JOB: (JOB_TASK, "job_id"),
    HintKind.DELIVERY: (DELIVERY_TASK, "delivery_id"),
    HintKind.NOTIFICATION: (NOTIFICATION_TASK, "notification_id"),
}


class Relay:
    """Publishes the outbox of one ledger to one broker."""

    def __init__(self, ledger: Ledger, app: Celery) -> None:
        self._ledger = ledger
        self._app = app
        self._away = ""

    def run(self, stop: threading.Event, *, every_s: float) -> None:
        """Until `stop`. Trouble with either side is logged once, when it begins, and once when it is over."""
        while not stop.is_set():
            try:
                published = self.publish()
            except SiteError as error:
                self._trouble("the ledger", str(error))
            except (KombuError, RedisError, OSError) as error:
                # Not its message: a broker's address may hold a password.
                self._trouble("the queue", type(error).__name__)
            else:
                if published and self._away:
                    log.info("relay.resumed", after=self._away, published=published)
                    self._away = ""
                # A full outbox goes on at once; an empty one is looked at again soon.
                stop.wait(0.0 if published else every_s)
                continue
            stop.wait(_AWAY_PAUSE_S)

    def publish(self) -> int:
        """Publish what waits now. Raises what the ledger and the broker raise; then nothing is marked."""
        hints = self._ledger.unpublished()
        done: list[Hint] = []
        try:
            for hint in hints:
                self._send(hint)
                done.append(hint)
                failpoint("hint_published")
        finally:
            if done:
                self._mark(done)
        return len(done)

    def _send(self, hint: Hint) -> None:
        name, key = _TASKS[hint.kind]
        body = {key: hint.subject_id}
        self._app.send_task(name, kwargs=body, queue=hint.queue, retry=False, ignore_result=True)

    def _mark(self, hints: Sequence[Hint]) -> None:
        self._ledger.mark_published(hints)

    def _trouble(self, what: str, because: str) -> None:
        if self._away != what:
            log.error("relay.waits", what=f"{what} is away", because=because)
            self._away = what
