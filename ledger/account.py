"""
Who may use the console: accounts, the sessions of their browsers, and tokens for programs.

Rule 1: no secret is kept that could be used again. Of a password there is its Argon2id hash, of a session and
of a token the SHA-256 of 256 random bits; only the shared secret of a second factor has to be kept as it is.
Rule 2: a session or a token gives never more than its account may do at this moment.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NewType

from ledger.errors import WetreadError

AccountId = NewType("AccountId", int)
SessionId = NewType("SessionId", int)
TokenId = NewType("TokenId", int)

#: Without "@", which every name from an identity provider has: no provider can claim a local name.
_LOCAL_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
FREE_FAILURES = 4  #: Wrong passwords in a row that cost nothing but the time to type them again.
FIRST_LOCK_S = 30.0
LONGEST_LOCK_S = 900.0  #: Not for ever: whoever knows a name could otherwise shut its owner out.


class Role(StrEnum):
    """What somebody is here for. `console.web.access.table` says what each may do."""

    VIEWER = "viewer"  #: Looks.
    OPERATOR = "operator"  #: Looks, and decides about studies, jobs and deliveries.
    ADMINISTRATOR = "administrator"  #: Also about peers, rules, models and accounts.
    AUDITOR = "auditor"  #: Reads who did what, and nothing about patients.
    SERVICE = "service"  #: A program with a token; it cannot sign in.


class Origin(StrEnum):
    """Who knows the password."""

    LOCAL = "local"
    OIDC = "oidc"  #: The identity provider of the house.


def local_name(text: str) -> str:
    """The name of a local account as it is kept. Raises `ValueError`, with a sentence."""
    name = text.strip().lower()
    if not _LOCAL_NAME.fullmatch(name):
        raise ValueError(
            f"{text[:80]!r} cannot be the name of an account: up to 63 letters a-z, digits, dots, dashes and "
            "underscores, and a letter or a digit first"
        )
    return name


def lock_s(failures: int) -> float:
    """For how many seconds an account takes no password after `failures` wrong ones in a row."""
    if failures <= FREE_FAILURES:
        return 0.0
    # The exponent is bounded, for 2.0 ** 1100 is no number.
    return min(LONGEST_LOCK_S, FIRST_LOCK_S * 2.0 ** min(failures - FREE_FAILURES - 1, 30))


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Somebody, or a program. What only checking a password needs is not part of its `repr`."""

    id: AccountId
    name: str
    role: Role
    origin: Origin
    subject: str | None  #: issuer and `sub` at the identity provider
    password: str = field(repr=False)  #: Argon2id, in PHC format; empty where there is none
    must_change: bool  #: the password was chosen by somebody else
    totp_secret: str | None = field(repr=False)  #: base32, RFC 6238; None: no second factor
    totp_step: int  #: the last 30 s step of which a code was used; each is good once
    recovery: Sequence[str] = field(repr=False)  #: SHA-256 of the recovery codes that are left
    failures: int  #: wrong passwords or codes since the last right one
    locked_until: float | None
    disabled: bool
    created_at: float
    created_by: str
    signed_in_at: float | None

    def locked(self, now: float) -> bool:
        """Whether no password is looked at now."""
        return self.locked_until is not None and now < self.locked_until


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A browser in which somebody is signed in, or has given the password and owes the second factor."""

    id: SessionId
    account: Account
    complete: bool  #: False: the second factor is still owed, and the session is good for nothing else
    created_at: float
    seen_at: float
    expires_at: float  #: at the latest, however busy it is
    address: str
    agent: str  #: what the browser says that it is
    names_until: float | None  #: patients' names were asked for, and are shown until then
    ended_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiToken:
    """What a program shows instead of a password: 256 random bits, of which the ledger has the SHA-256."""

    id: TokenId
    account: Account
    label: str  #: what it is for
    role: Role
    permissions: Sequence[str] | None  #: only these of the role's; None: all of them
    created_at: float
    created_by: str
    expires_at: float
    used_at: float | None
    used_from: str | None  #: address
    revoked_at: float | None
    revoked_by: str | None

    def good(self, now: float) -> bool:
        """Whether it opens anything at all."""
        return self.revoked_at is None and now < self.expires_at and not self.account.disabled


@dataclass(frozen=True, slots=True, kw_only=True)
class SignInRequest:
    """A browser that was sent to the identity provider, and what has to come back with it."""

    nonce: str = field(repr=False)
    verifier: str = field(repr=False)  #: of PKCE, RFC 7636
    back_to: str  #: the page that was asked for


class NameTaken(WetreadError):
    """There is an account of this name."""


class LastAdministrator(WetreadError):
    """Nobody would be left who can sign in with a password of ours and change what has to be changed."""
