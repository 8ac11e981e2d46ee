"""Arrivals that wait together are made durable together.

A folder sync and a ledger commit cost about the same for one instance as for a hundred. So associations hand
their arrivals to one thread, which takes all that wait, syncs each folder once, commits once, and only then
wakes them. Nobody waits for company: while one group is being committed the next one gathers by itself.

Half of the time of a transaction is spent on saying what shall be in it. That half may as well pass while the
disk syncs the file: an arrival is announced, and its file is placed meanwhile. The commit itself waits for
every file of the group to be synced under its name, and for the folders; the order of what becomes durable is
the same as if one had been done after the other (docs/decisions/0006).
"""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import structlog

from dicom_node.spool import Spool
from ledger.errors import SiteError, WetreadError
from ledger.failpoint import failpoint
from ledger.store.ledger import Ledger
from ledger.study import Arrival, Receipt

log = structlog.get_logger()

_GROUP_MAXIMUM = 256  # One transaction stays short enough for the other writers of the ledger.


# Up to here a file is synced while the ledger is told of it.
_OVERLAP_BYTES = 8 << 20


class _FileLost(Exception):
    """A file of the group did not get its name: its own thread knows why."""


class NodeStopping(SiteError):
    """The node is being stopped: nothing new is recorded."""


class Announced:
    """An arrival that the committing thread knows of, whose file may still be on its way to its name."""

    def __init__(self, arrival: Arrival) -> None:
        self.arrival = arrival
        self.file: Future[None] = Future()
        self._receipt: Future[Receipt] = Future()

    def recorded(self) -> Receipt:
        """Wait until the file of the arrival and its row are durable.

        Raises the `SiteError` of whatever failed. The row may then exist or not: nothing was promised, and
        the same instance sent again settles it.
        """
        return self._receipt.result()

    def succeed(self, receipt: Receipt) -> None:
        """Wake whoever waits."""
        self._receipt.set_result(receipt)

    def fail(self, error: BaseException) -> None:
        """Wake whoever waits with `error`."""
        self._receipt.set_exception(error)


class GroupCommit:
    """The one thread that syncs folders and commits arrivals."""

    def __init__(self, spool: Spool, ledger: Ledger) -> None:
        self._spool, self._ledger = spool, ledger
        self._queue: queue.SimpleQueue[Announced | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="group-commit", daemon=True)
        self.groups = 0  #: commits so far
        self.arrivals = 0  #: arrivals so far

    def start(self) -> None:
        """Begin to commit."""
        self._thread.start()

    def stop(self, *, within_s: float) -> None:
        """Commit what waits, then end. Whoever comes later is told `NodeStopping`."""
        with self._lock:
            self._stopped = True
            self._queue.put(None)
        self._thread.join(within_s)

    def record(self, arrival: Arrival, place: Callable[[], object]) -> Receipt:
        """Have `place` give the arrival's file its synced name, and record it: durable when this returns.

        Raises what `place` raises, or what `Announced.recorded` says.
        """
        # A large file syncs for seconds, during which the ledger must be free for everybody else.
        if arrival.size > _OVERLAP_BYTES:
            place()
            announced = self._announce(arrival)
            announced.file.set_result(None)
            return announced.recorded()
        announced = self._announce(arrival)
        try:
            place()
        except BaseException as error:
            announced.file.set_exception(error)
            raise
        announced.file.set_result(None)
        return announced.recorded()

    def _announce(self, arrival: Arrival) -> Announced:
        announced = Announced(arrival)
        with self._lock:
            if self._stopped:
                raise NodeStopping("the node is stopping: the instance has to be sent again")
            self._queue.put(announced)
        return announced

    def _run(self) -> None:
        while True:
            group, more = self._gather()
            while group:
                group = self._commit(group)
            if not more:
                return

    def _gather(self) -> tuple[list[Announced], bool]:
        """All that wait now, at least one; and whether there can be more."""
        group: list[Announced] = []
        try:
            while len(group) < _GROUP_MAXIMUM:
                announced = self._queue.get(block=not group)
                if announced is None:
                    return group, False
                group.append(announced)
        except queue.Empty:
            pass
        return group, True

    def _commit(self, group: list[Announced]) -> list[Announced]:
        """Commit the group. Where a file came to nothing, nothing is committed; the others are returned."""
        arrivals = [announced.arrival for announced in group]
        try:
            receipts = self._ledger.record_arrivals(arrivals, before_commit=lambda: self._make_durable(group))
            failpoint("arrivals_committed")
        except _FileLost:
            return [announced for announced in group if announced.file.exception() is None]
        except Exception as error:  # The outermost loop of this thread: whoever waits must hear of it.
            log.warning("arrivals.not_recorded", instances=len(group), because=_said(error))
            for announced in group:
                announced.fail(error)
            return []
        self.groups += 1
        self.arrivals += len(group)
        for announced, receipt in zip(group, receipts, strict=True):
            announced.succeed(receipt)
        return []

    def _make_durable(self, group: list[Announced]) -> None:
        """Return once all files of the group would survive a loss of power under their names."""
        # Each waits for a sync of its own thread, which ends, well or badly, as soon as the disk answers.
        failed = [announced.file.exception() for announced in group]
        if any(failed):
            raise _FileLost
        self._spool.sync_folders(str(Path(announced.arrival.path).parent) for announced in group)
        failpoint("folder_synced")


def _said(error: Exception) -> str:
    # Others' messages may quote a value of a data set; ours never do.
    return str(error) if isinstance(error, WetreadError) else type(error).__name__
