"""The tables as migrated, and starting on them."""

import multiprocessing
import re
import sqlite3
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from pydantic import ValidationError
from sqlalchemy import text

from ledger.schema import HEAD, metadata
from ledger.settings import LedgerSettings
from ledger.store.database import LedgerAway, LedgerRefused
from ledger.store.ledger import Ledger
from ledger.store.migrate import LedgerTooNew
from tests.ledger.conftest import empty_database
from tests.ledger.site import claim, finish, queued_job, receive
from tests.patience import patient

VERSIONS = Path(__file__).resolve().parents[2] / "ledger" / "migrations" / "versions"


def test_the_migrations_end_at_the_tables_of_the_schema(ledger: Ledger) -> None:
    with ledger.read() as tx:
        context = MigrationContext.configure(tx.connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
        assert context.get_current_revision() == HEAD
    assert max(path.name[:4] for path in VERSIONS.glob("[0-9]*.py")) == HEAD


def test_starting_again_changes_nothing(settings: LedgerSettings) -> None:
    with Ledger.open(settings) as first:
        job_id = queued_job(first)
        with Ledger.open(settings) as second:
            assert second.job(job_id) == first.job(job_id)
    with Ledger.open(settings) as third:
        assert finish(third, claim(third, job_id))


def _start(url: str, gate) -> int:
    gate.wait(patient(30))
    with Ledger.open(LedgerSettings(url=url)) as ledger:
        return int(receive(ledger, "1.2.3"))


def test_several_processes_may_start_at_once_on_an_empty_database(settings: LedgerSettings) -> None:
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager:
        gate = manager.Barrier(4)
        with context.Pool(4) as pool:
            ids = pool.starmap(_start, [(settings.url, gate)] * 4)
    assert len(set(ids)) == 1


def test_several_threads_may_start_at_once_on_an_empty_database(settings: LedgerSettings) -> None:
    def start(_: int) -> float:
        with Ledger.open(settings) as ledger:
            return ledger.now()

    with ThreadPoolExecutor(6) as pool:
        assert len(list(pool.map(start, range(6)))) == 6


def test_tables_of_a_later_version_are_left_alone(settings: LedgerSettings) -> None:
    with Ledger.open(settings) as ledger, ledger.write() as tx:
        tx.connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(LedgerTooNew, match="has tables of revision 9999, which this version does not know"):
        Ledger.open(settings)


def test_a_new_file_is_for_our_eyes_only_and_durable(tmp_path: Path) -> None:
    path = tmp_path / "data" / "ledger.sqlite"
    with Ledger.open(LedgerSettings(url=f"sqlite:///{path}")) as ledger:
        receive(ledger, "1.2.3")
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        for file in path.parent.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file.name
        with ledger.read() as tx:
            asked = {
                name: tx.connection.execute(text(f"PRAGMA {name}")).scalar()
                for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
            }
    assert asked == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 10000}


def test_a_database_that_is_not_there_is_a_sentence_without_its_password(tmp_path: Path) -> None:
    url = "postgresql+pg8000://wetread:s3cret@127.0.0.1:1/wetread"
    with pytest.raises(LedgerAway) as caught:
        Ledger.open(LedgerSettings(url=url))
    assert "postgresql+pg8000://wetread:***@127.0.0.1:1/wetread does not answer" in str(caught.value)
    assert "s3cret" not in str(caught.value) + repr(LedgerSettings(url=url))

    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(LedgerAway, match="cannot be reached"):
        Ledger.open(LedgerSettings(url=f"sqlite:///{tmp_path}/file/ledger.sqlite"))


def test_a_file_that_is_no_database_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(b"certainly not a database" * 100)
    with pytest.raises(LedgerAway, match="file is not a database"):
        Ledger.open(LedgerSettings(url=f"sqlite:///{path}"))


@pytest.mark.parametrize(
    "url", ["", "mysql://x", "sqlite://", "postgresql://user@host/db", "/var/lib/ledger.sqlite"]
)
def test_an_unknown_address_is_refused_at_the_start(url: str) -> None:
    with pytest.raises(ValidationError, match="the ledger's url is either"):
        LedgerSettings(url=url)


def test_a_failed_transaction_has_not_happened_and_quotes_no_values(ledger: Ledger) -> None:
    receive(ledger, "1.2.3")
    before = ledger.history()

    def forget_and_fail() -> None:
        with ledger.write() as tx:
            tx.connection.execute(text("DELETE FROM event"))
            tx.connection.execute(
                text("INSERT INTO study (uid, patient_name) VALUES (:uid, :name)"),
                {"uid": "1.2.3", "name": "ZZPHI^CANARY"},
            )

    with pytest.raises(LedgerAway) as caught:
        forget_and_fail()
    assert "ZZPHI" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert ledger.history() == before


def test_a_locked_file_is_away_and_then_back(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("ledger.store.connect.BUSY_TIMEOUT_MS", 50)
    path = tmp_path / "ledger.sqlite"
    with Ledger.open(LedgerSettings(url=f"sqlite:///{path}")) as ledger:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(LedgerAway, match="database is locked"):
            receive(ledger, "1.2.3")
        assert ledger.studies() == []  # Readers go on.
        other.execute("ROLLBACK")
        other.close()
        assert receive(ledger, "1.2.3")


@pytest.mark.peer
def test_the_ledger_comes_back_when_postgresql_does(server) -> None:
    with Ledger.open(empty_database(server)) as ledger:
        study_id = receive(ledger, "1.2.3")
        server.stop()
        with pytest.raises(LedgerAway):
            ledger.ping()
        server.start()
        ledger.ping()
        assert ledger.study(study_id).instances == 3
        assert receive(ledger, "1.2.3", [4]) == study_id


@pytest.mark.peer
def test_a_connection_that_the_server_ended_is_replaced(server) -> None:
    with Ledger.open(empty_database(server)) as ledger:
        with pytest.raises(LedgerAway), ledger.write() as tx:
            tx.connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
        assert receive(ledger, "1.2.3")


def test_only_the_store_speaks_sql() -> None:
    package = VERSIONS.parents[1]
    for path in package.rglob("*.py"):
        inside = path.relative_to(package)
        if inside.parts[0] in ("store", "migrations", "schema.py"):
            continue
        assert not re.search(
            r"^\s*(import|from) (sqlalchemy|alembic|sqlite3)", path.read_text(), re.MULTILINE
        ), inside


def _receive_and_leave(url: str) -> None:
    with Ledger.open(LedgerSettings(url=url)) as ledger:
        receive(ledger, "1.2.3")


def test_a_ledger_that_is_open_twice_in_a_process_still_sees_what_others_write(tmp_path: Path) -> None:
    settings = LedgerSettings(url=f"sqlite:///{tmp_path}/ledger.sqlite")
    with Ledger.open(settings) as first, Ledger.open(settings) as second:
        assert first.studies() == second.studies() == []
        other = multiprocessing.get_context("spawn").Process(target=_receive_and_leave, args=(settings.url,))
        other.start()
        other.join(patient(30))
        assert other.exitcode == 0
        assert len(first.studies()) == len(second.studies()) == 1
        receive(first, "1.2.4")
        receive(second, "1.2.5")
        assert len(first.studies()) == len(second.studies()) == 3
    with Ledger.open(settings) as again:
        assert len(again.studies()) == 3


def test_what_the_database_would_refuse_again_is_no_outage(ledger: Ledger) -> None:
    with pytest.raises(LedgerRefused, match="nowhere"), ledger.write() as tx:
        tx.connection.execute(text("DELETE FROM nowhere"))
