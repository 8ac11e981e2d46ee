"""A site that ran the first version starts the next one on its own rows."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import text

from ledger.delivery import DeliveryState
from ledger.identifiers import AETitle
from ledger.settings import LedgerSettings
from ledger.store.connect import connect
from ledger.store.ledger import Ledger
from tests.ledger.site import claim, finish, queued_job, send

SCRIPTS = Path(__file__).resolve().parents[2] / "ledger" / "migrations"


def at_revision(settings: LedgerSettings, revision: str) -> Ledger:
    """A ledger on tables of an earlier revision."""
    engine = connect(settings)
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    with engine.connect() as plain:
        connection = plain.execution_options(wetread_writes=True)
        with connection.begin():
            config.attributes["connection"] = connection
            command.upgrade(config, revision)
    return Ledger(engine, settings.shown)


def test_rows_of_the_first_tables_go_on_under_storage_commitment(settings: LedgerSettings) -> None:
    with at_revision(settings, "0001") as old:
        job_id = queued_job(old)
        leaf, root = finish(old, claim(old, job_id))
        send(old, leaf)
        send(old, root)
        before = (old.deliveries_of(job_id), old.history(), old.results_of(job_id))
        with old.read() as tx:
            assert tx.connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == "0001"

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
