"""One engine for each of the two databases, set so that a commit is a promise."""

import os
import sqlite3
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url

from ledger.settings import LedgerSettings

BUSY_TIMEOUT_MS = 10_000


def connect(settings: LedgerSettings) -> Engine:
    """An engine whose transactions are durable when committed. The folder and file are made if need be."""
    url = make_url(settings.url)
    return _sqlite(url) if url.get_backend_name() == "sqlite" else _postgresql(url)


def _sqlite(url: URL) -> Engine:
    path = Path(url.database or "").absolute()
    _private_file(path)
    engine = create_engine(
        url.set(database=str(path)),
        # Values of a failed statement would otherwise be part of the error's text, and some are a patient's.
        hide_parameters=True,
        # Always the connection that was used last: what it has read of the file is still true.
        pool_use_lifo=True,
        pool_size=8,
        max_overflow=24,
    )

    @event.listens_for(engine, "connect")
    def set_up(connection: Any, _record: object) -> None:
        # Python's driver would begin transactions by itself, late and as readers; `begin` below does it
        # instead.
        connection.isolation_level = None
        connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        # NORMAL may take back acknowledged commits when the power fails.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A writer that began as a reader can be refused in the middle, without any waiting
        # (SQLITE_BUSY_SNAPSHOT).
        writes = connection.get_execution_options().get("wetread_writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    _switch_to_wal(path)
    return engine


def _private_file(path: Path) -> None:
    """Make the file and its folder for our eyes only. What exists already is left as its owner made it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # SQLite gives -wal and -shm the permissions of the main file.
    # Never open what exists: closing it again would drop every POSIX lock that SQLite holds on it in this
    # process, and another process could then take the log away under an open ledger.
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def _switch_to_wal(path: Path) -> None:
    """Set the file to write-ahead logging, which lasts. Several processes may try at once."""
    deadline = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_MS / 1000, isolation_level=None)
    try:
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                # SQLite does not wait by itself for this lock.
                if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                    raise
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
            else:
                return
    finally:
        connection.close()


def _postgresql(url: URL) -> Engine:
    engine = create_engine(
        url,
        hide_parameters=True,
        # A restart of the server is noticed before a transaction begins, not in the middle of one.
        pool_pre_ping=True,
        pool_size=5,
        max_overflow=15,
        # A server that vanished without a word is noticed after this many seconds.
        connect_args={"timeout": 30, "application_name": "wetread"},
    )

    @event.listens_for(engine, "connect")
    def set_up(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        # The server may be set otherwise for the sake of other databases.
        cursor.execute("SET synchronous_commit = on")
        cursor.execute(f"SET lock_timeout = {BUSY_TIMEOUT_MS}")
        # A worker that is stopped inside a transaction must not hold its rows for ever.
        cursor.execute("SET idle_in_transaction_session_timeout = 60000")
        connection.commit()
        cursor.close()

    return engine
