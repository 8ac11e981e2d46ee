"""
What all chapters of the store stand on: transactions, and the database's clock.

Rule 1: every method that changes something is one transaction: all of it happens, or nothing.
Rule 2: time is the database's. Workers' clocks may be wrong by hours; they all ask the same one.
Rule 3: a database that cannot be reached is `LedgerAway`, with a sentence and without anybody's data.
"""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property
from typing import Any

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError, IntegrityError, StatementError
from sqlalchemy.exc import TimeoutError as NoConnectionFree

from ledger.errors import SiteError, WetreadError

# The Julian day of 1970-01-01T00:00Z is 2440587.5; SQLite before 3.42 has no other clock with milliseconds.
_CLOCK = {
    "sqlite": text("SELECT (julianday('now') - 2440587.5) * 86400.0"),
    "postgresql": text("SELECT CAST(extract(epoch FROM clock_timestamp()) AS double precision)"),
}
# deadlock_detected, serialization_failure: another process won; the same again may succeed.
_COLLISIONS = frozenset({"40P01", "40001"})
# Classes of SQLSTATE: a value that does not fit; a table, column or permission that is not there.
_FOR_GOOD = frozenset({"22", "42"})
_FOR_GOOD_SQLITE = frozenset(
    {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_RANGE}
)


class LedgerAway(SiteError):
    """The ledger's database cannot be reached, is locked for too long, or has no room."""


class LedgerRefused(SiteError):
    """The ledger's database answers, and says no in a way that would repeat itself: damaged, or not ours."""


class Collided(LedgerAway):
    """Two processes changed the same rows at the same moment; this one gave way and changed nothing."""


class NotInLedger(WetreadError):
    """There is no such study, job or delivery."""


class Transaction:
    """One transaction: its connection, and the time at which it happens."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    @cached_property
    def now(self) -> float:
        """The database's clock when first asked: one transaction happens at one time."""
        now: float = self.connection.execute(_CLOCK[self.connection.dialect.name]).scalar_one()
        return float(now)


class Database:
    """An open database. Every method may be called from any thread."""

    def __init__(self, engine: Engine, shown: str) -> None:
        self._engine = engine
        self._shown = shown
        # SQLite lets waiting writers poll; within one process they can queue up instead.
        self._writers: AbstractContextManager[Any] = (
            threading.Lock() if engine.dialect.name == "sqlite" else nullcontext()
        )

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """A transaction that changes nothing."""
        with explained(self._shown), self._engine.connect() as connection, connection.begin():
            yield Transaction(connection)

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """A transaction that is durable when the block ends, and has not happened if it raises."""
        with self._writers, explained(self._shown), self._engine.connect() as plain:
            connection = plain.execution_options(wetread_writes=True)
            with connection.begin():
                yield Transaction(connection)

    def now(self) -> float:
        """The database's clock, in seconds since 1970-01-01 UTC."""
        with self.read() as tx:
            return tx.now

    def ping(self) -> None:
        """Raise `LedgerAway` unless the database answers."""
        self.now()

    def close(self) -> None:
        """Give back all connections."""
        self._engine.dispose()


@contextmanager
def explained(shown: str) -> Iterator[None]:
    """Turn the driver's errors into `LedgerAway`, `Collided` and `LedgerRefused`."""
    try:
        yield
    except NoConnectionFree as error:
        raise LedgerAway(f"the ledger at {shown} is too busy: no connection came free within 30 s") from error
    except IntegrityError as error:
        raise Collided(f"the ledger at {shown} was changed by two at once: {_reason(error)}") from None
    except DBAPIError as error:
        if _sqlstate(error) in _COLLISIONS:
            raise Collided(f"the ledger at {shown} was changed by two at once: {_reason(error)}") from None
        kind = LedgerRefused if _for_good(error) else LedgerAway
        raise kind(f"the ledger at {shown} does not answer as it should: {_reason(error)}") from None
    except sqlite3.Error as error:
        # Opening a file speaks to the driver itself.
        raise LedgerAway(f"the ledger at {shown} does not answer as it should: {error}") from error
    except OSError as error:
        # pg8000 lets some socket errors through as they are.
        raise LedgerAway(f"the ledger at {shown} cannot be reached: {error.strerror or error}") from error


def _server_fields(error: StatementError) -> dict[str, str]:
    """PostgreSQL's error fields (C: SQLSTATE, M: message, D: detail …); empty for SQLite."""
    original = error.orig
    first = original.args[0] if original is not None and original.args else None
    return first if isinstance(first, dict) else {}


def _sqlstate(error: StatementError) -> str:
    return _server_fields(error).get("C", "")


def _for_good(error: DBAPIError) -> bool:
    """Whether the same statement would fail again although nobody changed anything."""
    if state := _sqlstate(error):
        return state[:2] in _FOR_GOOD
    # Of SQLite's result codes the low byte is the kind; a full disk and a lock are others.
    return getattr(error.orig, "sqlite_errorcode", 0) & 0xFF in _FOR_GOOD_SQLITE


def _reason(error: StatementError) -> str:
    # Only the message: PostgreSQL's detail quotes the values of the row.
    fields = _server_fields(error)
    return fields.get("M") or str(error.orig)
