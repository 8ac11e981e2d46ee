"""Storage commitment: what we ask of archives, and what others ask of us."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _table(name: str, *columns: Any) -> None:
    op.create_table(name, sa.Column("id", _Id, primary_key=True), *columns, sqlite_autoincrement=True)


def _to(name: str) -> sa.Column[Any]:
    return sa.Column(f"{name}_id", _Id, sa.ForeignKey(f"{name}.id"), nullable=False)


def _text(name: str, *, unique: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.Text(), nullable=False, unique=unique)


def _time(name: str, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.Double(), nullable=nullable)


def _index(table: str, *columns: str) -> None:
    op.create_index(f"ix_{table}_{'_'.join(columns)}", table, list(columns))


def upgrade() -> None:
    """Only new tables: no row of the first ones is touched."""
    _table(
        "commitment",
        _text("transaction_uid", unique=True),
        _to("study"),
        _to("job"),
        _text("peer"),
        _text("state"),
        _time("opened_at"),
        _time("asked_at", nullable=True),
        _time("answered_at", nullable=True),
        _text("because"),
    )
    _index("commitment", "job_id")
    _table(
        "commitment_item",
        _to("commitment"),
        _to("delivery"),
        _text("sop_class"),
        _text("sop_instance"),
        sa.Column("committed", sa.Boolean(), nullable=True),
        sa.Column("reason", sa.Integer(), nullable=True),
        sa.UniqueConstraint("commitment_id", "delivery_id"),
    )
    _index("commitment_item", "delivery_id")
    _table(
        "promise",
        _text("transaction_uid"),
        _text("calling"),
        _text("address"),
        _text("state"),
        sa.Column("attempts", sa.Integer(), nullable=False),
        _time("next_attempt_at"),
        _time("asked_at"),
        _time("answered_at", nullable=True),
        _text("because"),
        sa.UniqueConstraint("transaction_uid", "calling"),
    )
    _index("promise", "state", "next_attempt_at")
    _table(
        "expected_instance",
        _to("promise"),
        _text("sop_class"),
        _text("sop_instance"),
        sa.UniqueConstraint("promise_id", "sop_instance"),
    )
    _index("expected_instance", "sop_instance")
