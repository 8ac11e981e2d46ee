"""Everything that a site can decide about its DICOMweb server, each with its unit and its reason."""

import ipaddress
from typing import Self
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, field_validator, model_validator

from dicom_node.limits import DataSetSettings
from dicom_node.peers import AETitleText
from dicom_node.settings import SpoolSettings
from dicom_node.tls_settings import WebTlsSettings
from ledger.settings import LedgerSettings

_GIB = 1 << 30


class DicomWebSettings(BaseModel, frozen=True, extra="forbid"):
    """How viewers and other web clients reach the studies: QIDO-RS, WADO-RS and STOW-RS."""

    enabled: bool = True
    # Whoever reaches it without a token reads every image: only programs of this machine, at first.
    host: str = "127.0.0.1"
    tls: WebTlsSettings | None = None  # None: plain HTTP, for this machine or a proxy that has TLS.
    port: int = Field(default=11180, ge=0, le=65535)  # Viewers are told http://host:port/dicom-web; 0: any.
    # SHA-256, in hexadecimal, of the bearer token of every request: `printf %s TOKEN | sha256sum`.
    # Required where others than this machine can connect.
    token_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$", repr=False)
    # Web pages from these origins may use it from a browser, such as "https://viewer.hospital.example".
    origins: tuple[str, ...] = ()
    # What others have to write before /studies where a proxy stands in between, such as
    # "https://pacs.hospital.example/dicom-web". It goes into every URL of an answer.
    public_url: str | None = None
    connections: int = Field(default=64, ge=1)  # More are answered 503 at once.
    # Of one address, so that no single machine takes every place; more are closed unread.
    connections_per_address: int = Field(default=32, ge=1)
    # Addresses of proxies in front of it. One stands for many clients: only `connections` binds it.
    proxies: frozenset[str] = frozenset()
    # For the head of a request to come whole, and before it a TLS handshake; then the connection is closed.
    head_s: float = Field(default=10.0, gt=0)
    stall_s: float = Field(
        default=30.0, gt=0
    )  # A client that takes or sends nothing for this long is let go.
    results_max: int = Field(default=5000, ge=1)  # Of one query; an answer that was cut says so.
    upload_bytes_max: int = Field(default=16 * _GIB, ge=1 << 20)  # Of one STOW-RS request.
    upload_parts_max: int = Field(default=20_000, ge=1)  # Instances in one STOW-RS request.
    instance_bytes_max: int = Field(default=2 * _GIB, ge=1 << 20)  # Of one instance in it.
    decoders: int = Field(default=2, ge=1, le=64)  # Processes that read headers and decode pixels.
    decode_s: float = Field(default=60.0, gt=0)  # For one instance or frame; then the process is killed.
    decode_bytes_max: int = Field(default=4 * _GIB, ge=1 << 28)  # Memory of one such process.

    @field_validator("origins")
    @classmethod
    def _are_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            parts = urlsplit(origin)
            if parts.scheme not in ("http", "https") or origin != f"{parts.scheme}://{parts.netloc}":
                raise ValueError(f"{origin!r} is no origin: write scheme://host or scheme://host:port")
        return origins

    @field_validator("public_url")
    @classmethod
    def _is_a_url(cls, url: str | None) -> str | None:
        if url is None:
            return None
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("public_url has to be an http or https URL without query")
        return url.rstrip("/")

    @model_validator(mode="after")
    def _strangers_need_a_token(self) -> Self:
        if self.enabled and not self.is_local and self.token_sha256 is None:
            raise ValueError(
                f"host {self.host} can be reached by others, and nothing but a token keeps them from the "
                "images: give token_sha256, or host 127.0.0.1"
            )
        return self

    @property
    def scheme(self) -> str:
        """What addresses begin with."""
        return "http" if self.tls is None else "https"

    @property
    def is_local(self) -> bool:
        """Whether only this machine can connect."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


class WebSite(BaseModel, frozen=True, extra="forbid"):
    """All that `python -m dicom_node.dicomweb` reads, as JSON, from its standard input."""

    ledger: LedgerSettings
    spool: SpoolSettings
    dicomweb: DicomWebSettings = DicomWebSettings()
    data_set: DataSetSettings = DataSetSettings()
    ae_title: AETitleText = "WETREAD"  # What STOW-RS writes where C-STORE has the called AE title.
