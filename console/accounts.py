"""Accounts and the audit trail on the command line: for whoever owns the machine, and needs none.

A password or a token is printed to the terminal once, and is in no log.
"""

from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table
from rich.text import Text

from console.acting import HERE, at_the_terminal
from console.web.access import passwords
from ledger.account import Account, Origin, Role, local_name
from ledger.audit import Actor
from ledger.errors import SiteError
from ledger.store.ledger import Ledger

FIRST = "admin"  #: what the first account is called
_WETREAD = Actor("wetread", Role.ADMINISTRATOR, HERE)


class NoSuchAccount(SiteError):
    """There is no account of this name, or not of this kind."""


class TrailAltered(SiteError):
    """Somebody changed what the audit trail said."""


def first_account(ledger: Ledger) -> str | None:
    """Make an administrator where there is no account yet. The password, to be printed once; None: there was
    an account.
    """
    if ledger.accounts():
        return None  # Without an Argon2id, which takes a third of a second, at every start but the first.
    password = passwords.random_password()
    return password if ledger.first_account(FIRST, passwords.hashed(password), by=_WETREAD) else None


def first_words(password: str) -> Text:
    """What the greeting says of the first account, the one time."""
    return Text.assemble(
        ("  Sign in to the console as ", ""),
        (FIRST, "bold"),
        (" with the password ", ""),
        (password, "bold"),
        ("\n  It is shown this once, and another one is asked for when you have signed in.\n", "yellow"),
    )


def print_accounts(ledger: Ledger, console: Console) -> None:
    """All accounts, as a table."""
    found = ledger.accounts()
    if not found:
        console.print("There is no account yet: `wetread console` makes the first one.")
        return
    table = Table("name", "role", "from", "second factor", "last signed in", "state")
    now = ledger.now()
    for one in found:
        table.add_row(
            one.name,
            one.role,
            "here" if one.origin is Origin.LOCAL else "identity provider",
            "yes" if one.totp_secret else "no",
            "never"
            if one.signed_in_at is None
            else f"{datetime.fromtimestamp(one.signed_in_at, UTC):%Y-%m-%d %H:%M}Z",
            _state(one, now),
        )
    console.print(table)


def add(ledger: Ledger, name: str, role: Role, console: Console) -> None:
    """A new account; its password is printed once. Raises `SiteError`, `NameTaken`."""
    try:
        known_as = local_name(name)
    except ValueError as error:
        raise SiteError(str(error)) from None
    password = "" if role is Role.SERVICE else passwords.random_password()
    hashed = passwords.hashed(password) if password else ""
    ledger.add_account(known_as, role, password=hashed, by=at_the_terminal())
    if password:
        _tell_password(known_as, password, console)
    else:
        console.print(f"{known_as} is a service: make a token for it on the page Accounts of the console.")


def reset(ledger: Ledger, name: str, console: Console) -> None:
    """A new password for an account, whatever was wrong with it: it is let in again, locked or not, and its
    second factor and tokens are gone. Raises `NoSuchAccount`.
    """
    one = _named(ledger, name)
    if one.origin is not Origin.LOCAL or one.role is Role.SERVICE:
        raise NoSuchAccount(f"{one.name} has no password here")
    by, password = at_the_terminal(), passwords.random_password()
    ledger.set_password(one.id, passwords.hashed(password), by=by, must_change=True)
    if one.disabled:
        ledger.enable_account(one.id, by=by)
    _tell_password(one.name, password, console)


def disable(ledger: Ledger, name: str, console: Console) -> None:
    """Sign an account out everywhere. Raises `NoSuchAccount`, `LastAdministrator`."""
    one = _named(ledger, name)
    ledger.disable_account(one.id, by=at_the_terminal())
    console.print(f"{one.name} is disabled: its sessions have ended, and its tokens open nothing")


def free(ledger: Ledger, name: str, console: Console) -> None:
    """Disable an account and let somebody else have its name. Raises `NoSuchAccount`, `LastAdministrator`."""
    one = _named(ledger, name)
    instead = ledger.free_name(one.id, by=at_the_terminal())
    console.print(f"{one.name} is disabled and called {instead} from now on: the name is free")


def verify_audit(ledger: Ledger, console: Console, *, known: str = "") -> None:
    """Walk the audit trail. `known` is "NUMBER:DIGEST" of an earlier walk, to be found again in this one.

    Raises `TrailAltered`, which names the first row that is not as it was written.
    """
    found = ledger.verify_audit()
    if found.broken_at is not None:
        raise TrailAltered(f"the audit trail was altered at row {found.broken_at}: {found.because}")
    if known:
        number, _, digest = known.partition(":")
        row = ledger.audit_at(int(number)) if number.isascii() and number.isdigit() else None
        if row is None or row.digest != digest.strip().lower():
            raise TrailAltered(
                f"the audit trail fits together, and yet row {number[:20]} is not the one that was written "
                "down: everything up to there may have been made anew"
            )
    console.print(f"All {found.rows} rows of the audit trail are as they were written.")
    console.print(f"Keep this elsewhere, to know it again: {found.rows}:{found.digest}", soft_wrap=True)


def _tell_password(name: str, password: str, console: Console) -> None:
    console.print(f"{name} signs in with the password [bold]{password}[/], shown this once.")
    console.print("Another one is asked for at the first time.")


def _named(ledger: Ledger, name: str) -> Account:
    found = ledger.account_by_name(name.strip().lower())
    if found is None:
        known = ", ".join(one.name for one in ledger.accounts()) or "there is none yet"
        raise NoSuchAccount(f"there is no account called {name!r} ({known})")
    return found


def _day(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"


def _state(one: Account, now: float) -> str:
    if one.disabled:
        return "disabled"
    if one.locked(now):
        return "locked for a while"
    return "first password" if one.must_change else "active"
