"""Serving: what runs took of time and memory, and which worker keeps which model."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _table(name: str, *columns: Any) -> None:
    op.create_table(name, sa.Column("id", _Id, primary_key=True), *columns, sqlite_autoincrement=True)


def _text(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Text(), nullable=False)


def _time(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Double(), nullable=False)


def _bytes(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.BigInteger(), nullable=False)


def _flag(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Boolean(), nullable=False)


def upgrade() -> None:
    """Only new tables: of earlier runs the seconds are in their jobs, and memory was not measured."""
    _table(
        "usage",
        sa.Column("job_id", _Id, sa.ForeignKey("job.id"), nullable=False),
        _time("at"),
        _text("reference"),
        _text("model"),
        _text("device"),
        _bytes("voxels"),
        _text("seconds"),
        _text("began"),
        _bytes("host_peak"),
        _bytes("device_peak"),
        _bytes("host_weights"),
        _bytes("device_weights"),
        _bytes("host_allowed"),
        _bytes("device_allowed"),
        _flag("resident"),
        _flag("alone"),
        _text("lowered"),
        _flag("out_of_memory"),
    )
    op.create_index("ix_usage_job_id", "usage", ["job_id"])
    op.create_index("ix_usage_reference", "usage", ["reference"])
    _table(
        "worker",
        sa.Column("owner", sa.Text(), nullable=False, unique=True),
        _text("device"),
        _flag("idle"),
        _bytes("budget_bytes"),
        _bytes("taken_bytes"),
        _time("since"),
        _time("seen_at"),
    )
    _table(
        "resident",
        sa.Column("worker_id", _Id, sa.ForeignKey("worker.id"), nullable=False),
        _text("model"),
        sa.UniqueConstraint("worker_id", "model"),
    )
    op.create_index("ix_resident_model", "resident", ["model"])
