"""Versions of the rules, and of each study by which of them it was routed."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """One new table. Of studies that were routed before, nobody knows by which rules."""
    op.create_table(
        "rule_set",
        sa.Column("id", _Id, primary_key=True),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("comment", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("rules", sa.Text(), nullable=False),
        sa.Column("same_as", sa.Integer(), nullable=True),
        sa.UniqueConstraint("number"),
        sqlite_autoincrement=True,
    )
    op.add_column("study", sa.Column("rules", sa.Integer(), nullable=True))
