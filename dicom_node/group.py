"""Arrivals that wait together are made durable together.

A folder sync and a ledger commit cost about the same for one instance as for a hundred. So associations hand
their staged files to one thread, which takes all that wait, syncs each folder once, commits once, and only
then wakes them. Nobody waits for company: while one group is being committed the next one gathers by itself.
"""

import queue
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import NamedTuple

import structlog

from dicom_node.spool import Spool
from ledger.errors import SiteError, WetreadError
from ledger.failpoint import failpoint
from ledger.store.ledger import Ledger
from ledger.study import Arrival, Receipt

log = structlog.get_logger()

_GROUP_MAXIMUM = 256  # One transaction stays short enough for the other writers of the ledger.


class NodeStopping(SiteError):
    """The node is being stopped: nothing new is recorded."""


class _Waiting(NamedTuple):
    arrival: Arrival
    receipt: "Future[Receipt]"


class GroupCommit:
    """The one thread that syncs folders and commits arrivals."""

    def __init__(self, spool: Spool, ledger: Ledger) -> None:
        self._spool, self._ledger = spool, ledger
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
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

    def record(self, arrival: Arrival) -> Receipt:
        """Wait until the file of `arrival` and its row are durable.

        Raises the `SiteError` of whatever failed. The row may then exist or not: nothing was promised, and
        the same instance sent again settles it.
        """
        waiting = _Waiting(arrival, Future())
        with self._lock:
            if self._stopped:
                raise NodeStopping("the node is stopping: the instance has to be sent again")
            self._queue.put(waiting)
        return waiting.receipt.result()

    def _run(self) -> None:
        while True:
            group, more = self._gather()
            if group:
                self._commit(group)
            if not more:
                return

    def _gather(self) -> tuple[list[_Waiting], bool]:
        """All that wait now, at least one; and whether there can be more."""
        group: list[_Waiting] = []
        try:
            while len(group) < _GROUP_MAXIMUM:
                waiting = self._queue.get(block=not group)
                if waiting is None:
                    return group, False
                group.append(waiting)
        except queue.Empty:
            pass
        return group, True

    def _commit(self, group: list[_Waiting]) -> None:
        arrivals = [waiting.arrival for waiting in group]
        try:
            self._spool.sync_folders(str(Path(arrival.path).parent) for arrival in arrivals)
            failpoint("folder_synced")
            receipts = self._ledger.record_arrivals(arrivals)
            failpoint("arrivals_committed")
        except Exception as error:  # The outermost loop of this thread: whoever waits must hear of it.
            log.warning("arrivals.not_recorded", instances=len(group), because=_said(error))
            for waiting in group:
                waiting.receipt.set_exception(error)
            return
        self.groups += 1
        self.arrivals += len(group)
        for waiting, receipt in zip(group, receipts, strict=True):
            waiting.receipt.set_result(receipt)


def _said(error: Exception) -> str:
    # Others' messages may quote a value of a data set; ours never do.
    return str(error) if isinstance(error, WetreadError) else type(error).__name__
