"""One C-STORE: spool the bytes, record the arrival, and only then say yes.

`Success` says that the instance is stored (PS3.4 §B.2.3), and many a scanner deletes its own copy on the
strength of it. The order of the steps in `receive` *is* that promise, so they stay in one function, in this
order, on one screen. Any step that fails ends it with another answer.

Bytes are kept as they were sent: decoding and encoding again would be a second opinion about data that we
were only asked to keep. `event.dataset` is never touched.
"""

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO

import structlog
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.events import Event

from dicom_node.group import GroupCommit
from dicom_node.headers import Headers, HeaderUnreadable, read_headers
from dicom_node.part10 import FileMeta
from dicom_node.senders import Senders
from dicom_node.settings import NodeSettings
from dicom_node.spool import Room, Spool
from dicom_node.status import StoreStatus
from ledger.errors import SiteError, StudyError
from ledger.identifiers import AETitle, StudyId, Uid
from ledger.store.ledger import Ledger
from ledger.study import Arrival, ArrivalKind

log = structlog.get_logger()


class DoesNotMatch(StudyError):
    """Command and data set do not speak of the same instance, or a UID is not one."""


class CannotFile(StudyError):
    """The data set does not say which study and series it belongs to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One instance as a peer offers it: what the command says, and the data set as sent."""

    sop_class: str
    sop_instance: str
    abstract_syntax: str  #: of the presentation context that it came in
    transfer_syntax: Uid
    data_set: memoryview
    calling: AETitle
    called: AETitle
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """Takes instances in."""

    spool: Spool
    ledger: Ledger
    group: GroupCommit
    settings: NodeSettings

    def receive(self, offer: Offer) -> tuple[StoreStatus, StudyId | None]:
        """The answer to `offer`, and the study that the instance now belongs to."""
        try:
            if self.spool.room() is Room.HARD:
                return self._postpone(offer, "the spool is full up to its mark")
            meta = _identify(offer)
            try:
                study, series, headers = _file_under(offer, meta)
            except (HeaderUnreadable, CannotFile) as error:
                return self._set_aside(offer, meta, str(error))
            with self.spool.taking():
                # ── The promise: file synced under its name, folder synced, row committed, and then Success.
                staged = self.spool.stage(meta.encode(), offer.data_set)
                receipt = self.group.record(
                    Arrival(
                        sop_instance=meta.sop_instance,
                        sop_class=meta.sop_class,
                        transfer_syntax=meta.transfer_syntax,
                        study=study,
                        series=series,
                        digest=staged.digest,
                        size=staged.size,
                        path=staged.path,
                        calling=offer.calling,
                        called=offer.called,
                        address=offer.address,
                        headers=headers,
                    )
                )
                if receipt.kind is ArrivalKind.CONFLICT:
                    because = "this SOP Instance UID is already here with other bytes: the first is kept"
                    kept = self.spool.move_to_quarantine(staged)
                    self.ledger.record_quarantine(
                        sop_instance=str(meta.sop_instance),
                        digest=kept.digest,
                        path=kept.path,
                        because=because,
                        calling=str(offer.calling),
                        address=offer.address,
                        study_id=receipt.study_id,
                    )
                    log.warning("instance.quarantined", because=because, calling=str(offer.calling))
                    if self.settings.conflict == "refuse":
                        return StoreStatus.DOES_NOT_MATCH, None
                return StoreStatus.SUCCESS, receipt.study_id
        except DoesNotMatch as error:
            return self._refuse(offer, StoreStatus.DOES_NOT_MATCH, str(error)), None
        except SiteError as error:
            return self._postpone(offer, str(error))

    def _set_aside(self, offer: Offer, meta: FileMeta, because: str) -> tuple[StoreStatus, None]:
        """Keep what cannot be filed under any study, and tell the sender: nothing will be done with it."""
        with self.spool.taking():
            kept = self.spool.quarantine(meta.encode(), offer.data_set)
            self.ledger.record_quarantine(
                sop_instance=str(meta.sop_instance),
                digest=kept.digest,
                path=kept.path,
                because=because,
                calling=str(offer.calling),
                address=offer.address,
                study_id=None,
            )
        log.warning("instance.quarantined", because=because, calling=str(offer.calling))
        return StoreStatus.CANNOT_UNDERSTAND, None

    def _refuse(self, offer: Offer, status: StoreStatus, because: str) -> StoreStatus:
        log.warning("instance.refused", status=f"0x{status:04X}", because=because, calling=str(offer.calling))
        self.ledger.record_event(
            "instance",
            "refused",
            because=because,
            detail={"calling": str(offer.calling), "address": offer.address, "status": int(status)},
        )
        return status

    def _postpone(self, offer: Offer, because: str) -> tuple[StoreStatus, None]:
        # Not a row in the ledger: it may be the ledger's disk that is full.
        log.error("instance.postponed", because=because, calling=str(offer.calling))
        return StoreStatus.OUT_OF_RESOURCES, None


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


def _file_under(offer: Offer, meta: FileMeta) -> tuple[Uid, Uid, Headers]:
    """The study, the series and the headers. Raises `HeaderUnreadable`, `CannotFile` or `DoesNotMatch`."""
    headers = read_headers(offer.data_set, offer.transfer_syntax)
    study, series = study_and_series(headers)
    for keyword, told in (("SOPInstanceUID", meta.sop_instance), ("SOPClassUID", meta.sop_class)):
        if headers.get(keyword, "") != str(told):
            raise DoesNotMatch(f"{keyword} of the data set is not the one of the command")
    return study, series, headers


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


def on_store(receiver: Receiver, senders: Senders) -> Callable[[Event], int]:
    """A handler for `evt.EVT_C_STORE`."""

    def answer(event: Event) -> int:
        association, request, asked = event.assoc, event.request, event.assoc.requestor.primitive
        assert isinstance(request, C_STORE)
        assert asked is not None
        try:
            # A view of the bytes as they came in: they may be gigabytes.
            with (request.DataSet or BytesIO()).getbuffer() as data_set:
                status, study_id = receiver.receive(
                    Offer(
                        sop_class=str(request.AffectedSOPClassUID or ""),
                        sop_instance=str(request.AffectedSOPInstanceUID or ""),
                        abstract_syntax=str(event.context.abstract_syntax),
                        transfer_syntax=Uid.parse(str(event.context.transfer_syntax)),
                        data_set=data_set,
                        calling=AETitle.parse(asked.calling_ae_title or ""),
                        called=AETitle.parse(asked.called_ae_title or ""),
                        address=str(association.requestor.address),
                    )
                )
        except Exception as error:  # The outermost frame that is ours: a defect here must not look permanent.
            log.error("instance.postponed", because=f"unforeseen: {type(error).__name__}", exc_info=True)
            return StoreStatus.OUT_OF_RESOURCES
        if study_id is not None:
            senders.sent(association, study_id)
        return status

    return answer
