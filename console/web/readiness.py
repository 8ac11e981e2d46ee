"""
Whether the site can do its work now: what a load balancer or an orchestrator asks every few seconds.

Alive says only that this process answers. Ready says that everything a study needs is there: the ledger, a
node, a worker, room in the spool, and the queue. Each is asked on its own and within a short time, so that
one that hangs hides none of the others; who asks again at once is given the answer of a moment ago.
"""

import os
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field

import redis

from console.serving import FRESH_S
from console.settings import Site
from dicom_node.spool import occupant
from ledger.errors import WetreadError
from ledger.store.ledger import Ledger

PATIENCE_S = 3.0  # Orchestrators give up after a few seconds; an answer that comes later is none.
FRESH_FOR_S = 2.0  # Strangers may ask; they do not make us ask everybody else as often.


class NotReady(WetreadError):
    """Something that studies need is not there; the message says what."""


@dataclass(frozen=True, slots=True)
class Readiness:
    """What was found. Each of `parts` is "ok", "not looked at", or a sentence that says what is wrong."""

    parts: Mapping[str, str]

    @property
    def ready(self) -> bool:
        """Whether nothing is wrong."""
        return all(words in (OK, ELSEWHERE) for words in self.parts.values())


OK = "ok"
ELSEWHERE = "not looked at: it is not within sight of the console"

Look = Callable[[], str]


@dataclass(slots=True)
class Lookout:
    """Looks at each part, at most every `FRESH_FOR_S`."""

    site: Site
    ledger: Ledger
    patience_s: float = PATIENCE_S
    fresh_for_s: float = FRESH_FOR_S
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _last: tuple[float, Readiness] | None = None

    def look(self) -> Readiness:
        """How things are, or were a moment ago."""
        with self._lock:  # Who comes while another looks gets what that one finds.
            if self._last is not None and time.monotonic() - self._last[0] < self.fresh_for_s:
                return self._last[1]
            found = Readiness(self._parts())
            self._last = (time.monotonic(), found)
            return found

    def _parts(self) -> dict[str, str]:
        looks: dict[str, Look] = {
            "ledger": self._ledger,
            "node": self._node,
            "worker": self._worker,
            "spool": self._spool,
            "queue": self._queue,
        }
        # Not as a context: that would wait for what hangs. Its thread ends when its own timeouts do.
        pool = ThreadPoolExecutor(len(looks), thread_name_prefix="readiness")
        try:
            asked = {name: pool.submit(_told, look) for name, look in looks.items()}
            wait(asked.values(), timeout=self.patience_s)
            late = f"no answer within {self.patience_s:g} s"
            return {name: one.result() if one.done() else late for name, one in asked.items()}
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _ledger(self) -> str:
        self.ledger.ping()
        return OK

    def _node(self) -> str:
        try:
            held = occupant(self.site.spool.path)
        except OSError:
            return ELSEWHERE
        if held is None:
            raise NotReady("no node receives into the spool: start `wetread serve`")
        return OK

    def _worker(self) -> str:
        if not self.ledger.workers(fresh_s=FRESH_S):
            raise NotReady(f"no worker was seen in the last {FRESH_S:g} s")
        return OK

    def _spool(self) -> str:
        spool = self.site.spool
        try:
            disk = os.statvfs(spool.path)
        except FileNotFoundError:
            return ELSEWHERE
        except OSError as error:
            raise NotReady(f"the spool cannot be looked at: {error.strerror}") from error
        free = disk.f_bavail * disk.f_frsize
        used = 100.0 * (1 - disk.f_bavail / max(1, disk.f_blocks))
        if used >= spool.hard_percent or free < spool.reserve_bytes:
            raise NotReady(f"the disk of the spool is too full to receive anything ({used:.0f} % used)")
        if disk.f_flag & os.ST_RDONLY or not os.access(spool.path, os.W_OK | os.X_OK):
            raise NotReady("the spool cannot be written into")
        return OK

    def _queue(self) -> str:
        if self.site.queue is None:
            return ELSEWHERE
        url = self.site.queue.url.replace("redis+socket://", "unix://", 1)
        patience = {"socket_timeout": self.patience_s / 2, "socket_connect_timeout": self.patience_s / 2}
        try:
            with redis.Redis.from_url(url, **patience) as queue:
                queue.ping()
        except (redis.RedisError, OSError, ValueError) as error:
            # Its own words may hold its URL, and that a password.
            raise NotReady(f"the queue does not answer ({type(error).__name__})") from None
        return OK


def _told(look: Look) -> str:
    try:
        return look()
    except WetreadError as error:
        return str(error)
