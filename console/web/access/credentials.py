"""What browsers and programs carry: 256 random bits, of which the ledger knows the SHA-256."""

import secrets
from dataclasses import dataclass
from hashlib import sha256

TOKEN_PREFIX = "wetread_"  # noqa: S105  So that scanners of source code recognise one that was lost.


def new_secret() -> str:
    """256 random bits for a cookie, in URL-safe characters."""
    return secrets.token_urlsafe(32)


def new_token() -> str:
    """256 random bits for a program."""
    return TOKEN_PREFIX + secrets.token_urlsafe(32)


def digest(secret: str) -> str:
    """What the ledger keeps. Random bits need no slow hash: there is nothing to guess."""
    return sha256(secret.encode("utf-8", "replace")).hexdigest()


def bearer(header: str | None) -> str | None:
    """The token of an Authorization header (RFC 6750 §2.1); None where there is none of ours."""
    scheme, _, token = (header or "").partition(" ")
    token = token.strip()
    return token if scheme.lower() == "bearer" and token.startswith(TOKEN_PREFIX) else None


@dataclass(frozen=True, slots=True)
class Cookie:
    """The session's cookie: over TLS it is bound to this host, and to nothing below or beside it
    (RFC 6265bis §4.1.3.2). Without TLS, which only this machine may use, browsers take no such name.
    """

    secure: bool
    what: str = ""

    @property
    def name(self) -> str:
        """How it is called."""
        return f"{'__Host-' if self.secure else ''}wetread{self.what}"

    def said(self, value: str) -> str:
        """The Set-Cookie header. No lifetime: it goes with the browser, and the ledger knows when it ends."""
        secure = "; Secure" if self.secure else ""
        return f"{self.name}={value}; Path=/; HttpOnly; SameSite=Lax{secure}"

    def gone(self) -> str:
        """The Set-Cookie header that takes it away."""
        return f"{self.said('')}; Max-Age=0"
