"""Completeness: what witnesses said of a study, and what peers count."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _table(name: str, *columns: Any) -> None:
    op.create_table(name, sa.Column("id", _Id, primary_key=True), *columns, sqlite_autoincrement=True)


def _to(name: str, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(f"{name}_id", _Id, sa.ForeignKey(f"{name}.id"), nullable=nullable)


def _text(name: str, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.Text(), nullable=nullable)


def _time(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Double(), nullable=False)


def _number(name: str, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.Integer(), nullable=nullable)


def upgrade() -> None:
    """New tables, and one new column: of studies that were closed before, nobody knows."""
    op.add_column("study", _text("closed_as", nullable=True))
    _table(
        "statement",
        _to("study"),
        _number("generation"),
        _to("series", nullable=True),
        _time("at"),
        _text("witness"),
        _text("given_by"),
        _text("because"),
        _number("ours", nullable=True),
        _number("theirs", nullable=True),
        sa.Column("decided", sa.Boolean(), nullable=False),
    )
    op.create_index("ix_statement_study_id_generation", "statement", ["study_id", "generation"])
    _table(
        "peer_count",
        _to("study"),
        _text("peer"),
        _number("theirs", nullable=True),
        _text("series"),
        _text("counted_by"),
        _time("asked_at"),
        _time("since_at"),
        _text("because"),
        sa.UniqueConstraint("study_id", "peer"),
    )
