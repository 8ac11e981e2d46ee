"""Is a caller who it says it is? AE title, address and certificate are one thing: all fit, or it stays out.

An AE title is a claim. Where the site has a `[[peer]]` with that title, `addresses` and `[peer.tls]` say what
the claim has to come with. With `callers = "known"` every caller needs such an entry. With "any" a title
without one may be anybody's, over TLS or without, but a title with `addresses` or a `[peer.tls]` is its
owner's alone: whoever else borrowed it would use up the places that are counted for it.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from dicom_node.handshake import Proof
from dicom_node.peers import PeerSettings
from dicom_node.tls_settings import PeerTlsSettings


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, by its own word, from where, and what TLS proved; None without TLS."""

    calling: str
    address: str
    proof: Proof | None = None

    def __str__(self) -> str:
        return f"{self.calling} at {self.address}"


def entitled(caller: Caller, peers: Iterable[PeerSettings]) -> tuple[PeerSettings, ...]:
    """The entries that the caller fits in every point."""
    return tuple(peer for peer in peers if peer.ae_title == caller.calling and not _mismatch(caller, peer))


def stranger(caller: Caller, peers: Iterable[PeerSettings], *, known_only: bool) -> str:
    """Why the caller is not let in under its AE title; empty where it is."""
    claimed = [peer for peer in peers if peer.ae_title == caller.calling]
    if known_only:
        # An archive calls back to report about what it got, also where it stores nothing here.
        claimed = [peer for peer in claimed if peer.receive or peer.vouches]
        if not claimed:
            return f"{caller} is no [[peer]] with receive = true"
    because = [_mismatch(caller, peer) for peer in claimed]
    return "" if not because or not all(because) else because[-1]


def _mismatch(caller: Caller, peer: PeerSettings) -> str:
    """What of the caller does not fit the entry; empty where all does."""
    if not peer.calls_from(caller.address):
        return f"{caller.calling} calls from {caller.address}, which is not among its addresses"
    if peer.tls is None:
        return ""
    if caller.proof is None:
        return f"{caller} calls without TLS, and its [peer.tls] requires it" if peer.tls.required else ""
    return _wrong_certificate(caller, caller.proof, peer.tls)


def _wrong_certificate(caller: Caller, proof: Proof, wanted: PeerTlsSettings) -> str:
    if proof.fingerprint is None and (wanted.fingerprints or wanted.names):
        return f"{caller} shows no certificate, and its [peer.tls] names one"
    if wanted.fingerprints and proof.fingerprint not in wanted.fingerprints:
        shown = (proof.fingerprint or "")[:16]
        return f"{caller} shows a certificate (SHA-256 {shown}…) that is not among its fingerprints"
    if wanted.names and not proof.names.intersection(wanted.names):
        shown = ", ".join(sorted(proof.names)[:4])[:120] or "nobody"
        return f"{caller} shows a certificate for {shown}, which is not among its names"
    return ""
