"""Statements that are put together once, and then handed to SQLite's own driver.

SQLAlchemy needs about 0.1 ms to put a statement together and to look at its answer, SQLite 0.01 ms to execute
it. For all but one transaction that does not matter. The one is the recording of an instance, for which a
scanner waits.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Executable
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql.compiler import SQLCompiler

from ledger.store.database import Transaction


class Prepared:
    """One statement, for SQLite only: its parameters are named by `bindparam`, its rows are plain tuples."""

    def __init__(self, statement: Executable) -> None:
        compiled = statement.compile(dialect=sqlite.dialect(paramstyle="qmark"))  # type: ignore[attr-defined]
        assert isinstance(compiled, SQLCompiler)
        self._text = compiled.string
        # What SQLAlchemy would do to a value on its way, such as writing JSON.
        processors: Mapping[str, Any] = compiled._bind_processors
        self._constants = {name: value for name, value in compiled.params.items() if value is not None}
        self._parameters = [(name, processors.get(name)) for name in compiled.positiontup or ()]

    def run(self, tx: Transaction, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """Execute it once."""
        found: list[tuple[Any, ...]] = _driver(tx).execute(self._text, self._ordered(values)).fetchall()
        return found

    def run_each(self, tx: Transaction, rows: Iterable[Mapping[str, Any]]) -> None:
        """Execute it for each of `rows`."""
        _driver(tx).executemany(self._text, [self._ordered(row) for row in rows])

    def _ordered(self, values: Mapping[str, Any]) -> list[Any]:
        values = {**self._constants, **values}
        return [process(values[name]) if process else values[name] for name, process in self._parameters]


def _driver(tx: Transaction) -> Any:
    return tx.connection.connection.driver_connection
