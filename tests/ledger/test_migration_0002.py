"""A site that ran the first version starts the next one on its own rows."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Column, Connection, Table, insert, inspect, select, text

from ledger.delivery import DeliveryState
from ledger.identifiers import AETitle
from ledger.schema import metadata
from ledger.settings import LedgerSettings
from ledger.store.connect import connect
from ledger.store.ledger import Ledger
from tests.ledger.site import claim, finish, queued_job, send

SCRIPTS = Path(__file__).resolve().parents[2] / "ledger" / "migrations"


def at_revision(settings: LedgerSettings, revision: str, *, like: Ledger) -> None:
    """Tables of an earlier revision, with the rows of `like` as far as they had a place there."""
    engine = connect(settings)
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    with engine.connect() as plain:
        connection = plain.execution_options(wetread_writes=True)
        with connection.begin():
            config.attributes["connection"] = connection
            command.upgrade(config, revision)
        with connection.begin():
            there = inspect(connection)
            for table in metadata.sorted_tables:
                if there.has_table(table.name):
                    columns = [table.c[one["name"]] for one in there.get_columns(table.name)]
                    _copy(like, connection, table, columns)
            version = text("SELECT version_num FROM alembic_version")
            assert connection.execute(version).scalar() == revision
    engine.dispose()


def _copy(like: Ledger, connection: Connection, table: Table, columns: list[Column]) -> None:
    with like.read() as tx:
        rows = [dict(row._mapping) for row in tx.connection.execute(select(*columns))]
    if not rows:
        return
    connection.execute(insert(table).values(rows))
    if connection.dialect.name == "postgresql":
        counter = f"pg_get_serial_sequence('{table.name}', 'id')"
        connection.execute(text(f"SELECT setval({counter}, (SELECT max(id) FROM {table.name}))"))


def test_rows_of_the_first_tables_go_on_under_storage_commitment(
    settings: LedgerSettings, tmp_path: Path
) -> None:
    with Ledger.open(LedgerSettings(url=f"sqlite:///{tmp_path}/newest.sqlite")) as newest:
        job_id = queued_job(newest)
        leaf, root = finish(newest, claim(newest, job_id))
        send(newest, leaf)
        send(newest, root)
        before = (newest.deliveries_of(job_id), newest.history(), newest.results_of(job_id))
        at_revision(settings, "0001", like=newest)

    with Ledger.open(settings) as ledger:
        assert (ledger.deliveries_of(job_id), ledger.history(), ledger.results_of(job_id)) == before
        asked = ledger.open_commitment(job_id, "PACS", [leaf, root], calling=AETitle("WETREAD"))
        assert asked is not None
        ledger.report_commitment(
            asked.transaction,
            peer="PACS",
            committed=[item.sop_instance for item in asked.items],
            failed={},
        )
        assert {one.state for one in ledger.deliveries_of(job_id)} == {DeliveryState.COMMITTED}
