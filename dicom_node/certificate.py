"""What we have to know of a certificate: who it is, and how long it is good.

Whether it is to be trusted is decided by OpenSSL, and by nothing here. The standard library tells when a
certificate ends only of a peer that has been verified; of our own we read the two dates ourselves: two levels
of DER (RFC 5280 §4.1), and every length is checked against the bytes at hand.
"""

import hashlib
import re
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

_SEQUENCE, _VERSION, _UTC_TIME, _GENERALIZED_TIME = 0x30, 0xA0, 0x17, 0x18
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


class NoCertificate(ValueError):
    """A file holds no certificate that can be read."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """One certificate; times in seconds since 1970."""

    fingerprint: str  #: SHA-256 of its DER form, in hexadecimal
    begins_at: float
    ends_at: float


def fingerprint(der: bytes) -> str:
    """SHA-256 of a certificate in DER form, in hexadecimal (`openssl x509 -fingerprint -sha256`)."""
    return hashlib.sha256(der).hexdigest()


def read_certificate(path: Path) -> Certificate:
    """The first certificate of a PEM file: the one that is shown. Raises `NoCertificate`, `OSError`."""
    return read_certificates(path)[0]


def read_certificates(path: Path) -> list[Certificate]:
    """All certificates of a PEM file, of which there is one at least. Raises `NoCertificate`, `OSError`."""
    found = _PEM.findall(path.read_bytes())
    if not found:
        raise NoCertificate(f"{path} holds no certificate in PEM (-----BEGIN CERTIFICATE-----)")
    try:
        ders = [ssl.PEM_cert_to_DER_cert(pem.decode("ascii")) for pem in found]
        return [Certificate(fingerprint(der), *_validity(der)) for der in ders]
    except (ValueError, IndexError, UnicodeDecodeError) as error:
        raise NoCertificate(f"{path} holds a certificate that cannot be read") from error


def _validity(der: bytes) -> tuple[float, float]:
    """Of Certificate → tbsCertificate → version, serialNumber, signature, issuer, validity."""
    _, whole, _ = _take(der)
    _, rest, _ = _take(whole)
    tag, _, after = _take(rest)
    if tag == _VERSION:  # It is absent in version 1.
        rest = after
    for _ in ("serialNumber", "signature", "issuer"):
        _, _, rest = _take(rest)
    tag, validity, _ = _take(rest)
    if tag != _SEQUENCE:
        raise ValueError("no validity")
    kind, begins, after = _take(validity)
    other, ends, _ = _take(after)
    return _time(kind, begins), _time(other, ends)


def _take(data: bytes) -> tuple[int, bytes, bytes]:
    """Tag and value of the first element, and what follows it."""
    tag, length, start = data[0], data[1], 2
    if length & 0x80:
        size = length & 0x7F
        length, start = int.from_bytes(data[2 : 2 + size], "big"), 2 + size
    if start + length > len(data):
        raise ValueError("an element is longer than what holds it")
    return tag, data[start : start + length], data[start + length :]


def _time(kind: int, text: bytes) -> float:
    """Dates through 2049 have two digits for the year (RFC 5280 §4.1.2.5)."""
    digits = text.decode("ascii").removesuffix("Z")
    if kind == _UTC_TIME:
        digits = ("20" if int(digits[:2]) < 50 else "19") + digits
    elif kind != _GENERALIZED_TIME:
        raise ValueError("no time")
    return datetime.strptime(digits, "%Y%m%d%H%M%S").replace(tzinfo=UTC).timestamp()
