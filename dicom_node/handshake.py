"""The TLS handshake under a wall-clock limit, what it proves, and in which words it fails."""

import ipaddress
import select
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from dicom_node.certificate import fingerprint

#: OpenSSL's reason → what it says of the other side; `verify_message` is better where there is one.
_WORDS = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "it shows no certificate",
    "UNSUPPORTED_PROTOCOL": "it offers no TLS 1.2 or newer",
    "VERSION_TOO_LOW": "it offers no TLS 1.2 or newer",
    "TLSV1_ALERT_PROTOCOL_VERSION": "it offers no TLS version that we speak (1.2 and 1.3)",
    "NO_SHARED_CIPHER": "it offers no cipher suite that we take",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "it takes no cipher suite or certificate of ours",
    "HTTP_REQUEST": "it does not speak TLS",
    "WRONG_VERSION_NUMBER": "it does not speak TLS",
    "UNKNOWN_PROTOCOL": "it does not speak TLS",
    "TLSV1_ALERT_UNKNOWN_CA": "it does not believe the CA of our certificate",
    "SSLV3_ALERT_BAD_CERTIFICATE": "it does not accept our certificate",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "it does not accept our certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "it says that our certificate has expired",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "it says that our certificate is revoked",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": "it does not take our kind of certificate",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "it wants a certificate of ours, and we showed none",
    "TLSV1_ALERT_ACCESS_DENIED": "it does not let us in with our certificate",
    "UNEXPECTED_EOF_WHILE_READING": "it closed the connection",
}
_VERIFY = {
    "unable to get local issuer certificate": "nobody in ca_file vouches for its certificate",
    "unable to get issuer certificate": "nobody in ca_file vouches for its certificate",
    "unable to verify the first certificate": "nobody in ca_file vouches for its certificate",
    "self-signed certificate": "its certificate is signed by itself and not in ca_file",
    "self-signed certificate in certificate chain": "nobody in ca_file vouches for its certificate",
    "certificate has expired": "its certificate has expired",
    "certificate is not yet valid": "its certificate is not valid yet: compare the clocks",
}


class HandshakeTimeout(OSError):
    """The peer did not do its part of the handshake in time, or we stop."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What TLS proved of the other end: its certificate, verified; nothing of one where it showed none."""

    fingerprint: str | None  #: SHA-256, in hexadecimal
    names: frozenset[str] = frozenset()  #: DNS names and IP addresses of its Subject Alternative Name


def shake_hands(connection: ssl.SSLSocket, left: Callable[[], float]) -> None:
    """Finish the handshake; `left` gives the seconds to wait, and raises when there are none.

    A byte now and then does not extend it. Raises `OSError` (`ssl.SSLError` is one), see `words`.
    """
    connection.settimeout(0.0)
    done = False
    while not done:
        try:
            connection.do_handshake()
            done = True
        except ssl.SSLWantReadError:
            _wait(connection, select.POLLIN, left())
        except ssl.SSLWantWriteError:
            _wait(connection, select.POLLOUT, left())


def proof_of(connection: ssl.SSLSocket) -> Proof:
    """What the other end of an established connection proved."""
    der = connection.getpeercert(binary_form=True)
    if not der:
        return Proof(None)
    said: Any = connection.getpeercert() or {}
    return Proof(fingerprint(der), frozenset(_names(said.get("subjectAltName", ()))))


def _names(said: tuple[tuple[str, str], ...]) -> set[str]:
    names = {value.lower() for kind, value in said if kind == "DNS"}
    for kind, value in said:
        if kind == "IP Address":
            with suppress(ValueError):
                names.add(str(ipaddress.ip_address(value.strip())))
    return names


def words(error: OSError) -> str:
    """What a failed handshake says of the other side."""
    if isinstance(error, HandshakeTimeout):
        return str(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        said = error.verify_message
        if said in _VERIFY:
            return _VERIFY[said]
        if "mismatch" in said or "not valid for" in said:
            return f"its certificate is for another name ({said})"
        return f"its certificate is not accepted ({said})"
    if isinstance(error, ssl.SSLError):
        reason = error.reason or (
            "UNEXPECTED_EOF_WHILE_READING" if isinstance(error, ssl.SSLEOFError) else ""
        )
        return _WORDS.get(reason) or f"TLS fails ({(reason or 'no reason').lower().replace('_', ' ')})"
    return "it closed the connection"


def is_goodbye(error: OSError) -> bool:
    """Whether the other side only closed the connection, as monitors do that look whether a port is open."""
    return isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError | ConnectionError)


def _wait(connection: ssl.SSLSocket, event: int, seconds: float) -> None:
    poll = select.poll()
    poll.register(connection, event)
    poll.poll(max(0.0, seconds) * 1000)
