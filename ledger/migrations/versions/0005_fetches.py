"""Fetches: what is asked of peers, and which instances came that way."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _table(name: str, *columns: Any) -> None:
    op.create_table(name, sa.Column("id", _Id, primary_key=True), *columns, sqlite_autoincrement=True)


def _text(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Text(), nullable=False)


def _time(name: str, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.Double(), nullable=nullable)


def upgrade() -> None:
    """Only new tables: what came before was sent, and not fetched."""
    _table(
        "fetch",
        _text("purpose"),
        _text("study_uid"),
        _text("peer"),
        sa.Column("study_id", _Id, sa.ForeignKey("study.id"), nullable=True),
        _text("terms"),
        _text("state"),
        sa.Column("attempts", sa.Integer(), nullable=False),
        _time("next_attempt_at"),
        _time("asked_at"),
        _time("started_at", nullable=True),
        _time("finished_at", nullable=True),
        _text("because"),
    )
    op.create_index("ix_fetch_state_next_attempt_at", "fetch", ["state", "next_attempt_at"])
    op.create_index("ix_fetch_study_uid", "fetch", ["study_uid"])
    op.create_index("ix_fetch_study_id", "fetch", ["study_id"])
    _table(
        "fetch_item",
        sa.Column("fetch_id", _Id, sa.ForeignKey("fetch.id"), nullable=False),
        _text("sop_instance"),
        sa.UniqueConstraint("fetch_id", "sop_instance"),
    )
    op.create_index("ix_fetch_item_sop_instance", "fetch_item", ["sop_instance"])
