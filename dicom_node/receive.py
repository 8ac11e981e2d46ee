"""One C-STORE: make it durable, and only then say yes.

`Success` says that the instance is stored (PS3.4 §B.2.3), and many a scanner deletes its own copy on the
strength of it. The order of the steps in `_promise_page` and `_promise` *is* that promise, so they stay
together, in this order, on one screen. Any step that fails ends it with another answer.

There are two ways, and one promise: what was answered with Success survives a loss of power. The quick one
writes the instance into the daybook; file and row follow within milliseconds. The slow one makes file and row
before it answers. It is for all that is not plain: large instances, a ledger or a disk in trouble, a study
that is just being closed, callers that need the row, and sites that want a contradiction refused.

Bytes are kept as they were sent: decoding and encoding again would be a second opinion about data that we
were only asked to keep. They go to the disk as they come in, so that an instance may be larger than memory.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

from dicom_node.bookkeeper import Bookkeeper
from dicom_node.daybook import Page
from dicom_node.group import GroupCommit
from dicom_node.headers import Headers, HeaderUnreadable, MoreNeeded, UnsafeDataSet, read_headers
from dicom_node.long_headers import LongHeaders
from dicom_node.part import instance_path
from dicom_node.part10 import FileMeta
from dicom_node.quarantine import CONFLICT, set_aside
from dicom_node.quotas import Quotas
from dicom_node.refusals import Kind, Refusals
from dicom_node.settings import NodeSettings
from dicom_node.spool import Part, Room, Spool, SpoolFull, Staged
from dicom_node.status import StoreStatus
from ledger.errors import SiteError, StudyError
from ledger.identifiers import AETitle, Digest, StudyId, Uid
from ledger.store.ledger import Ledger
from ledger.study import Arrival, ArrivalKind

log = structlog.get_logger()

_HEAD_BYTES = 64 << 10  # The headers of a plain CT or MR slice have 3 to 20 KiB.


class DoesNotMatch(StudyError):
    """Command and data set do not speak of the same instance, or a UID is not one."""


class CannotFile(StudyError):
    """The data set does not say which study and series it belongs to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One instance as a peer offers it: what the command says, before any of the data set has come."""

    sop_class: str
    sop_instance: str
    abstract_syntax: str  #: of the presentation context that it came in
    transfer_syntax: Uid
    calling: AETitle
    called: AETitle
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """Takes instances in."""

    spool: Spool
    ledger: Ledger
    group: GroupCommit
    books: Bookkeeper
    settings: NodeSettings
    quotas: Quotas
    refusals: Refusals
    long_headers: LongHeaders

    def begin(self, offer: Offer, told: Callable[[StudyId], None] | None = None) -> "Reception":
        """Take in what `offer` announces.

        With `told` the answer may come before the row: `told` is called with the study when it has one.
        """
        # Only the ledger knows whether an instance contradicts what is held.
        return Reception(self, offer, told if self.settings.conflict == "keep" else None)


class Reception:
    """One C-STORE while its data set comes in: whatever happens to it, in the end there is one answer.

    Once the answer is known not to be Success, what still comes is read and forgotten.
    """

    def __init__(
        self, receiver: Receiver, offer: Offer, told: Callable[[StudyId], None] | None = None
    ) -> None:
        self._receiver, self._offer, self._told = receiver, offer, told
        self._answer: tuple[StoreStatus, StudyId | None] | None = None
        self._page: Page | None = None
        self._part: Part | None = None
        self._head = bytearray()  # the beginning of the data set: most often all of the headers
        self.size = 0  #: bytes of the data set so far
        with self._deciding():
            self._check_room()
            receiver.quotas.check_instance(offer.calling, offer.address)
            self._meta = _identify(offer)
            self._header = self._meta.encode()
            if told is not None:
                self._page = receiver.books.page(self._header)
            if self._page is None:
                self._part = receiver.spool.begin(self._header)

    def append(self, pieces: Sequence[memoryview]) -> None:
        """The next bytes of the data set."""
        self.size += sum(map(len, pieces))
        with self._deciding():
            self._check_room()
            if self._page is not None:
                if self._page.append(pieces):
                    return
                self._leave_page()
            if self._part is not None:
                self._write(self._part, pieces)

    def finish(self) -> tuple[StoreStatus, StudyId | None]:
        """The answer, and the study that the instance now belongs to. Success is a promise."""
        self._receiver.quotas.received(self._offer.calling, self.size)
        with self._deciding():
            if self._page is not None and not self._promise_page(self._page):
                self._leave_page()
            if self._part is not None:
                self._answer = self._promise(self._part)
                self._part = None  # It has its name.
        self.drop()
        assert self._answer is not None
        return self._answer

    def drop(self) -> None:
        """Leave nothing behind of what was not finished."""
        part, self._part = self._part, None
        if part is not None:
            part.discard()
        page, self._page = self._page, None
        if page is not None:
            page.free()

    def _promise_page(self, page: Page) -> bool:
        """Promise what is on the page; False, and nothing is done, where it has to go the slow way."""
        assert self._told is not None
        try:
            named = self._named(self._read(page.data_set[:_HEAD_BYTES]))
        except (HeaderUnreadable, CannotFile, MoreNeeded):
            return False
        # ── The promise, quickly: all of it durable in the daybook, and then Success. File and row follow.
        arrival = self._arrival(page.digest, *named)
        if not self._receiver.books.promise(page, arrival, self._told):
            return False
        self._page, self._answer = None, (StoreStatus.SUCCESS, None)
        return True

    def _promise(self, part: Part) -> tuple[StoreStatus, StudyId | None]:
        receiver = self._receiver
        try:
            named = self._file_under(part)
        except UnsafeDataSet as error:
            self._set_aside(part, f"unsafe to read: {error}")
            return StoreStatus.SET_ASIDE, None
        except (HeaderUnreadable, CannotFile) as error:
            self._set_aside(part, str(error))
            return StoreStatus.CANNOT_UNDERSTAND, None
        with receiver.spool.taking():
            # ── The promise: file synced under its name, folder synced, row committed, and then Success.
            arrival = self._arrival(part.digest, *named)
            receipt = receiver.group.record(arrival, part.stage)
            if receipt.kind is ArrivalKind.CONFLICT:
                set_aside(receiver.spool, receiver.ledger, arrival, CONFLICT, receipt.study_id)
                if receiver.settings.conflict == "refuse":
                    return StoreStatus.DOES_NOT_MATCH, None
            return StoreStatus.SUCCESS, receipt.study_id

    def _arrival(self, digest: Digest, study: Uid, series: Uid, headers: Headers) -> Arrival:
        offer, meta = self._offer, self._meta
        return Arrival(
            sop_instance=meta.sop_instance,
            sop_class=meta.sop_class,
            transfer_syntax=meta.transfer_syntax,
            study=study,
            series=series,
            digest=digest,
            size=self.size,
            path=instance_path(digest),
            calling=offer.calling,
            called=offer.called,
            address=offer.address,
            headers=headers,
        )

    def _leave_page(self) -> None:
        """Go the slow way from here."""
        page, self._page = self._page, None
        assert page is not None
        try:
            self._part = self._receiver.spool.begin(self._header)
            self._write(self._part, [page.data_set])
        finally:
            page.free()

    def _write(self, part: Part, pieces: Sequence[memoryview]) -> None:
        for piece in pieces:
            if (missing := _HEAD_BYTES - len(self._head)) > 0:
                self._head += piece[:missing]
        part.append(pieces)

    def _file_under(self, part: Part) -> tuple[Uid, Uid, Headers]:
        """Study, series and headers. Raises `HeaderUnreadable`, `CannotFile` or `DoesNotMatch`."""
        try:
            headers = self._read(self._head)
        except MoreNeeded:  # long headers, as of an enhanced multi-frame image
            long_headers, syntax = self._receiver.long_headers, self._offer.transfer_syntax
            headers = long_headers.read(part.descriptor, len(self._header), syntax)
        return self._named(headers)

    def _read(self, head: bytearray | memoryview) -> Headers:
        shape = self._receiver.long_headers.shape
        return read_headers(head, self._offer.transfer_syntax, whole=self.size, shape=shape)

    def _named(self, headers: Headers) -> tuple[Uid, Uid, Headers]:
        """Study, series and headers. Raises `CannotFile` or `DoesNotMatch`."""
        study, series = study_and_series(headers)
        for keyword, told in (
            ("SOPInstanceUID", self._meta.sop_instance),
            ("SOPClassUID", self._meta.sop_class),
        ):
            if headers.get(keyword, "") != str(told):
                raise DoesNotMatch(f"{keyword} of the data set is not the one of the command")
        return study, series, headers

    def _set_aside(self, part: Part, because: str) -> None:
        """Keep, synced and recorded, what is filed under no study."""
        with self._receiver.spool.taking():
            self._record_quarantine(part.quarantine(), because, None)

    def _record_quarantine(self, kept: Staged, because: str, study_id: StudyId | None) -> None:
        self._receiver.ledger.record_quarantine(
            sop_instance=str(self._meta.sop_instance),
            digest=kept.digest,
            path=kept.path,
            because=because,
            calling=str(self._offer.calling),
            address=self._offer.address,
            study_id=study_id,
        )
        log.warning("instance.quarantined", because=because, calling=str(self._offer.calling))

    def _check_room(self) -> None:
        if self._receiver.spool.room() is Room.HARD:
            raise SpoolFull("the disk is full up to its mark, or the ledger's is: free some room")

    @contextmanager
    def _deciding(self) -> Iterator[None]:
        """Whatever goes wrong inside is the answer, and nothing is kept."""
        try:
            yield
        except Exception as error:
            self.drop()
            self._answer = self._answer_to(error), None

    def _answer_to(self, error: Exception) -> StoreStatus:
        match error:
            case DoesNotMatch():
                return self._refuse(StoreStatus.DOES_NOT_MATCH, str(error))
            case SiteError():
                return self._refuse(StoreStatus.OUT_OF_RESOURCES, str(error), type(error).__name__)
            case _:  # The outermost frame that is ours: a defect here must not look permanent.
                because = f"unforeseen: {type(error).__name__}"
                log.error("instance.failed", because=because, exc_info=True)
                return self._refuse(StoreStatus.OUT_OF_RESOURCES, because)

    def _refuse(self, status: StoreStatus, because: str, reason: str = "") -> StoreStatus:
        self._receiver.refusals.note(
            Kind.POSTPONED if status is StoreStatus.OUT_OF_RESOURCES else Kind.INSTANCE,
            because,
            reason=reason,
            address=self._offer.address,
            calling=str(self._offer.calling),
        )
        return status


def _identify(offer: Offer) -> FileMeta:
    """What the command says of the instance. Raises `DoesNotMatch`."""
    try:
        sop_instance = Uid.parse(offer.sop_instance)
        sop_class = Uid.parse(offer.sop_class)
    except ValueError as error:
        raise DoesNotMatch("the command's Affected SOP Class or Instance UID is not a UID") from error
    if str(sop_class) != offer.abstract_syntax:
        raise DoesNotMatch(
            f"the command says SOP class {sop_class}, its presentation context {offer.abstract_syntax}"
        )
    return FileMeta(
        sop_class=sop_class,
        sop_instance=sop_instance,
        transfer_syntax=offer.transfer_syntax,
        sending=offer.calling,
        receiving=offer.called,
    )


def study_and_series(headers: Headers) -> tuple[Uid, Uid]:
    """Study and Series Instance UID. Raises `CannotFile` where one is missing, empty or malformed."""
    uids = []
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID"):
        try:
            uids.append(Uid.parse(headers.get(keyword, "")))
        except ValueError as error:
            state = "not a UID" if headers.get(keyword) else "missing or empty"
            raise CannotFile(f"{keyword} is {state}: the instance belongs to no study") from error
    return uids[0], uids[1]
