"""Tokens of programs, by the SHA-256 of what they show."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, Select, insert, select, update

from ledger.account import AccountId, ApiToken, Role, TokenId
from ledger.audit import Actor, plain
from ledger.schema import account
from ledger.schema import api_token as table
from ledger.store.accounts import account_record
from ledger.store.audit import audit
from ledger.store.database import Database, NotInLedger

_USED_EVERY_S = 60.0  # A program that asks every second is told of once a minute.


class Tokens(Database):
    """Making, finding and revoking tokens."""

    def add_token(
        self,
        account_id: AccountId,
        digest: str,
        *,
        label: str,
        role: Role,
        permissions: Sequence[str] | None,
        lives_s: float,
        by: Actor,
    ) -> TokenId:
        """A token of an account. Raises `NotInLedger`."""
        with self.write() as tx:
            known = select(account.c.name).where(account.c.id == account_id, ~account.c.disabled)
            name = tx.connection.execute(known).scalar()
            if name is None:
                raise NotInLedger(f"there is no account {account_id} that may have a token")
            values = {
                "digest": digest,
                "account_id": account_id,
                "label": plain(label, 100),
                "role": role,
                "permissions": None if permissions is None else sorted(permissions),
                "created_at": tx.now,
                "created_by": by.name,
                "expires_at": tx.now + lives_s,
            }
            made = tx.connection.execute(insert(table).values(values).returning(table.c.id)).scalar_one()
            told = {"account": name, "role": role, "permissions": permissions, "expires_at": tx.now + lives_s}
            audit(tx, by, "token.added", thing_id=made, detail=told)
            return TokenId(made)

    def token(self, digest: str) -> ApiToken | None:
        """The token with this digest, if it opens anything."""
        with self.read() as tx:
            row = tx.connection.execute(_query().where(table.c.digest == digest)).first()
            if row is None:
                return None
            one = _record(row)
            return one if one.good(tx.now) else None

    def touch_token(self, one: ApiToken, address: str) -> None:
        """Somebody used it just now, from there."""
        with self.read() as tx:
            if one.used_at is not None and tx.now - one.used_at < _USED_EVERY_S and one.used_from == address:
                return
        with self.write() as tx:
            values = {"used_at": tx.now, "used_from": plain(address, 64)}
            tx.connection.execute(update(table).where(table.c.id == one.id).values(values))

    def tokens(self, account_id: AccountId | None = None) -> list[ApiToken]:
        """All tokens that were not revoked, of one account or of all, the latest first."""
        query = _query().where(table.c.revoked_at.is_(None)).order_by(table.c.id.desc())
        if account_id is not None:
            query = query.where(table.c.account_id == account_id)
        with self.read() as tx:
            return [_record(row) for row in tx.connection.execute(query)]

    def revoke_token(self, token_id: TokenId, *, by: Actor, of: AccountId | None = None) -> None:
        """From now on it opens nothing. Raises `NotInLedger`; also where it is not one `of` this account."""
        with self.write() as tx:
            mine = (table.c.id == token_id) & table.c.revoked_at.is_(None)
            if of is not None:
                mine &= table.c.account_id == of
            values = {"revoked_at": tx.now, "revoked_by": by.name}
            if tx.connection.execute(update(table).where(mine).values(values)).rowcount != 1:
                raise NotInLedger(f"there is no token {token_id} that could be revoked")
            audit(tx, by, "token.revoked", thing_id=token_id)


_TOKEN = [column.label(f"token_{column.name}") for column in table.c]


def _query() -> Select[Any]:
    return select(account, *_TOKEN).join(table, table.c.account_id == account.c.id)


def _record(row: Row[Any]) -> ApiToken:
    return ApiToken(
        id=TokenId(row.token_id),
        account=account_record(row),
        label=row.token_label,
        role=Role(row.token_role),
        permissions=None if row.token_permissions is None else tuple(row.token_permissions),
        created_at=row.token_created_at,
        created_by=row.token_created_by,
        expires_at=row.token_expires_at,
        used_at=row.token_used_at,
        used_from=row.token_used_from,
        revoked_at=row.token_revoked_at,
        revoked_by=row.token_revoked_by,
    )
