"""How a peer is reached over DICOMweb (PS3.18): where its services are, and who we say we are.

Secrets are never settings: every one is named by a file, which is read for each exchange. So a token that was
renewed, or a certificate, counts from the next exchange on, and nothing is restarted.
"""

import ipaddress
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, field_validator, model_validator

_MIB = 1 << 20

#: auth → the files that it needs
_NEEDS: dict[str, tuple[str, ...]] = {
    "none": (),
    "basic": ("login_file",),
    "bearer": ("token_file",),
    "certificate": ("certificate_file",),
}


class WebPeerSettings(BaseModel, frozen=True, extra="forbid"):
    """`[peer.web]`, below the `[[peer]]` that it belongs to."""

    # What stands before /studies in every address, such as "https://pacs.hospital.example/dicom-web".
    url: str
    # Where an archive has single services elsewhere, the same for those: search (QIDO-RS), retrieval
    # (WADO-RS), storage (STOW-RS).
    qido_url: str | None = None
    wado_url: str | None = None
    stow_url: str | None = None
    # Results go by STOW-RS. With false they go by C-STORE, and the web is for questions and retrieval.
    store: bool = True

    auth: Literal["none", "basic", "bearer", "certificate"] = "none"
    login_file: Path | None = None  # basic: one line, user:password
    token_file: Path | None = None  # bearer: one line, the token
    certificate_file: Path | None = None  # certificate: ours, with its chain, in PEM
    key_file: Path | None = None  # Its key in PEM, unless that stands in certificate_file.
    ca_file: Path | None = None  # Who vouches for the server, in PEM; none means whom this machine trusts.

    # Of one answer to a question or to STOW-RS: what a list of 10,000 studies does not reach.
    answer_bytes_max: int = Field(default=32 * _MIB, ge=_MIB)
    # Of one answer to a retrieval: longer than the largest study that is fetched.
    retrieve_bytes_max: int = Field(default=16_384 * _MIB, ge=_MIB)

    @field_validator("url", "qido_url", "wado_url", "stow_url")
    @classmethod
    def _is_a_url(cls, url: str | None) -> str | None:
        if url is None:
            return None
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("has to be an http or https URL without query")
        if "@" in parts.netloc:
            raise ValueError('no user and password in a URL: give auth = "basic" and a login_file')
        return url.rstrip("/")

    @model_validator(mode="after")
    def _secrets_fit(self) -> Self:
        for needed in _NEEDS[self.auth]:
            if getattr(self, needed) is None:
                raise ValueError(f'auth = "{self.auth}" needs {needed}')
        for auth, files in _NEEDS.items():
            for given in files:
                if auth != self.auth and getattr(self, given) is not None:
                    raise ValueError(f'{given} is given, but auth is "{self.auth}": "{auth}" uses it')
        if self.key_file is not None and self.certificate_file is None:
            raise ValueError("key_file is given, but no certificate_file")
        for url in self.urls:
            parts = urlsplit(url)
            if parts.scheme == "http" and self.auth == "certificate":
                raise ValueError(f'auth = "certificate" needs https, and {url} is not')
            if parts.scheme == "http" and self.auth != "none" and not is_this_machine(parts.hostname or ""):
                raise ValueError(f'auth = "{self.auth}" over {url} would show the secret to everybody: https')
        return self

    @property
    def urls(self) -> tuple[str, ...]:
        """Every address that is named."""
        return tuple(url for url in (self.url, self.qido_url, self.wado_url, self.stow_url) if url)

    def under(self, folder: Path) -> Self:
        """The same with relative paths seen from `folder`."""
        names = ("login_file", "token_file", "certificate_file", "key_file", "ca_file")
        given = {name: getattr(self, name) for name in names}
        return self.model_copy(update={name: folder / path for name, path in given.items() if path})


def is_this_machine(host: str) -> bool:
    """Whether what goes to `host` never leaves this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
