"""Signing in: a name and a password, then a code, and what it costs to be wrong.

Whoever is wrong learns nothing: not whether the name exists, nor whether it is locked. All answers take one
Argon2id, and say the same sentence.
"""

from dataclasses import dataclass, field
from math import ceil

from console.web.access import passwords, second_factor
from console.web.access.credentials import digest, new_secret
from console.web.access.lifetimes import ABSOLUTE_S, SECOND_FACTOR_S
from console.web.access.throttle import Rate, Throttle
from ledger.account import Account, Origin, Role, Session, local_name
from ledger.audit import Actor, AuditOutcome
from ledger.store.ledger import Ledger

WRONG = "Name or password is wrong, or the account is locked for a while because they were wrong too often."
WRONG_CODE = "That code is wrong, or was used already. Wait for the next one."
SENTENCES = (WRONG, WRONG_CODE)
STRANGER = "somebody"  #: in the audit trail; what was typed as a name may be a password
_BY_ADDRESS = Rate(burst=30, every_s=4.0)  # A ward behind one address signs in at seven in the morning.
_BY_NAME = Rate(burst=10, every_s=10.0)


class TooOften(Exception):
    """Too many tries from one address, or for one name."""

    def __init__(self, wait_s: float) -> None:
        super().__init__(f"Too many tries. The next one is looked at in {ceil(wait_s)} seconds.")
        self.wait_s = wait_s


class NotLetIn(Exception):
    """Wrong, in whatever way; the message is all that is said of it."""


@dataclass(frozen=True, slots=True)
class Came:
    """From where somebody signs in."""

    address: str
    agent: str = ""


@dataclass(frozen=True, slots=True)
class LetIn:
    """A new session: what its cookie says, and whether a code is still owed."""

    secret: str = field(repr=False)
    complete: bool


@dataclass(frozen=True, slots=True)
class Door:
    """One for the process."""

    ledger: Ledger
    addresses: Throttle = field(default_factory=lambda: Throttle(_BY_ADDRESS))
    names: Throttle = field(default_factory=lambda: Throttle(_BY_NAME))

    def password(self, name: str, password: str, came: Came, *, before: str = "") -> LetIn:
        """The first step. `before` is the cookie that the browser came with: its session ends.

        Raises `TooOften`, `NotLetIn`.
        """
        try:
            known_as = local_name(name)
        except ValueError:
            known_as = ""
        self._count(came.address, known_as)
        account = self.ledger.account_by_name(known_as) if known_as else None
        open_ = account is not None and _may_try(account, self.ledger.now())
        right = passwords.is_right(password, account.password if account is not None and open_ else "")
        if account is None or not right:
            self._wrong(account if open_ else None, "password", came)
            raise NotLetIn(WRONG)
        if passwords.is_dated(account.password):
            self.ledger.renew_hash(account.id, account.password, passwords.hashed(password))
        self.names.forget(known_as)
        return self.let_in(account, came, complete=account.totp_secret is None, before=before)

    def code(self, half: Session, code: str, came: Came, *, before: str) -> LetIn:
        """The second step: a code of the telephone, or a recovery code. Raises `TooOften`, `NotLetIn`."""
        account = self.ledger.account(half.account.id)
        self._count(came.address, account.name)
        if not _may_try(account, self.ledger.now()) or not self._is_right_code(account, code, came):
            self._wrong(account, "code", came)
            raise NotLetIn(WRONG_CODE)
        self.names.forget(account.name)
        return self.let_in(account, came, complete=True, before=before)

    def let_in(self, account: Account, came: Came, *, complete: bool, before: str = "") -> LetIn:
        """A session with a new secret, whatever the browser had before (session fixation)."""
        secret = new_secret()
        self.ledger.begin_session(
            account.id,
            digest(secret),
            complete=complete,
            address=came.address,
            agent=came.agent,
            lives_s=ABSOLUTE_S if complete else SECOND_FACTOR_S,
            instead_of=digest(before) if before else "",
        )
        return LetIn(secret, complete)

    def _is_right_code(self, account: Account, code: str, came: Came) -> bool:
        if account.totp_secret is None:  # Taken away between the two steps: begin again.
            return False
        step = second_factor.step_of(code, account.totp_secret, now=second_factor.now())
        if step is not None:
            return self.ledger.use_code(account.id, step)
        by = Actor(account.name, account.role, came.address)
        return self.ledger.use_recovery(account.id, second_factor.recovery_digest(code), by=by)

    def _count(self, address: str, name: str) -> None:
        # Both, so that the one does not tell whether the other was exhausted.
        wait = max(self.addresses.wait_s(address), self.names.wait_s(name) if name else 0.0)
        if wait > 0:
            raise TooOften(wait)

    def _wrong(self, account: Account | None, what: str, came: Came) -> None:
        if account is not None:
            self.ledger.count_failure(account.id, what, address=came.address)
            return
        by = Actor(STRANGER, Role.VIEWER, came.address)
        self.ledger.record_audit(
            by, "session.refused", outcome=AuditOutcome.REFUSED, detail={"wrong": what, "account": "none"}
        )


def _may_try(account: Account, now: float) -> bool:
    """Whether its password is looked at at all."""
    usable = account.origin is Origin.LOCAL and account.role is not Role.SERVICE and not account.disabled
    return usable and not account.locked(now)
