"""Who may talk to us: decided once per association, before anything is negotiated."""

from collections.abc import Iterable
from dataclasses import dataclass

import structlog
from pynetdicom.association import Association

from dicom_node.contexts import commitment_context
from dicom_node.peers import PeerSettings
from dicom_node.senders import Senders
from dicom_node.settings import NodeSettings
from dicom_node.spool import Room, Spool
from dicom_node.status import Rejection
from ledger.errors import SiteError
from ledger.identifiers import AETitle
from ledger.store.ledger import Ledger

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What an A-ASSOCIATE-RQ says of its two ends, as text from the wire."""

    calling: str
    called: str
    address: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is rejected: for the peer a code, for our administrator a sentence."""

    rejection: Rejection
    because: str


def refusal(
    request: Request,
    *,
    settings: NodeSettings,
    peers: Iterable[PeerSettings],
    open_associations: int,
    room: Room,
) -> Refusal | None:
    """Why `request` is not let in; None where it is."""
    try:
        calling = str(AETitle.parse(request.calling))
    except ValueError:
        return Refusal(Rejection.CALLING_AE_TITLE_UNKNOWN, "the calling AE title is not one")
    if settings.require_called_ae_title and request.called.strip(" \0") != settings.ae_title:
        return Refusal(
            Rejection.CALLED_AE_TITLE_UNKNOWN,
            f"{calling} at {request.address} calls another AE title than ours ({settings.ae_title}):"
            " correct it at that machine",
        )
    if settings.callers == "known" and (because := _unknown(calling, request.address, peers)):
        return Refusal(Rejection.CALLING_AE_TITLE_UNKNOWN, because)
    if open_associations >= settings.maximum_associations:
        return Refusal(
            Rejection.TOO_MANY_ASSOCIATIONS, f"{open_associations} associations are open, which is the limit"
        )
    if room is Room.HARD:
        return Refusal(Rejection.CONGESTION, "the spool is full up to its mark: free some room on its disk")
    return None


def _unknown(calling: str, address: str, peers: Iterable[PeerSettings]) -> str:
    """Why `calling` at `address` is not one of `peers`; empty where it is."""
    # An archive calls back to report about what it got, also where it stores nothing here.
    known = [
        peer for peer in peers if (peer.receive or peer.confirm == "commitment") and peer.ae_title == calling
    ]
    if not known:
        return f"{calling} at {address} is no [[peer]] with receive = true"
    if not any(peer.calls_from(address) for peer in known):
        return f"{calling} calls from {address}, which is not among its addresses"
    return ""


class Doorkeeper:
    """Decides about each request, and keeps count of who is inside."""

    def __init__(
        self,
        settings: NodeSettings,
        peers: tuple[PeerSettings, ...],
        senders: Senders,
        spool: Spool,
        ledger: Ledger,
    ) -> None:
        self._settings, self._peers, self._senders = settings, peers, senders
        self._spool, self._ledger = spool, ledger

    def requested(self, association: Association) -> None:
        """Reject the association that is asking, or count it in."""
        try:
            refused = self._judge(association)
        except Exception as error:  # pynetdicom would log it and accept: whatever goes wrong here refuses.
            refused = Refusal(Rejection.CONGESTION, f"unforeseen while judging: {type(error).__name__}")
        if refused is None:
            if self._only_reports(association):
                association.acceptor.supported_contexts = [commitment_context()]
            self._senders.opened(association)
            return
        association.acse.send_reject(*refused.rejection.parts)
        association.is_rejected = True
        association.kill()
        if self._is_us(association):
            return
        log.warning(
            "association.rejected", because=refused.because, code=".".join(map(str, refused.rejection.parts))
        )
        if refused.rejection in (Rejection.CALLING_AE_TITLE_UNKNOWN, Rejection.CALLED_AE_TITLE_UNKNOWN):
            self._remember(refused, association)

    def over(self, association: Association) -> None:
        """The association ended, however it ended."""
        self._senders.closed(association)
        how = "released" if association.is_released else "aborted"
        asked = association.requestor.primitive is not None and not self._is_us(association)
        if asked and not association.is_rejected:
            log.info(f"association.{how}", calling=association.requestor.ae_title)

    def _is_us(self, association: Association) -> bool:
        """Whether it is only our own site asking whether we live: every few seconds, and no news."""
        asked = association.requestor.primitive
        calling = str(asked.calling_ae_title or "").strip(" \0") if asked is not None else ""
        here = ("127.0.0.1", "::1", self._settings.host)
        return calling == self._settings.ae_title and association.requestor.address in here

    def _judge(self, association: Association) -> Refusal | None:
        asked = association.requestor.primitive
        if asked is None:
            return Refusal(Rejection.CALLING_AE_TITLE_UNKNOWN, "the request says nothing of its sender")
        return refusal(
            Request(
                calling=str(asked.calling_ae_title or ""),
                called=str(asked.called_ae_title or ""),
                address=str(association.requestor.address),
            ),
            settings=self._settings,
            peers=self._peers,
            open_associations=self._senders.associations(),
            room=self._spool.room(),
        )

    def _only_reports(self, association: Association) -> bool:
        """Whether the caller is let in for nothing but its reports of storage commitment."""
        asked = association.requestor.primitive
        assert asked is not None, "it was judged by what it asked"
        calling = str(AETitle.parse(asked.calling_ae_title or ""))
        known = [peer for peer in self._peers if peer.ae_title == calling]
        return self._settings.callers == "known" and not any(peer.receive for peer in known)

    def _remember(self, refused: Refusal, association: Association) -> None:
        try:
            self._ledger.record_event(
                "node",
                "association_rejected",
                because=refused.because,
                detail={"address": str(association.requestor.address), "code": int(refused.rejection)},
            )
        except SiteError as error:
            log.warning("event.not_recorded", because=str(error))
