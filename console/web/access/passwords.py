"""
Passwords: Argon2id (RFC 9106), and the same time for everybody who gives a wrong one.

Its parameters are the second recommendation of RFC 9106 §4, for machines that cannot spare 2 GiB: 64 MiB,
three passes, four lanes. That is a third of a second here, which nobody notices who types a password, and 64
MiB for each guess of whoever has stolen the ledger. Hashes with other parameters are renewed when they are
next used.
"""

import secrets
import threading

from argon2 import PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError

SHORTEST = 12  #: characters; NIST SP 800-63B-4 asks for 15 without a second factor and 8 with one
LONGEST = 256  #: characters; more is no password but an attempt to keep us busy
LENGTH = f"A password has {SHORTEST} to {LONGEST} characters: a few words will do."
GUESSED = "That is guessed too easily: take a few words that have nothing to do with it."
THE_SAME = "That is the password that you have."
SENTENCES = (LENGTH, GUESSED, THE_SAME)
_HASHER = PasswordHasher(
    time_cost=3, memory_cost=65_536, parallelism=4, hash_len=32, salt_len=16, type=Type.ID
)
# Three at a time, 192 MiB: whoever tries many passwords at once waits for himself.
_AT_ONCE = threading.BoundedSemaphore(3)
_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"  # Nothing that is mistaken for something else when read aloud.


class WeakPassword(ValueError):
    """A new password that is too easily guessed; the message says what is asked for."""


def hashed(password: str) -> str:
    """The Argon2id hash of a password, in PHC format."""
    with _AT_ONCE:
        return _HASHER.hash(password)


# Compared with where there is no account, or none with a password, so that the answer takes as long.
_NOBODYS = hashed(secrets.token_urlsafe(32))


def is_right(password: str, known: str) -> bool:
    """Whether `password` has the hash `known`; an empty one takes as long, and is never right."""
    with _AT_ONCE:
        try:
            return _HASHER.verify(known or _NOBODYS, password[: LONGEST + 1]) and bool(known)
        except (VerificationError, InvalidHashError):
            return False


def is_dated(known: str) -> bool:
    """Whether a hash was made with other parameters than today's."""
    return _HASHER.check_needs_rehash(known)


def random_password() -> str:
    """Five groups of four characters: 100 random bits, to be read from a terminal and typed once."""
    return "-".join("".join(secrets.choice(_ALPHABET) for _ in range(4)) for _ in range(5))


def check_new(password: str, *, name: str, before: str = "") -> None:
    """Raise `WeakPassword` where it may not become the password of the account `name`.

    Length counts, and what is guessed first is refused; no rule asks for digits or signs, for such rules make
    worse passwords (NIST SP 800-63B-4 §3.1.1.2).
    """
    if not SHORTEST <= len(password) <= LONGEST:
        raise WeakPassword(LENGTH)
    if len(set(password.lower())) < 5 or name.lower() in password.lower() or "wetread" in password.lower():
        raise WeakPassword(GUESSED)
    if before and password == before:
        raise WeakPassword(THE_SAME)
