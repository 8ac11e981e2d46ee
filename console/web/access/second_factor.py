"""The second factor: a code that a telephone shows (TOTP, RFC 6238), and codes for when it is lost."""

import hmac
import secrets
import time
from hashlib import sha256

import pyotp
import segno

STEP_S = 30  # RFC 6238 §4.1; what every app takes for granted.
DRIFT = 1  # Steps that a telephone's clock may be off in either direction (RFC 6238 §5.2).
RECOVERY_CODES = 8


def new_secret() -> str:
    """160 random bits in base32 (RFC 4226 §4 asks for 128)."""
    return pyotp.random_base32(32)


def is_secret(text: str) -> bool:
    """Whether it is of the form that `new_secret` makes."""
    return len(text) == 32 and set(text) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")


def step_of(code: str, secret: str, *, now: float) -> int | None:
    """The 30 s step that the code belongs to, at a time in seconds since 1970; None where it is wrong.

    All steps are looked at, whichever is right: the time that it takes says nothing.
    """
    plain = "".join(code.split())
    totp, found = pyotp.TOTP(secret), None
    for step in range(int(now // STEP_S) - DRIFT, int(now // STEP_S) + DRIFT + 1):
        if hmac.compare_digest(totp.at(step * STEP_S).encode(), plain.encode("utf-8", "replace")):
            found = step
    return found


def now() -> float:
    """The clock of the machine: a telephone compares with the world's time, not with the database's."""
    return time.time()


def address(secret: str, *, account: str, issuer: str) -> str:
    """What the telephone is told, as the `otpauth` URI that all apps read."""
    return pyotp.TOTP(secret).provisioning_uri(name=account, issuer_name=issuer)


def picture(uri: str) -> str:
    """A QR code as SVG: dark on white whatever the page's colours, for cameras expect that."""
    return segno.make(uri, error="m").svg_inline(scale=5, border=4, dark="#000", light="#fff", omitsize=True)


def recovery_codes() -> tuple[str, ...]:
    """Codes of 48 random bits each, to be printed and kept."""
    return tuple(f"{secrets.token_hex(3)}-{secrets.token_hex(3)}" for _ in range(RECOVERY_CODES))


def recovery_digest(code: str) -> str:
    """What the ledger keeps of one; blanks, dashes and capitals do not count."""
    plain = "".join(one for one in code.lower() if one.isalnum())
    return sha256(b"wetread recovery " + plain.encode()).hexdigest()
