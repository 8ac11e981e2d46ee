"""Rejection notes: what an archive was told to put away, and what it may have although it never said so."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _to(name: str) -> sa.Column[Any]:
    return sa.Column(f"{name}_id", _Id, sa.ForeignKey(f"{name}.id"), nullable=False)


def upgrade() -> None:
    """One new table; of deliveries made so far none is a note, and none is in doubt."""
    for column in ("in_doubt", "note"):
        op.add_column("delivery", sa.Column(column, sa.Boolean(), nullable=False, server_default=sa.false()))
    op.create_table(
        "rejected",
        sa.Column("id", _Id, primary_key=True),
        _to("result"),
        _to("delivery"),
        sa.Column("policy", sa.Text(), nullable=False),
        sa.UniqueConstraint("delivery_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_rejected_result_id", "rejected", ["result_id"])
