"""User Identity Negotiation (PS3.7 §D.3.3.7): the user as whom a peer introduces itself.

A peer that has a `[peer.user]` has to introduce itself as that user, over TLS. Of any other peer the item is
ignored, as an acceptor may that does not support it; but where such a peer asks for a positive response it
wants to know that somebody checked, and nobody did: it is refused. Kerberos tickets, SAML assertions and JSON
web tokens (types 3 to 5) are checked by nobody here.

Nothing of what a peer sends here is logged, nor said in an event.
"""

import hmac
from collections.abc import Iterable
from dataclasses import dataclass, field

from dicom_node.peers import PeerSettings
from dicom_node.tls_settings import PeerUserSettings

NAME, NAME_AND_PASSCODE = 1, 2  #: User-Identity-Type


@dataclass(frozen=True, slots=True)
class Introduction:
    """A User Identity sub-item of an A-ASSOCIATE-RQ."""

    kind: int  #: User-Identity-Type
    primary: bytes = field(repr=False)
    secondary: bytes = field(repr=False)
    answer_wanted: bool  #: Positive-response-requested


def unproven(said: Introduction | None, peers: Iterable[PeerSettings], *, secure: bool) -> str:
    """Why the caller, who fits `peers` otherwise, is not let in as a user; empty where it is.

    `secure` is whether it came over TLS.
    """
    entries = list(peers)
    users = [peer.user for peer in entries if peer.user is not None]
    if not users:
        if said is not None and said.answer_wanted:
            return "wants its user identity to be confirmed, and has no [peer.user] here"
        return ""
    if len(users) < len(entries) and said is None:
        return ""  # Of several entries with this AE title one asks for no user.
    if said is None:
        return (
            "does not say as which user it comes (User Identity Negotiation), and its [peer.user] names one"
        )
    if not secure:
        return "sends its user identity without TLS, where anybody can read it"
    because = [_mismatch(said, user) for user in users]
    return "" if not all(because) else because[-1]


def _mismatch(said: Introduction, user: PeerUserSettings) -> str:
    wanted = NAME if user.passcode_file is None else NAME_AND_PASSCODE
    if said.kind not in (NAME, NAME_AND_PASSCODE) or said.kind < wanted:
        return f"sends a user identity of type {said.kind}, and its [peer.user] needs type {wanted}"
    fits = hmac.compare_digest(said.primary, user.name.encode())
    if user.passcode_file is not None:
        try:
            passcode = user.passcode_file.read_bytes().strip()
        except OSError as error:
            return (
                f"cannot be checked: the passcode file of its [peer.user] cannot be read ({error.strerror})"
            )
        if not passcode:
            return "cannot be checked: the passcode file of its [peer.user] is empty"
        fits &= hmac.compare_digest(said.secondary, passcode)
    return "" if fits else "sends another user name or passcode than its [peer.user] has"
