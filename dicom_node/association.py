"""Who may talk to us: decided once per association, before anything is negotiated."""

import threading
from collections.abc import Iterable
from dataclasses import dataclass, replace

import structlog
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import UserIdentityNegotiation

from dicom_node.acceptor import BoundedAssociation
from dicom_node.binding import Caller, entitled, stranger
from dicom_node.connection import BoundedSocket
from dicom_node.contexts import commitment_context
from dicom_node.handshake import Proof, is_goodbye, words
from dicom_node.peers import PeerSettings, calling_as
from dicom_node.quotas import Quotas
from dicom_node.refusals import Kind, Refusals
from dicom_node.senders import Senders
from dicom_node.settings import NodeSettings
from dicom_node.spool import Room, Spool
from dicom_node.status import Rejection
from dicom_node.turnstile import kept_for_known
from dicom_node.user_identity import Introduction, unproven
from ledger.identifiers import AETitle

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What an A-ASSOCIATE-RQ says of its two ends, as text from the wire, and what TLS proved."""

    calling: str
    called: str
    address: str
    proof: Proof | None = None  #: None without TLS
    user: Introduction | None = None

    @property
    def caller(self) -> Caller:
        """Who asks."""
        return Caller(self.calling, self.address, self.proof)


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
    open_of_caller: int = 0,
    room: Room,
) -> Refusal | None:
    """Why `request` is not let in; None where it is. Open are so many in all, and of the caller."""
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
    request, peers = replace(request, calling=calling), tuple(peers)
    if unknown := _unknown(request, settings, peers):
        return unknown
    if because := _no_place(
        request,
        settings,
        peers,
        open_associations=open_associations,
        open_of_caller=open_of_caller,
    ):
        return Refusal(Rejection.TOO_MANY_ASSOCIATIONS, because)
    if room is Room.HARD:
        return Refusal(
            Rejection.CONGESTION, "the disk is full up to its mark, or the ledger's is: free some room"
        )
    return None


def _no_place(
    request: Request,
    settings: NodeSettings,
    peers: tuple[PeerSettings, ...],
    *,
    open_associations: int,
    open_of_caller: int,
) -> str:
    """Why there is no place for one more association; empty where there is."""
    theirs = calling_as(peers, request.calling, request.address)
    if open_of_caller >= ((theirs and theirs.associations_max) or settings.associations_per_ae):
        who = f"{request.calling} at {request.address}"
        return f"{who} has {open_of_caller} associations open, which is its limit"
    known = theirs is not None and theirs.is_at(request.address)
    keeps = any(peer.has_addresses for peer in peers)
    places = kept_for_known(settings.maximum_associations, settings, known=known or not keeps)
    if open_associations < places:
        return ""
    if places < settings.maximum_associations:
        return f"{open_associations} associations are open, and the other places are kept for known [[peer]]s"
    return f"{open_associations} associations are open, which is the limit"


def _unknown(request: Request, settings: NodeSettings, peers: tuple[PeerSettings, ...]) -> Refusal | None:
    """Why the caller is not taken for who it says it is; None where it is."""
    caller, known_only = request.caller, settings.callers == "known"
    if request.proof is None and settings.tls is not None and not settings.tls.plain:
        return Refusal(
            Rejection.CALLING_AE_TITLE_UNKNOWN,
            f"{caller} calls without TLS, which plain = false in [node.tls] forbids",
        )
    if because := stranger(caller, peers, known_only=known_only):
        return Refusal(Rejection.CALLING_AE_TITLE_UNKNOWN, because)
    theirs = entitled(caller, peers)
    if because := unproven(request.user, theirs, secure=request.proof is not None):
        return Refusal(Rejection.USER_UNKNOWN, f"{caller} {because}")
    return None


class Doorkeeper:
    """Decides about each request, and keeps count of who is inside."""

    def __init__(
        self,
        settings: NodeSettings,
        peers: tuple[PeerSettings, ...],
        *,
        senders: Senders,
        spool: Spool,
        quotas: Quotas,
        refusals: Refusals,
    ) -> None:
        self._settings, self._peers, self._senders = settings, peers, senders
        self._spool, self._quotas, self._refusals = spool, quotas, refusals
        self._counting = threading.Lock()  # Two that ask at once must not both get the last place.

    def requested(self, association: Association) -> None:
        """Reject the association that is asking, or count it in."""
        with self._counting:
            try:
                refused = self._judge(association)
            except (
                Exception
            ) as error:  # pynetdicom would log it and accept: whatever goes wrong here refuses.
                refused = Refusal(Rejection.CONGESTION, f"unforeseen while judging: {type(error).__name__}")
            if refused is None:
                self._senders.opened(association, _calling(association))
        if refused is None:
            if self._only_reports(association):
                association.acceptor.supported_contexts = [commitment_context()]
            if (introduced := _introduction(association)) is not None and introduced.answer_wanted:
                association.acceptor.add_negotiation_item(_confirmation())
            return
        association.acse.send_reject(*refused.rejection.parts)
        association.is_rejected = True
        association.kill()
        if self._is_us(association):
            return
        self._refusals.note(
            Kind.ASSOCIATION,
            refused.because,
            reason=".".join(map(str, refused.rejection.parts)),
            address=str(association.requestor.address),
        )

    def insecure(self, error: OSError, address: str) -> None:
        """A TLS handshake failed."""
        said = words(error)
        if is_goodbye(error):
            log.info("tls.closed", address=address, because=said)
        else:
            self._refusals.note(Kind.TLS, f"no TLS with {address}: {said}", reason=said, address=address)

    def over(self, association: Association) -> None:
        """The association ended, however it ended."""
        self._senders.closed(association)
        how = "released" if association.is_released else "aborted"
        asked = association.requestor.primitive is not None and not self._is_us(association)
        if asked and not association.is_rejected:
            log.info(f"association.{how}", calling=association.requestor.ae_title)
        if isinstance(association, BoundedAssociation) and association.cut_off_because:
            self._refusals.note(
                Kind.IDLE if association.idled else Kind.ABORTED,
                association.cut_off_because,
                address=association.came_from[0],
                calling=_calling(association),
            )

    def _is_us(self, association: Association) -> bool:
        """Whether it is only our own site asking whether we live: every few seconds, and no news."""
        calling = _calling(association)
        here = ("127.0.0.1", "::1", self._settings.host)
        return calling == self._settings.ae_title and association.requestor.address in here

    def _judge(self, association: Association) -> Refusal | None:
        asked = association.requestor.primitive
        if asked is None:
            return Refusal(Rejection.CALLING_AE_TITLE_UNKNOWN, "the request says nothing of its sender")
        calling, address = _calling(association), str(association.requestor.address)
        refused = refusal(
            Request(
                calling=calling,
                called=str(asked.called_ae_title or ""),
                address=address,
                proof=_proof(association),
                user=_introduction(association),
            ),
            settings=self._settings,
            peers=self._peers,
            open_associations=self._senders.associations(),
            open_of_caller=self._senders.associations(calling),
            room=self._spool.room(),
        )
        if refused is None and (because := self._quotas.check_association(AETitle.parse(calling), address)):
            return Refusal(Rejection.CONGESTION, because)
        return refused

    def _only_reports(self, association: Association) -> bool:
        """Whether the caller is let in for nothing but its reports of storage commitment."""
        if self._settings.callers != "known":
            return False
        caller = Caller(
            str(AETitle.parse(_calling(association))),
            str(association.requestor.address),
            _proof(association),
        )
        return not any(peer.receive for peer in entitled(caller, self._peers))


def _calling(association: Association) -> str:
    """The calling AE title, as text from the wire; empty where there was no request."""
    asked = association.requestor.primitive
    return str(asked.calling_ae_title or "").strip(" \0") if asked is not None else ""


def _proof(association: Association) -> Proof | None:
    """What TLS proved of the caller; None without TLS."""
    connection = association.dul.socket
    return connection.proof if isinstance(connection, BoundedSocket) else None


def _introduction(association: Association) -> Introduction | None:
    said = association.requestor.user_identity
    if said is None:
        return None
    return Introduction(
        said.user_identity_type or 0,
        said.primary_field or b"",
        said.secondary_field or b"",
        bool(said.positive_response_requested),
    )


def _confirmation() -> UserIdentityNegotiation:
    """That a name, or a name and a passcode, was checked; it has no content (PS3.7 §D.3.3.7.2)."""
    item = UserIdentityNegotiation()
    item.server_response = b""
    return item
