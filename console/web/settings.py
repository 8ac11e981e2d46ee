"""Everything that a site can decide about its console, each with its unit and its reason."""

import ipaddress
from typing import Self
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, field_validator, model_validator

from console.web.access.oidc_settings import OidcSettings
from dicom_node.tls_settings import WebTlsSettings
from ledger.account import Role

_PORTS = {"http": 80, "https": 443}


class ConsoleSettings(BaseModel, frozen=True, extra="forbid"):
    """How operators reach the console with a browser, and other programs its API."""

    enabled: bool = True
    # Only this machine, at first. Others need TLS, here or in a proxy that public_url names.
    host: str = "127.0.0.1"
    port: int = Field(default=11181, ge=0, le=65535)  # Operators open http://host:port/; 0: any.
    tls: WebTlsSettings | None = None  # None: plain HTTP, for this machine or a proxy that has TLS.
    # What operators type where a proxy stands in between, such as "https://wetread.hospital.example".
    public_url: str | None = None
    # Addresses of proxies whose X-Forwarded-For is believed; of anybody else it is not even looked at. As one
    # stands for many browsers, only `connections` binds it.
    proxies: frozenset[str] = frozenset()
    # Roles that see patients' names without asking for them; others ask, and the audit trail says so.
    names_for: frozenset[Role] = frozenset()
    # Roles that have to have a second factor; they come no further than their own account without.
    second_factor_for: frozenset[Role] = frozenset()
    oidc: OidcSettings | None = (
        None  # The identity provider of the house; None: passwords of this console alone.
    )
    connections: int = Field(default=256, ge=8)  # Every open page holds one. More are answered 503 at once.
    # Of one address, so that no single machine takes every place; more are closed unread.
    connections_per_address: int = Field(default=128, ge=1)
    # For the head of a request to come whole, and before it a TLS handshake; then the connection is closed.
    head_s: float = Field(default=10.0, gt=0)
    stall_s: float = Field(default=30.0, gt=0)  # A browser that takes nothing for this long is let go.

    @field_validator("public_url")
    @classmethod
    def _is_a_url(cls, url: str | None) -> str | None:
        if url is None:
            return None
        parts = urlsplit(url)
        if (
            parts.scheme not in _PORTS
            or not parts.hostname
            or parts.path.strip("/")
            or any((parts.query, parts.fragment, parts.username, parts.password))
            or not url.isprintable()
            or " " in url
        ):
            raise ValueError("public_url has to be http://host or https://host, without a path")
        # As browsers write an origin (RFC 6454 §6.2): it is compared with what they say.
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        port = "" if parts.port in (None, _PORTS[parts.scheme]) else f":{parts.port}"
        return f"{parts.scheme}://{host}{port}"

    @model_validator(mode="after")
    def _passwords_are_not_for_everybody(self) -> Self:
        if self.enabled and not self.is_local and not self.is_secure:
            raise ValueError(
                f"host {self.host} can be reached by others, and passwords would cross the network as they "
                "are: give [console.tls], or a public_url that begins with https, or host 127.0.0.1"
            )
        return self

    @property
    def is_local(self) -> bool:
        """Whether only this machine can connect."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def is_secure(self) -> bool:
        """Whether browsers reach it over TLS: our own, or that of a proxy."""
        return self.tls is not None or (self.public_url or "").startswith("https://")
