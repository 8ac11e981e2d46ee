"""Inputs: what a job is about, which of several inputs an instance fills, and the facts of single images."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Every job so far was about one series, and of images that arrived before only the series is known."""
    op.add_column("job", sa.Column("subject", sa.Text(), nullable=False, server_default=""))
    op.execute("UPDATE job SET subject = CAST(series_id AS TEXT)")
    op.add_column("job", sa.Column("earlier_asked", sa.Integer(), nullable=True))
    op.add_column("job_input", sa.Column("input", sa.Text(), nullable=True))
    op.add_column("instance", sa.Column("headers", sa.Text(), nullable=True))
