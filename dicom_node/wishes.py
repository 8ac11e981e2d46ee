"""What operators want of the quarantine, done by the node: it alone files what arrives, and deletes it.

A file that is taken in goes the way of everything that arrives, with every check on it: where its checks do
not pass now either, it stays where it is, and the answer says why. (Whoever wants a study closed is answered
by `watch`.)
"""

import mmap
import os
import threading
from collections.abc import Callable

import structlog

from dicom_node.part10 import NotOurFile, read_file_meta
from dicom_node.receive import Offer, Receiver
from dicom_node.spool import Spool
from dicom_node.status import StoreStatus
from ledger.errors import SiteError, WetreadError
from ledger.overview import QuarantineRecord
from ledger.store.database import LedgerAway, NotInLedger
from ledger.store.ledger import Ledger
from ledger.wish import WishKind, WishRecord

log = structlog.get_logger()

_EVERY_S = 1.0
_PIECE_BYTES = 1 << 20


class WishesAboutFiles:
    """Looks for wishes, between `start` and `stop`."""

    def __init__(
        self,
        ledger: Ledger,
        spool: Spool,
        receiver: Receiver,
        *,
        filed: Callable[[], None] = lambda: None,
        every_s: float = _EVERY_S,
    ) -> None:
        """`filed` is told whenever something was taken in."""
        self._ledger, self._spool, self._receiver = ledger, spool, receiver
        self._filed, self._every_s = filed, every_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="wishes", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self, within_s: float = 3.0) -> None:
        """End, after the file that is being taken in."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(within_s)

    def look(self) -> int:
        """One round: how many wishes were answered. Raises `LedgerAway`."""
        answered = 0
        for wish in self._ledger.wishes():
            if wish.quarantined is None or self._stopping.is_set():
                continue
            try:
                done, answer = self._answer(wish, wish.quarantined)
            except LedgerAway:
                raise
            except WetreadError as error:
                done, answer = False, str(error)
            except Exception as error:  # Left open, it would hold up every wish behind it for good.
                log.exception("wishes.stumbled", wish=wish.id)
                done, answer = (
                    False,
                    f"the node stumbled over it ({type(error).__name__}); its log says where",
                )
            self._ledger.settle_wish(wish.id, done=done, answer=answer)
            log.info("quarantine.asked", wish=wish.id, kind=str(wish.kind), done=done)
            answered += 1
        return answered

    def _answer(self, wish: WishRecord, number: int) -> tuple[bool, str]:
        try:
            file = self._ledger.quarantined_file(number)
        except NotInLedger as error:
            return False, str(error)
        if wish.kind is WishKind.DISCARD:
            self._forget(number, f"{wish.by} had it deleted")
            return True, "it is deleted"
        try:
            status = self._take_in(file)
        except (NotOurFile, OSError) as error:
            return False, f"it cannot be read where it lies: {error}"
        if self._ledger.is_filed(file):
            self._forget(number, f"{wish.by} had it taken in")
            self._filed()
            return True, "it is taken in"
        return False, _refused(status, file)

    def _take_in(self, file: QuarantineRecord) -> StoreStatus:
        with self._spool.absolute(file.path).open("rb") as opened:
            if not os.fstat(opened.fileno()).st_size:  # Nothing cannot be mapped.
                raise NotOurFile("it is empty")
            view = memoryview(mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ))
        meta, start = read_file_meta(view)
        reception = self._receiver.begin(
            Offer(
                sop_class=str(meta.sop_class),
                sop_instance=str(meta.sop_instance),
                abstract_syntax=str(meta.sop_class),
                transfer_syntax=meta.transfer_syntax,
                calling=meta.sending,
                called=meta.receiving,
                address=file.address,
            )
        )
        try:
            for at in range(start, len(view), _PIECE_BYTES):
                reception.append([view[at : at + _PIECE_BYTES]])
            status, _ = reception.finish()
        finally:
            reception.drop()
        return status

    def _forget(self, number: int, because: str) -> None:
        # Row and file go while nothing is taken in: the same bytes may just arrive again.
        with self._spool.deleting():
            self._spool.remove(self._ledger.release_quarantined(number, because))

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.look()
            except SiteError as error:
                log.warning("wishes.waiting", because=str(error))
            except Exception:  # The outermost loop of this thread: the next round comes.
                log.exception("wishes.stumbled")
            self._stopping.wait(self._every_s)


def _refused(status: StoreStatus, file: QuarantineRecord) -> str:
    if status is StoreStatus.OUT_OF_RESOURCES:
        return "there is no room for it now, or its sender's quota is used up: ask again later"
    return f"it would be set aside again: {file.because}"
