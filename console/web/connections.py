"""The peers of a site as pages and programs are told: who they are, how things stand, and examining one."""

import threading
import time
from dataclasses import dataclass

from console.doctor import examine
from console.settings import Site
from dicom_node.certificate import NoCertificate, read_certificate
from dicom_node.checkup import Check
from dicom_node.peers import PeerSettings
from ledger.delivery import DeliveryState
from ledger.errors import SiteError
from ledger.store.ledger import Ledger
from ledger.traffic import Received, Sent

LATELY_S = 86400.0
_AT_ONCE = 3  # Each may take half a minute, and a thread that pages need.


class AllExamining(SiteError):
    """As many peers are being examined as may be at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerRow:
    """One peer. Times are seconds since 1970 UTC."""

    name: str
    ae_title: str
    address: str  #: host:port; empty: it is reached over the web only
    web: str  #: URL of its DICOMweb; empty: none
    sends: bool  #: it may store here
    gets: bool  #: it may be a destination of results
    protection: str  #: "TLS", "TLS when called", "TLS when it calls", "optional TLS", "HTTPS" or "none"
    certificate_until: float | None  #: of what we show it; None: nothing, or it cannot be read
    certificate_wrong: str  #: why it cannot be read; empty: it can
    heard_at: float | None  #: when it last sent anything
    received: Received | None  #: in the last 24 h
    sent: Sent

    @property
    def waiting(self) -> int:
        """Results that are on their way to it."""
        return sum(self.sent.unfinished.get(one, 0) for one in (DeliveryState.WAITING, DeliveryState.SENDING))

    @property
    def parked(self) -> int:
        """Results that go no further until somebody decides."""
        return self.sent.unfinished.get(DeliveryState.PARKED, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Connections:
    """All peers, and who sent without being one."""

    peers: tuple[PeerRow, ...]
    strangers: tuple[tuple[str, Received], ...]  #: AE titles that are no peer's


def read_connections(site: Site, ledger: Ledger) -> Connections:
    """From the settings and the ledger; nobody is asked anything."""
    since = ledger.now() - LATELY_S
    received, sent = ledger.received_since(since), ledger.sent_since(since)
    heard = {
        dict(tally.labels).get("peer", ""): tally.total
        for tally in ledger.tallies()
        if tally.name == "last_arrival_timestamp_seconds"
    }
    known = {peer.ae_title for peer in site.peers}
    return Connections(
        peers=tuple(_row(peer, received, sent, heard) for peer in site.peers),
        strangers=tuple((title, one) for title, one in sorted(received.items()) if title not in known),
    )


class Examiner:
    """Examines a few peers at a time, each by one asker."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._free = threading.BoundedSemaphore(_AT_ONCE)

    def examine(self, name: str) -> tuple[Check, ...]:
        """Every step with the peer called `name`. Raises `SettingsRefused`, `AllExamining`."""
        if not self._free.acquire(blocking=False):
            raise AllExamining(
                f"{_AT_ONCE} peers are being examined at this moment: try again in half a minute"
            )
        try:
            return tuple(examine(self._site, name))
        finally:
            self._free.release()


def _row(
    peer: PeerSettings, received: dict[str, Received], sent: dict[str, Sent], heard: dict[str, float]
) -> PeerRow:
    mine = received.get(peer.ae_title) if peer.ae_title else None
    until, wrong = _certificate(peer)
    return PeerRow(
        name=peer.name,
        ae_title=peer.ae_title,
        address=f"{peer.host}:{peer.port}" if peer.speaks_dicom else "",
        web=(peer.web.url if peer.web else ""),
        sends=peer.receive,
        gets=peer.send,
        protection=_protection(peer),
        certificate_until=until,
        certificate_wrong=wrong,
        heard_at=mine.last_at if mine else heard.get(peer.name) or None,
        received=mine,
        sent=sent.get(peer.name, Sent()),
    )


def _protection(peer: PeerSettings) -> str:
    if not peer.speaks_dicom:
        assert peer.web is not None
        return "HTTPS" if peer.web.url.startswith("https:") else "none"
    if peer.tls is None:
        return "none"
    if peer.tls.send and peer.tls.required:
        return "TLS"
    if peer.tls.send:
        return "TLS when called"
    return "TLS when it calls" if peer.tls.required else "optional TLS"


def _certificate(peer: PeerSettings) -> tuple[float | None, str]:
    path = peer.tls.certificate_file if peer.tls else peer.web.certificate_file if peer.web else None
    if path is None:
        return None, ""
    try:
        return read_certificate(path).ends_at, ""
    except NoCertificate as error:
        return None, str(error)
    except OSError as error:
        return None, f"{path.name} cannot be read: {error.strerror}"


def soon_over(row: PeerRow) -> bool:
    """Whether the certificate that we show it ends within a month."""
    return row.certificate_until is not None and row.certificate_until - time.time() < 30 * 86400
