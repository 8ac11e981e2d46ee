"""Feedback: what readers say of results, and the key that links to it are signed with."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Two new tables. The key is made when it is first asked for."""
    op.create_table(
        "feedback",
        sa.Column("id", _Id, primary_key=True),
        sa.Column("study_id", _Id, sa.ForeignKey("study.id"), nullable=False),
        sa.Column("job_id", _Id, sa.ForeignKey("job.id"), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("said_by", sa.Text(), nullable=False),
        sa.Column("judgement", sa.Text(), nullable=True),
        sa.Column("comment", sa.Text(), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_feedback_job_id", "feedback", ["job_id"])
    op.create_index("ix_feedback_model", "feedback", ["model"])
    op.create_table(
        "feedback_key",
        sa.Column("id", _Id, primary_key=True),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("made_at", sa.Double(), nullable=False),
        sqlite_autoincrement=True,
    )
