"""
What an ID token has to say before anybody is let in for it (OpenID Connect Core 1.0 §3.1.3.7).

Every check that fails is a `NotBelieved` with a sentence; none of them quotes the token.
"""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import jwt
from jwt import PyJWK

from console.web.access.oidc_settings import OidcSettings
from ledger.account import Role
from ledger.errors import PeerError

#: Whoever has several is here for the first.
_RANK = (Role.ADMINISTRATOR, Role.OPERATOR, Role.VIEWER, Role.AUDITOR)
_NAME_MAX = 150


class NotBelieved(PeerError):
    """What the identity provider sent does not prove who somebody is."""


class NoRole(PeerError):
    """The identity provider knows somebody, and says nothing of what he may do here."""

    def __init__(self, subject: str, said: str) -> None:
        super().__init__(said)
        self.subject = subject  #: whom the token proves: issuer and `sub`


@dataclass(frozen=True, slots=True)
class Known:
    """Who the provider says that it is."""

    subject: str  #: issuer and `sub`
    name: str
    role: Role


def header_of(token: str, settings: OidcSettings) -> tuple[str, str]:
    """(algorithm, key id) of an ID token, before anything of it is believed. Raises `NotBelieved`."""
    try:
        header = jwt.get_unverified_header(token)
    except jwt.PyJWTError:
        raise NotBelieved("the identity provider sent no readable ID token") from None
    algorithm, key = header.get("alg"), header.get("kid", "")
    if algorithm not in settings.algorithms:
        raise NotBelieved(
            f"the ID token is signed with {str(algorithm)[:20]!r}, which is not believed here (algorithms in "
            f"[console.oidc]: {', '.join(settings.algorithms)})"
        )
    return str(algorithm), str(key)


def known(
    token: str, key: PyJWK, algorithm: str, *, nonce: str, issuer: str, settings: OidcSettings
) -> Known:
    """Who it is. Raises `NotBelieved`, `NoRole`."""
    # A public key must not be taken for the secret of an HMAC, nor a key for another algorithm than its own.
    if key.key_type == "oct" or (key.algorithm_name and key.algorithm_name != algorithm):
        raise NotBelieved("the ID token is signed with another algorithm than its key is for")
    try:
        claims = jwt.decode(
            token,
            key.key,
            algorithms=[algorithm],
            audience=settings.client_id,
            issuer=issuer,
            leeway=settings.leeway_s,
            options={"require": ["exp", "iat", "iss", "aud", "sub"]},
        )
    except jwt.ExpiredSignatureError:
        raise NotBelieved("the ID token has expired: compare the clocks of both machines") from None
    except jwt.ImmatureSignatureError:
        raise NotBelieved("the ID token is from the future: compare the clocks of both machines") from None
    except jwt.InvalidAudienceError:
        raise NotBelieved("the ID token is meant for another program: compare client_id") from None
    except jwt.InvalidIssuerError:
        raise NotBelieved("the ID token is of another identity provider: compare issuer") from None
    except jwt.MissingRequiredClaimError as error:
        raise NotBelieved(f"the ID token lacks the claim {error.claim}") from None
    except (jwt.PyJWTError, TypeError, ValueError):
        raise NotBelieved("the signature of the ID token is wrong") from None
    several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
    if (several or "azp" in claims) and claims.get("azp") != settings.client_id:
        raise NotBelieved("the ID token was given to another program: compare client_id")
    said = claims.get("nonce")
    if not isinstance(said, str) or not hmac.compare_digest(said.encode(), nonce.encode()):
        raise NotBelieved("the ID token is not the answer to what this browser asked")
    subject = claims["sub"]
    if not isinstance(subject, str) or not 0 < len(subject) <= 255:
        raise NotBelieved("the ID token does not say who it is about")
    role = role_of(claims, settings)
    if role is None:
        raise NoRole(
            f"{issuer}|{subject}",
            f"the identity provider gives you no role here: {settings.role_claim} has to contain one of "
            f"{', '.join(sorted(settings.roles))}. Ask whoever administers it",
        )
    return Known(f"{issuer}|{subject}", _name(claims, issuer, settings), role)


def role_of(claims: Mapping[str, Any], settings: OidcSettings) -> Role | None:
    """The role that a claim gives."""
    value: Any = claims
    for part in [settings.role_claim] if settings.role_claim in claims else settings.role_claim.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    values = value if isinstance(value, list) else [value]
    found = {settings.roles[one] for one in values if isinstance(one, str) and one in settings.roles}
    return next((role for role in _RANK if role in found), None)


def _name(claims: Mapping[str, Any], issuer: str, settings: OidcSettings) -> str:
    """With "@": what a provider says can never be the name of a local account."""
    said = claims.get(settings.name_claim) or claims["sub"]
    name = "".join(one for one in str(said) if one.isprintable() and not one.isspace())[:_NAME_MAX].lower()
    return name if "@" in name else f"{name}@{urlsplit(issuer).hostname}"
