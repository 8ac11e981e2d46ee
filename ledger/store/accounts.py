"""Accounts: who there is, what each may do, and what is known of their passwords."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, func, insert, select, update

from ledger.account import Account, AccountId, LastAdministrator, NameTaken, Origin, Role, lock_s
from ledger.audit import Actor, AuditOutcome
from ledger.schema import account as table
from ledger.schema import api_token, audit_head, session
from ledger.store.audit import audit
from ledger.store.database import Database, NotInLedger, Transaction


class Accounts(Database):
    """What an administrator does with accounts, and what signing in does with one."""

    def accounts(self) -> list[Account]:
        """All, by name."""
        with self.read() as tx:
            rows = tx.connection.execute(select(table).order_by(table.c.name)).all()
        return [account_record(row) for row in rows]

    def account(self, account_id: AccountId) -> Account:
        """One account. Raises `NotInLedger`."""
        with self.read() as tx:
            row = tx.connection.execute(select(table).where(table.c.id == account_id)).first()
        if row is None:
            raise NotInLedger(f"there is no account {account_id}")
        return account_record(row)

    def account_by_name(self, name: str) -> Account | None:
        """The account of this name."""
        with self.read() as tx:
            row = tx.connection.execute(select(table).where(table.c.name == name)).first()
        return None if row is None else account_record(row)

    def first_account(self, name: str, password: str, *, by: Actor) -> bool:
        """Make an administrator where there is no account at all. False: there is one."""
        with self.write() as tx:
            # On PostgreSQL whoever starts at the same moment waits here; SQLite has one writer anyway.
            tx.connection.execute(select(audit_head).with_for_update())
            if tx.connection.execute(select(func.count()).select_from(table)).scalar_one():
                return False
            _add(tx, name, Role.ADMINISTRATOR, password=password, must_change=True, by=by)
            return True

    def add_account(
        self, name: str, role: Role, *, password: str, by: Actor, must_change: bool = True
    ) -> AccountId:
        """A new local account; `password` is an Argon2id hash, empty for a service. Raises `NameTaken`."""
        with self.write() as tx:
            if tx.connection.execute(select(table.c.id).where(table.c.name == name)).first() is not None:
                raise NameTaken(f"there is already an account called {name}")
            return _add(tx, name, role, password=password, must_change=must_change, by=by)

    def account_from_provider(self, subject: str, name: str, role: Role, address: str) -> Account:
        """The account of whoever the identity provider says that it is, as it says that it is now.

        `subject` is the issuer and its `sub`, which never changes. Raises `NameTaken` where another subject
        has the name.
        """
        by = Actor(name, role, address)
        with self.write() as tx:
            mine = select(table).where(table.c.subject == subject).with_for_update()
            row = tx.connection.execute(mine).first()
            holder = tx.connection.execute(select(table.c.subject).where(table.c.name == name)).first()
            if holder is not None and holder.subject != subject:
                raise NameTaken(
                    f"the name {name} belongs to another account here. If its owner has left, an "
                    f"administrator frees the name with `wetread account free {name}`"
                )
            if row is None:
                made = _add(
                    tx,
                    name,
                    role,
                    password="",
                    must_change=False,
                    by=by,
                    origin=Origin.OIDC,
                    subject=subject,
                )
                return _locked(tx, made)
            if (row.name, row.role) != (name, role):
                tx.connection.execute(update(table).where(table.c.id == row.id).values(name=name, role=role))
                audit(
                    tx,
                    by,
                    "account.changed",
                    thing_id=name,
                    detail={"before": row.role, "after": role, "said_by": "identity provider"},
                )
            return _locked(tx, AccountId(row.id))

    def lose_role(self, subject: str, address: str) -> None:
        """The identity provider gives `subject` no role any more: what his account has open is closed, its
        sessions and its tokens. Nothing happens where it has no account.
        """
        with self.write() as tx:
            mine = select(table).where(table.c.subject == subject).with_for_update()
            row = tx.connection.execute(mine).first()
            if row is None:
                return
            by = Actor(row.name, Role(row.role), address)
            ended, revoked = end_sessions(tx, row.id), revoke_tokens(tx, row.id, by=by)
            if ended or revoked:
                told = {"sessions": ended, "tokens": revoked, "said_by": "identity provider"}
                audit(tx, by, "account.role_lost", thing_id=row.name, detail=told)

    def set_role(self, account_id: AccountId, role: Role, *, by: Actor) -> None:
        """Give an account another role, from its next request
        on. Raises `NotInLedger`, `LastAdministrator`.
        """
        with self.write() as tx:
            one = _locked(tx, account_id)
            if role is not Role.ADMINISTRATOR:
                _another_administrator(tx, one)
            _set(tx, account_id, role=role)
            audit(tx, by, "account.changed", thing_id=one.name, detail={"before": one.role, "after": role})

    def disable_account(self, account_id: AccountId, *, by: Actor) -> None:
        """Sign it out everywhere and let nobody in with it; its tokens open nothing either. Raises as
        `set_role`.
        """
        with self.write() as tx:
            one = _locked(tx, account_id)
            _another_administrator(tx, one)
            _set(tx, account_id, disabled=True)
            end_sessions(tx, account_id)
            audit(tx, by, "account.disabled", thing_id=one.name)

    def enable_account(self, account_id: AccountId, *, by: Actor) -> None:
        """Let it in again. Raises `NotInLedger`."""
        with self.write() as tx:
            one = _locked(tx, account_id)
            _set(tx, account_id, disabled=False, failures=0, locked_until=None)
            audit(tx, by, "account.enabled", thing_id=one.name)

    def free_name(self, account_id: AccountId, *, by: Actor) -> str:
        """Disable an account and take its name away, so that somebody else can have it. The name that it has
        instead. Raises as `set_role`.
        """
        with self.write() as tx:
            one = _locked(tx, account_id)
            _another_administrator(tx, one)
            instead = f"{one.name}#{account_id}"
            _set(tx, account_id, disabled=True, name=instead, subject=None)
            end_sessions(tx, account_id)
            audit(tx, by, "account.disabled", thing_id=one.name, detail={"called_now": instead})
            return instead

    def set_password(
        self, account_id: AccountId, password: str, *, by: Actor, must_change: bool, but: int | None = None
    ) -> None:
        """Another password, as an Argon2id hash. All sessions of the account end, except the one `but`.

        With `must_change` somebody else chose it, who may also open a lock and take away a lost second
        factor; then the tokens of the account are revoked, too: whoever stole the password may have made
        one. Raises `NotInLedger`.
        """
        with self.write() as tx:
            one = _locked(tx, account_id)
            values: dict[str, object] = {"password": password, "must_change": must_change}
            if must_change:
                values |= {"failures": 0, "locked_until": None, "totp_secret": None, "recovery": []}
            _set(tx, account_id, **values)
            end_sessions(tx, account_id, but=but)
            if must_change:
                told = {"tokens": revoke_tokens(tx, account_id, by=by)}
                audit(tx, by, "account.reset", thing_id=one.name, detail=told)
            else:
                audit(tx, by, "account.password_changed", thing_id=one.name)

    def renew_hash(self, account_id: AccountId, before: str, after: str) -> None:
        """The same password with today's parameters, unless it was changed meanwhile."""
        with self.write() as tx:
            same = (table.c.id == account_id) & (table.c.password == before)
            tx.connection.execute(update(table).where(same).values(password=after))

    def set_second_factor(
        self, account_id: AccountId, secret: str | None, recovery: Sequence[str], *, by: Actor
    ) -> None:
        """Ask for a code of `secret` (base32) from now on, or for none. `recovery` are SHA-256 of codes for
        the day on which the telephone is lost. Raises `NotInLedger`.
        """
        with self.write() as tx:
            one = _locked(tx, account_id)
            _set(tx, account_id, totp_secret=secret, recovery=list(recovery))
            what = "account.second_factor_removed" if secret is None else "account.second_factor_set"
            audit(tx, by, what, thing_id=one.name)

    def use_code(self, account_id: AccountId, step: int) -> bool:
        """Take the code of a 30 s step as used. False: it, or a later one, was used
        before (RFC 6238 §5.2).
        """
        with self.write() as tx:
            unused = (table.c.id == account_id) & (table.c.totp_step < step)
            return tx.connection.execute(update(table).where(unused).values(totp_step=step)).rowcount == 1

    def use_recovery(self, account_id: AccountId, digest: str, *, by: Actor) -> bool:
        """Take a recovery code as used. False: there is none like it. Raises `NotInLedger`."""
        with self.write() as tx:
            one = _locked(tx, account_id)
            if digest not in one.recovery:
                return False
            left = [each for each in one.recovery if each != digest]
            _set(tx, account_id, recovery=left)
            audit(tx, by, "account.recovery_code_used", thing_id=one.name, detail={"left": len(left)})
            return True

    def count_failure(self, account_id: AccountId, what: str, *, address: str) -> Account:
        """A wrong password or code: the account as it is after it, perhaps locked for a while.

        Raises `NotInLedger`.
        """
        with self.write() as tx:
            one = _locked(tx, account_id)
            failures = one.failures + 1
            wait = lock_s(failures)
            _set(tx, account_id, failures=failures, locked_until=tx.now + wait if wait else None)
            audit(
                tx,
                Actor(one.name, one.role, address),
                "session.refused",
                thing_id=one.name,
                outcome=AuditOutcome.REFUSED,
                detail={"wrong": what, "failures": failures, "locked_s": wait},
            )
            return _locked(tx, account_id)


def account_record(row: Row[Any]) -> Account:
    """A row of `account`."""
    return Account(
        id=AccountId(row.id),
        name=row.name,
        role=Role(row.role),
        origin=Origin(row.origin),
        subject=row.subject,
        password=row.password,
        must_change=row.must_change,
        totp_secret=row.totp_secret,
        totp_step=row.totp_step,
        recovery=tuple(row.recovery),
        failures=row.failures,
        locked_until=row.locked_until,
        disabled=row.disabled,
        created_at=row.created_at,
        created_by=row.created_by,
        signed_in_at=row.signed_in_at,
    )


def end_sessions(tx: Transaction, account_id: int, *, but: int | None = None) -> int:
    """End all sessions of an account, except the one `but`; how many there were."""
    mine = (session.c.account_id == account_id) & session.c.ended_at.is_(None)
    if but is not None:
        mine &= session.c.id != but
    return tx.connection.execute(update(session).where(mine).values(ended_at=tx.now)).rowcount


def revoke_tokens(tx: Transaction, account_id: int, *, by: Actor) -> int:
    """Revoke all tokens of an account; how many there were."""
    mine = (api_token.c.account_id == account_id) & api_token.c.revoked_at.is_(None)
    values = {"revoked_at": tx.now, "revoked_by": by.name}
    return tx.connection.execute(update(api_token).where(mine).values(values)).rowcount


def _locked(tx: Transaction, account_id: AccountId) -> Account:
    row = tx.connection.execute(select(table).where(table.c.id == account_id).with_for_update()).first()
    if row is None:
        raise NotInLedger(f"there is no account {account_id}")
    return account_record(row)


def _set(tx: Transaction, account_id: AccountId, **values: object) -> None:
    tx.connection.execute(update(table).where(table.c.id == account_id).values(**values))


def _another_administrator(tx: Transaction, one: Account) -> None:
    """Raise `LastAdministrator` where, without `one`, nobody could sign in and mend things.

    Those of an identity provider do not count: it may be away on the day that matters.
    """
    could = (
        (table.c.role == Role.ADMINISTRATOR)
        & (table.c.origin == Origin.LOCAL)
        & ~table.c.disabled
        & (table.c.password != "")
        & ~table.c.name.contains("#")  # A name that was freed: nobody can type it.
    )
    able = set(tx.connection.execute(select(table.c.id).where(could).with_for_update()).scalars())
    if able == {one.id}:
        raise LastAdministrator(
            f"{one.name} is the only administrator with a password here: make another one first"
        )


def _add(
    tx: Transaction,
    name: str,
    role: Role,
    *,
    password: str,
    must_change: bool,
    by: Actor,
    origin: Origin = Origin.LOCAL,
    subject: str | None = None,
) -> AccountId:
    made = tx.connection.execute(
        insert(table)
        .values(
            name=name,
            role=role,
            origin=origin,
            subject=subject,
            password=password,
            must_change=must_change and bool(password),
            totp_secret=None,
            totp_step=0,
            recovery=[],
            failures=0,
            locked_until=None,
            disabled=False,
            created_at=tx.now,
            created_by=by.name,
            signed_in_at=None,
        )
        .returning(table.c.id)
    ).scalar_one()
    audit(tx, by, "account.added", thing_id=name, detail={"role": role, "origin": origin})
    return AccountId(made)
