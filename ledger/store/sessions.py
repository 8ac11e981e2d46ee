"""Sessions: which browsers are signed in, and until when; and who was sent to the identity provider."""

from typing import Any

from sqlalchemy import Row, Select, delete, insert, select, update

from ledger.account import AccountId, Session, SessionId, SignInRequest
from ledger.audit import Actor, plain
from ledger.schema import account, oidc_request
from ledger.schema import session as table
from ledger.store.accounts import account_record, end_sessions
from ledger.store.audit import audit
from ledger.store.database import Database, NotInLedger

_SEEN_EVERY_S = 30.0  # Not with every request: a page makes several, and each would be a commit.
_KEPT_S = 7 * 86400.0  # An ended session says for a week when and from where it was.


class Sessions(Database):
    """Sessions, by the SHA-256 of what the browser's cookie says."""

    def begin_session(
        self,
        account_id: AccountId,
        digest: str,
        *,
        complete: bool,
        address: str,
        agent: str,
        lives_s: float,
        instead_of: str = "",
    ) -> SessionId:
        """Begin a session that ends after `lives_s` seconds at the latest; the one with the digest
        `instead_of`, if there is one, ends now.

        With `complete` somebody has signed in: that is told in the audit trail, and failures are forgotten.
        Raises `NotInLedger`.
        """
        with self.write() as tx:
            tx.connection.execute(delete(table).where(table.c.expires_at < tx.now - _KEPT_S))
            found = select(account).where(account.c.id == account_id, ~account.c.disabled).with_for_update()
            row = tx.connection.execute(found).first()
            if row is None:
                raise NotInLedger(f"there is no account {account_id} that may sign in")
            if instead_of:
                same = (table.c.digest == instead_of) & table.c.ended_at.is_(None)
                tx.connection.execute(update(table).where(same).values(ended_at=tx.now))
            values = {
                "digest": digest,
                "account_id": account_id,
                "complete": complete,
                "created_at": tx.now,
                "seen_at": tx.now,
                "expires_at": tx.now + lives_s,
                "address": plain(address, 64),
                "agent": plain(agent, 200),
                "names_until": None,
                "ended_at": None,
            }
            made = tx.connection.execute(insert(table).values(values).returning(table.c.id)).scalar_one()
            if complete:
                signed_in = {"signed_in_at": tx.now, "failures": 0, "locked_until": None}
                tx.connection.execute(update(account).where(account.c.id == account_id).values(signed_in))
                one = account_record(row)
                audit(tx, Actor(one.name, one.role, address), "session.started", thing_id=made)
            return SessionId(made)

    def session(self, digest: str, *, idle_s: float) -> Session | None:
        """The session with this digest, if it is open: not ended, not too old, used within `idle_s` seconds,
        and of an account that is not disabled.
        """
        with self.read() as tx:
            row = tx.connection.execute(_query().where(table.c.digest == digest)).first()
            if row is None:
                return None
            one = _record(row)
            over = one.ended_at is not None or tx.now >= one.expires_at or tx.now - one.seen_at >= idle_s
            return None if over or one.account.disabled else one

    def touch_session(self, one: Session) -> None:
        """Somebody used it just now."""
        with self.read() as tx:
            if tx.now - one.seen_at < _SEEN_EVERY_S:
                return
        with self.write() as tx:
            mine = (table.c.id == one.id) & table.c.ended_at.is_(None)
            tx.connection.execute(update(table).where(mine).values(seen_at=tx.now))

    def sessions_of(self, account_id: AccountId, *, idle_s: float) -> list[Session]:
        """The open sessions of an account, the latest first."""
        with self.read() as tx:
            query = _query().where(
                table.c.account_id == account_id,
                table.c.complete,
                table.c.ended_at.is_(None),
                table.c.expires_at > tx.now,
                table.c.seen_at > tx.now - idle_s,
            )
            return [_record(row) for row in tx.connection.execute(query.order_by(table.c.id.desc()))]

    def end_session(self, session_id: SessionId, *, of: AccountId, by: Actor) -> None:
        """End one session of the account `of`. Raises `NotInLedger`, also where it is somebody else's."""
        with self.write() as tx:
            mine = (table.c.id == session_id) & (table.c.account_id == of) & table.c.ended_at.is_(None)
            if tx.connection.execute(update(table).where(mine).values(ended_at=tx.now)).rowcount != 1:
                raise NotInLedger(f"there is no session {session_id} of yours that could be ended")
            audit(tx, by, "session.ended", thing_id=session_id)

    def end_sessions(self, account_id: AccountId, *, by: Actor, but: SessionId | None = None) -> int:
        """End all sessions of an account, except the one `but`; how many there were."""
        with self.write() as tx:
            ended = end_sessions(tx, account_id, but=but)
            if ended:
                audit(tx, by, "session.ended", detail={"how_many": ended, "account": account_id})
            return ended

    def show_names(self, one: Session, *, for_s: float, by: Actor) -> None:
        """Show patients' names in this session for `for_s` seconds; 0 hides
        them again. Raises `NotInLedger`.
        """
        with self.write() as tx:
            mine = (table.c.id == one.id) & table.c.ended_at.is_(None)
            until = tx.now + for_s if for_s else None
            if tx.connection.execute(update(table).where(mine).values(names_until=until)).rowcount != 1:
                raise NotInLedger("this session has ended")
            audit(
                tx, by, "names.shown" if for_s else "names.hidden", thing_id=one.id, detail={"for_s": for_s}
            )

    def remember_request(self, state: str, request: SignInRequest, *, within_s: float) -> None:
        """A browser was sent to the identity provider; `state` is the SHA-256 of what it carries. Those that
        did not come back `within_s` seconds are forgotten.
        """
        with self.write() as tx:
            old = oidc_request.c.created_at < tx.now - within_s
            tx.connection.execute(delete(oidc_request).where(old))
            values = {
                "state": state,
                "nonce": request.nonce,
                "verifier": request.verifier,
                "back_to": plain(request.back_to, 500),
                "created_at": tx.now,
            }
            tx.connection.execute(insert(oidc_request).values(values))

    def take_request(self, state: str, *, within_s: float) -> SignInRequest | None:
        """What belongs to this state, once: whoever comes with it again finds nothing."""
        with self.write() as tx:
            query = select(oidc_request).where(oidc_request.c.state == state).with_for_update()
            row = tx.connection.execute(query).first()
            if row is None:
                return None
            tx.connection.execute(delete(oidc_request).where(oidc_request.c.id == row.id))
            if tx.now - row.created_at >= within_s:
                return None
            return SignInRequest(nonce=row.nonce, verifier=row.verifier, back_to=row.back_to)


_SESSION = [column.label(f"session_{column.name}") for column in table.c]


def _query() -> Select[Any]:
    return select(account, *_SESSION).join(table, table.c.account_id == account.c.id)


def _record(row: Row[Any]) -> Session:
    return Session(
        id=SessionId(row.session_id),
        account=account_record(row),
        complete=row.session_complete,
        created_at=row.session_created_at,
        seen_at=row.session_seen_at,
        expires_at=row.session_expires_at,
        address=row.session_address,
        agent=row.session_agent,
        names_until=row.session_names_until,
        ended_at=row.session_ended_at,
    )
