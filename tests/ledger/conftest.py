"""The same tests over SQLite and over a real PostgreSQL."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger.settings import LedgerSettings
from ledger.store.ledger import Ledger
from tests.peers.postgresql import PostgreSQL, postgresql


@pytest.fixture(scope="session")
def server() -> Iterator[PostgreSQL]:
    with postgresql() as running:
        yield running


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.peer)])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> LedgerSettings:
    """The address of an empty database."""
    if request.param == "sqlite":
        return LedgerSettings(url=f"sqlite:///{tmp_path}/ledger.sqlite")
    return empty_database(request.getfixturevalue("server"))


@pytest.fixture
def ledger(settings: LedgerSettings) -> Iterator[Ledger]:
    with Ledger.open(settings) as opened:
        yield opened


def empty_database(server: PostgreSQL) -> LedgerSettings:
    import pg8000.native

    name = f"ledger_{uuid.uuid4().hex}"
    connection = pg8000.native.Connection("wetread", host="127.0.0.1", port=server.port, database="postgres")
    try:
        connection.run(f"CREATE DATABASE {name}")
    finally:
        connection.close()
    return LedgerSettings(url=server.url.replace("/postgres", f"/{name}"))
