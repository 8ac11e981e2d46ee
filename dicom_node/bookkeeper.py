"""Carries instances over from the daybook: each becomes a file and a row, and its page is free again.

One thread takes all that wait, names their files, tells the ledger of them in one transaction, syncs the disk
once, and only then gives the pages back. Nobody waits for that but who asks: `settle` returns once all that
was promised is in the ledger, and while a study is `closing` nothing is promised to it from here.

Where the ledger or the disk fails, the pages stay as they are and no page is given out: instances then go the
slow way (`dicom_node.group`), which says no where it has to. It is tried again every second.
"""

import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import structlog

from dicom_node.daybook import Daybook, Page
from dicom_node.disk import Disk
from dicom_node.part import site_error
from dicom_node.quarantine import CONFLICT, set_aside
from dicom_node.spool import Spool
from ledger.errors import SiteError, WetreadError
from ledger.failpoint import failpoint
from ledger.identifiers import StudyId, Uid
from ledger.store.database import LedgerRefused
from ledger.store.ledger import Ledger
from ledger.study import Arrival, ArrivalKind, Receipt

log = structlog.get_logger()

_LARGE_BYTES = 256 << 10  # Half a slice of a CT; below that a sync costs more than the bytes.
_AT_ONCE = 3  # associations that send at the same time
_WITHOUT_ROW = 512  # files; a ledger that does not keep up holds up who sends.
_RECENT_S = 60.0  # No study is purged so soon after an instance of it was recorded.
_GATHER_S = 0.03  # Twenty at once cost little more than one, and nobody waits.
_MANY = 32  # If so many are there, there is no point in waiting for more.
_AGAIN_S = 1.0  # between two tries while the ledger or the disk fails
_TRIES = 3  # of an instance that fails by itself, before it is set aside
_CLOSING_S = 2.0  # Then the study is judged again, in the next round.
_SETTLE_S = 15.0  # A ledger that is locked for longer does not keep a peer from its release.


class Promised:
    """An instance that is durable in the daybook, or as a file: Success is, or is about to be, said."""

    def __init__(
        self, number: int, page: Page | None, arrival: Arrival, told: Callable[[StudyId], None]
    ) -> None:
        self.number, self.arrival, self.told = number, arrival, told
        self.page = page  #: None where it has its file, synced
        self.path = arrival.path  #: of its file, in quarantine where it contradicts what is held
        self.receipt: Receipt | None = None  #: once it has its row
        self.descriptor = -1  #: of its file, until that is synced
        self.tries = 0

    def close(self) -> None:
        """Let go of its file."""
        if self.descriptor >= 0:
            descriptor, self.descriptor = self.descriptor, -1
            os.close(descriptor)


class Bookkeeper:
    """The one thread that carries over."""

    def __init__(self, daybook: Daybook, spool: Spool, ledger: Ledger) -> None:
        """`daybook` has to hold nothing that a node before left there: see `dicom_node.carry_forward`."""
        self._daybook, self._spool, self._ledger = daybook, spool, ledger
        self._disk = Disk(spool.path)
        self._queue: queue.SimpleQueue[Promised | None] = queue.SimpleQueue()
        self._state = threading.Condition()
        self._number = 0
        self._without_row: dict[int, str] = {}  # Study Instance UID of each instance, by number, in order
        self._being_closed: set[str] = set()
        self._recorded_at: dict[str, float] = {}  # of studies, by the clock that never jumps
        self._failing = self._stopping = False
        self._hurry = threading.Event()  # Somebody waits.
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bookkeeper", daemon=True)

    def start(self) -> None:
        """Begin to carry over."""
        self._thread.start()

    def stop(self, *, within_s: float) -> None:
        """Carry over what waits, then end. What is not carried over in time is, at the next start."""
        with self._state:
            self._stopping = True
        self._stop.set()
        self._hurry.set()
        self._queue.put(None)
        self._thread.join(within_s)
        if not self._thread.is_alive():
            self._daybook.close()
            self._disk.close()

    # What associations and the watch call

    def page(self, header: bytes) -> Page | None:
        """A page for an instance that is coming in; None where it has to go the slow way."""
        return None if self._failing or self._stopping else self._daybook.begin(header)

    def promise(self, page: Page, arrival: Arrival, told: Callable[[StudyId], None]) -> bool:
        """Make the instance on `page` durable; False, and nothing is done, where its study is being closed.

        Else the page is no longer the caller's, and `told` is called with the study when there is a row.
        Raises `SpoolFull` or `SpoolBroken`: then nothing is promised.
        """
        with self._state:
            if arrival.study.value in self._being_closed or self._stopping:
                return False
            number = self._number = self._number + 1
            self._without_row[number] = arrival.study.value
        filed = self._goes_into_a_file(page, arrival)
        try:
            if filed:
                self._spool.write_synced(page.blocks, len(page.contents), arrival.path)
                failpoint("file_written")
                page.free()
            else:
                page.write(arrival.address)
        except BaseException:
            self._gone([number])
            self._queue.put(None)
            raise
        self._queue.put(Promised(number, None if filed else page, arrival, told))
        if len(self._without_row) > _MANY:
            self._hurry.set()
        return True

    def _goes_into_a_file(self, page: Page, arrival: Arrival) -> bool:
        """Whether the instance is made durable as its file at once: then its bytes are written only once.

        One sync of a page is faster than one of a new file. But where many bytes come at once it is the disk
        that is slow, and the syncs of several new files cost little more than one. What a crash leaves is a
        file without a row, and gets one at the next start (`dicom_node.reconcile`), unless its study was
        purged: so the study has to be one that got a row just now.
        """
        return (
            len(page.contents) >= _LARGE_BYTES
            and self._daybook.at_once() >= _AT_ONCE
            and len(self._without_row) < _WITHOUT_ROW
            and time.monotonic() - self._recorded_at.get(arrival.study.value, float("-inf")) < _RECENT_S
            and not self._spool.holds(arrival.path)
        )

    def in_use(self) -> int:
        """How many pages are: of instances that are coming in, or not yet carried over."""
        return self._daybook.in_use()

    def settle(self) -> None:
        """Return once all that was promised before is in the ledger, or cannot be at the moment."""
        if not self._without_row:
            return
        self._hurry.set()
        with self._state:
            last = self._number
            self._state.wait_for(
                lambda: self._failing or next(iter(self._without_row), last + 1) > last, _SETTLE_S
            )

    @contextmanager
    def closing(self, study: Uid) -> Iterator[bool]:
        """Around the closing of a study: whether all that was promised to it is in the ledger.

        It stays so until the end of the block: what comes meanwhile waits for the ledger.
        """
        with self._state:
            self._being_closed.add(study.value)
            self._hurry.set()
            self._state.wait_for(lambda: self._failing or not self._waits(study), _CLOSING_S)
            settled = not self._waits(study)
        try:
            yield settled
        finally:
            with self._state:
                self._being_closed.discard(study.value)

    def _waits(self, study: Uid) -> bool:
        return study.value in self._without_row.values()

    # What the thread does

    def _run(self) -> None:
        while self._wanted():
            self._carry(self._gather())

    def _wanted(self) -> bool:
        with self._state:
            return not self._stopping or bool(self._without_row)

    def _gather(self) -> list[Promised]:
        """All that wait, after a moment in which more of them come."""
        batch = [self._queue.get()]
        self._hurry.wait(_GATHER_S)
        self._hurry.clear()
        with suppress(queue.Empty):
            while True:
                batch.append(self._queue.get_nowait())
        return [promised for promised in batch if promised is not None]

    def _carry(self, batch: Sequence[Promised]) -> None:
        """Carry a batch over, however often that has to be tried."""
        while batch and not self._carried(batch):
            if len(batch) > 1 and not self._failing:
                for each in batch:  # One of them is the reason: the others need not wait for it.
                    self._carry([each])
                return
            if self._stop.wait(_AGAIN_S):
                self._gone([each.number for each in batch])  # The next start finds them.
                return
        self._failing = False

    def _carried(self, batch: Sequence[Promised]) -> bool:
        """Whether that worked. Where it did not for a reason of the site, nothing does at the moment."""
        try:
            with self._spool.taking():
                for each in batch:
                    self._name_file(each)
                failpoint("files_named")
                self._record([each for each in batch if each.receipt is None])
                self._sync(batch)
                failpoint("files_synced")
                for each in batch:
                    if each.page is not None:
                        each.page.free()
                self._daybook.mark()
        except Exception as error:  # The outermost frame that is ours: nothing may end this thread.
            foreseen = isinstance(error, WetreadError)
            log.warning(
                "daybook.waiting",
                instances=len(batch),
                because=str(error) if foreseen else type(error).__name__,
                exc_info=not foreseen,
            )
            with self._state:
                self._failing = _of_site(error) or len(batch) == 1
                self._state.notify_all()
            return False
        finally:
            for each in batch:
                each.close()
        return True

    def _name_file(self, promised: Promised) -> None:
        """Give the instance its file, not yet synced."""
        promised.tries += 1
        page, path = promised.page, promised.path
        if page is None:
            return
        size = len(page.contents)
        if promised.tries > 1:  # The file of a try before may look whole, and not be on the disk.
            promised.descriptor = self._spool.write_unsynced(page.blocks, size, path)
            return
        try:
            promised.descriptor = self._spool.write_new(page.blocks, size, path)
        except FileExistsError:
            # What came first stays as it came, if it is whole: the slow way looks.
            self._spool.stage(page.header, page.data_set)

    def _record(self, batch: Sequence[Promised]) -> None:
        """Tell the ledger, and whoever waits for that."""
        if not batch:
            return
        try:
            receipts = self._ledger.record_arrivals([each.arrival for each in batch])
            failpoint("pages_recorded")
        except Exception as error:
            if _of_site(error) or len(batch) > 1 or batch[0].tries < _TRIES:
                raise
            because = str(error) if isinstance(error, WetreadError) else type(error).__name__
            batch[0].path = set_aside(self._spool, self._ledger, batch[0].arrival, because, None)
        else:
            self._remember(batch)
            for each, receipt in zip(batch, receipts, strict=True):
                if receipt.kind is ArrivalKind.CONFLICT:
                    each.path = set_aside(self._spool, self._ledger, each.arrival, CONFLICT, receipt.study_id)
                each.receipt = receipt
                each.told(receipt.study_id)
        self._gone([each.number for each in batch])

    def _remember(self, batch: Sequence[Promised]) -> None:
        now = time.monotonic()
        old = [uid for uid, at in self._recorded_at.items() if now - at > _RECENT_S]
        for uid in old:
            del self._recorded_at[uid]
        self._recorded_at.update({each.arrival.study.value: now for each in batch})

    def _sync(self, batch: Sequence[Promised]) -> None:
        """Make files and names survive a loss of power. Raises `SpoolFull` or `SpoolBroken`."""
        if self._disk.sync():
            return
        try:
            for each in batch:
                if each.descriptor >= 0:
                    os.fsync(each.descriptor)
        except OSError as error:
            raise site_error(error, self._spool.path) from error
        self._spool.sync_folders(str(Path(each.path).parent) for each in batch)

    def _gone(self, numbers: Sequence[int]) -> None:
        """Nobody needs to wait for these any more."""
        with self._state:
            for number in numbers:
                self._without_row.pop(number, None)
            self._state.notify_all()


def _of_site(error: Exception) -> bool:
    """Whether others would fail in the same way, and this one will not at another time."""
    return isinstance(error, SiteError) and not isinstance(error, LedgerRefused)
