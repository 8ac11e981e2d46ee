"""How people sign in with the identity provider of the house (OpenID Connect Core 1.0)."""

import ipaddress
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, field_validator, model_validator

from ledger.account import Role

#: Signatures that only the provider can make. Never "none", and never HS256, whose key would be known here.
Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]


class OidcSettings(BaseModel, frozen=True, extra="forbid"):
    """One provider: Keycloak, Entra ID, ADFS, Authentik, …"""

    # As the provider writes it in its own description, to the letter: what is below it is found from there.
    issuer: str
    client_id: str = Field(min_length=1)
    # A file that holds the client's secret, readable for Wetread only; None: a public client.
    client_secret_file: Path | None = None
    name: str = "single sign-on"  # What the button says: "Sign in with …".
    # Which claim of the ID token says what somebody may do, with dots for what lies inside:
    # "realm_access.roles" for Keycloak, "roles" or "groups" for Entra ID.
    role_claim: str = "groups"
    # Value of that claim → role here. Of several counts administrator before operator, viewer, auditor.
    roles: dict[str, Role] = Field(min_length=1)
    name_claim: str = "preferred_username"  # What somebody is called here.
    scopes: tuple[str, ...] = ("openid", "profile")
    algorithms: tuple[Algorithm, ...] = ("RS256", "PS256", "ES256")  # Which signatures are believed.
    ca: Path | None = None  # Certificates of the house's own authority, as PEM; None: those of the system.
    timeout_s: float = Field(default=10.0, gt=0)  # The provider has to answer within.
    leeway_s: float = Field(default=60.0, ge=0, le=300)  # How far its clock may be from ours.

    @field_validator("issuer")
    @classmethod
    def _is_over_tls(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme == "https" and parts.hostname:
            return url
        if parts.scheme == "http" and _is_here(parts.hostname or ""):
            return url
        raise ValueError("issuer has to begin with https://: who listens in between could be anybody")

    @field_validator("roles")
    @classmethod
    def _no_service_signs_in(cls, roles: dict[str, Role]) -> dict[str, Role]:
        if Role.SERVICE in roles.values():
            raise ValueError("a service has a token and does not sign in: map claims to the other roles")
        return roles

    @model_validator(mode="after")
    def _asks_for_an_id_token(self) -> Self:
        if "openid" not in self.scopes:
            raise ValueError('scopes has to contain "openid"')
        return self


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
