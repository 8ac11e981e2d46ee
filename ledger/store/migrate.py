"""Bring the tables up to date, in this process, however many others do the same at this moment."""

import threading
from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text

from ledger.errors import SiteError
from ledger.schema import HEAD
from ledger.store.database import explained

_SCRIPTS = Path(__file__).resolve().parents[1] / "migrations"
# Any number, as long as nothing else in the database uses it: "wetr".
_ADVISORY_LOCK = 0x77657472
# Alembic keeps the migration that runs in variables of its modules: one thread of a process at a time.
_one_at_a_time = threading.Lock()


class LedgerTooNew(SiteError):
    """The tables were made by a later version of this program."""


def migrate(engine: Engine, shown: str) -> None:
    """Bring the tables to `HEAD` in one transaction; do nothing if they are. Raises `LedgerTooNew`."""
    with explained(shown):
        with engine.connect() as connection, connection.begin():
            if _revision(connection) == HEAD:
                return
        with _one_at_a_time, engine.connect() as plain:
            connection = plain.execution_options(wetread_writes=True)
            with connection.begin():
                # SQLite's write lock is held since BEGIN IMMEDIATE.
                if connection.dialect.name == "postgresql":
                    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
                if _revision(connection) != HEAD:
                    _upgrade(connection, shown)


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return revision


def _upgrade(connection: Connection, shown: str) -> None:
    # Only here: a start with tables that are up to date does without Alembic and its import time.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    revision = _revision(connection)
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if revision is not None and revision not in known:
        raise LedgerTooNew(
            f"the ledger at {shown} has tables of revision {revision}, which this version does not know "
            f"(it knows up to {HEAD}): start the version that was last used, or a later one"
        )
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
