"""Profiles: which destinations a result is for, what it was made in place of, and predecessors of each."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Every result so far was for all destinations of its job, and they all had the same predecessor."""
    op.add_column("result", sa.Column("peers", sa.Text(), nullable=True))
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.add_column("result", sa.Column("instead_of", number, nullable=True))
    op.add_column("job", sa.Column("predecessors", sa.Text(), nullable=False, server_default="{}"))
