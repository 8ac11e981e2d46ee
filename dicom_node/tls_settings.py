"""What a site decides about DICOM over TLS: where its certificates lie, and how it knows whom it talks to.

The files are read by whoever uses them, when they are used: a renewed certificate counts without a restart.
"""

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, Field, model_validator

Profile = Literal["B.12", "B.13"]
_FILES = ("certificate_file", "key_file", "key_password_file", "ca_file")


def _fingerprint(text: str) -> str:
    digits = text.strip().lower().removeprefix("sha256").strip(" :=").replace(":", "")
    if not re.fullmatch(r"[0-9a-f]{64}", digits):
        raise ValueError(
            "that is no SHA-256 fingerprint: `openssl x509 -noout -fingerprint -sha256 -in FILE`"
        )
    return digits


def _name(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return text.strip().lower()


FingerprintText = Annotated[str, AfterValidator(_fingerprint)]
NameText = Annotated[str, Field(min_length=1), AfterValidator(_name)]


class _Files(BaseModel, frozen=True, extra="forbid"):
    def under(self, folder: Path) -> Self:
        """The same with relative file names seen from `folder`."""
        placed: dict[str, Path | None] = {name: getattr(self, name, None) for name in _FILES}
        return self.model_copy(update={name: folder / path for name, path in placed.items() if path})

    @property
    def files(self) -> tuple[Path, ...]:
        """Those that are named; of ours the certificate comes first."""
        return tuple(path for path in (getattr(self, name, None) for name in _FILES) if path)


class NodeTlsSettings(_Files, frozen=True, extra="forbid"):
    """How others reach the node over TLS, and what they have to show (PS3.15 §B.12, §B.13)."""

    port: int = Field(default=2762, ge=0, le=65535)  # Registered as dicom-tls; 0 is any free one.
    certificate_file: Path  # Ours in PEM, with what is needed to trace it to the CA behind it.
    key_file: Path | None = None  # Its key in PEM, unless that stands in certificate_file.
    key_password_file: Path | None = None  # The password of the key, if it has one.
    ca_file: Path  # Whose certificates are believed, in PEM: the hospital's CA, or those of single machines.
    # "B.12": TLS 1.2 or 1.3 with the suites that RFC 9325 recommends. "B.13": all that §B.13 permits and
    # OpenSSL has, for peers that want ChaCha20 or AES-CCM.
    profile: Profile = "B.12"
    # Who shows no certificate is let in under "optional" only, and under no AE title that has a [peer.tls]
    # with fingerprints or names.
    client_certificate: Literal["required", "optional"] = "required"
    handshake_s: float = Field(default=5.0, gt=0)  # In all, and in a thread of its own: nobody else waits.
    # Whether [node] port takes plain DICOM as well. False: it answers nothing but this machine's own question
    # whether the node lives.
    plain: bool = True


class WebTlsSettings(_Files, frozen=True, extra="forbid"):
    """HTTPS for the DICOMweb server: the same files and rules as for the node."""

    certificate_file: Path  # Ours in PEM, with what is needed to trace it to the CA behind it.
    key_file: Path | None = None  # Its key in PEM, unless that stands in certificate_file.
    key_password_file: Path | None = None  # The password of the key, if it has one.
    # Clients have to show a certificate that is believed by this file; none: the token is enough.
    ca_file: Path | None = None
    profile: Profile = "B.12"


class PeerTlsSettings(_Files, frozen=True, extra="forbid"):
    """How a peer is reached over TLS, and how it proves who it is when it calls."""

    send: bool = True  # It is called over TLS, and never without.
    required: bool = True  # It has to call over TLS; false only while a site changes over.
    # What has to be in its certificate when it calls; each of the two that is given has to fit.
    fingerprints: tuple[FingerprintText, ...] = ()  # SHA-256 of the certificate; two while it is renewed.
    names: tuple[NameText, ...] = ()  # One of these, as DNS name or IP address (Subject Alternative Name).
    # When it is called, its certificate has to be for this name; none: for its `host`.
    server_name: str | None = Field(default=None, min_length=1)
    # False where its certificate names no host, as of many devices: then its fingerprint has to be given.
    check_name: bool = True
    certificate_file: Path | None = None  # What we show it; none: that of [node.tls].
    key_file: Path | None = None
    key_password_file: Path | None = None
    ca_file: Path | None = None  # Who vouches for it; none: the CA of [node.tls].
    profile: Profile = "B.12"

    @model_validator(mode="after")
    def _is_somebody(self) -> Self:
        if not self.check_name and not self.fingerprints:
            raise ValueError(
                "check_name = false needs fingerprints: else any machine of the CA could be this peer"
            )
        if self.key_file is not None and self.certificate_file is None:
            raise ValueError("key_file is given, but no certificate_file")
        return self

    def completed(self, node: NodeTlsSettings | None) -> Self:
        """The same with the files of the node where it names none of its own."""
        if node is None:
            return self
        filled: dict[str, Path | None] = {"ca_file": self.ca_file or node.ca_file}
        if self.certificate_file is None:
            filled |= {name: getattr(node, name) for name in _FILES[:3]}
        return self.model_copy(update=filled)


class PeerUserSettings(BaseModel, frozen=True, extra="forbid"):
    """The user as whom a peer has to introduce itself (User Identity Negotiation, PS3.7 §D.3.3.7)."""

    name: str = Field(min_length=1)
    # A file with the passcode. Given: the peer has to know it (type 2); none: the name is enough (type 1).
    passcode_file: Path | None = None

    def under(self, folder: Path) -> Self:
        """The same with a relative file name seen from `folder`."""
        if self.passcode_file is None:
            return self
        return self.model_copy(update={"passcode_file": folder / self.passcode_file})
