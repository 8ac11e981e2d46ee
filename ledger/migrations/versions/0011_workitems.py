"""Workitems: what task managers list, and how far each is."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=False)


def upgrade() -> None:
    """One new table."""
    op.create_table(
        "workitem",
        sa.Column("id", _Id, primary_key=True),
        _text("manager"),
        _text("sop_instance"),
        _text("study_uid"),
        _text("code"),
        _text("rule"),
        _text("transaction_uid"),
        _text("state"),
        _text("because"),
        sa.Column("listed_at", sa.Double(), nullable=False),
        sa.Column("claimed_at", sa.Double(), nullable=True),
        sa.Column("ended_at", sa.Double(), nullable=True),
        sa.Column("outputs", sa.Text(), nullable=False),
        sa.UniqueConstraint("manager", "sop_instance"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_workitem_manager_state", "workitem", ["manager", "state"])
