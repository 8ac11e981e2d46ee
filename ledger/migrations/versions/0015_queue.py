"""The queue: its order, pauses, what workers have in hand, and what operators want of the node."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=False)


def upgrade() -> None:
    """Nothing was moved, paused or wished for so far."""
    op.add_column("study", sa.Column("stat", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("job", sa.Column("rank", sa.Double(), nullable=True))
    op.add_column("job", sa.Column("again", sa.Integer(), nullable=False, server_default="0"))
    op.create_index("ix_job_rank", "job", ["rank"])
    op.add_column("worker", sa.Column("works", sa.Text(), nullable=False, server_default="[]"))
    op.add_column("worker", sa.Column("gauges", sa.Text(), nullable=False, server_default="null"))
    op.create_table(
        "pause",
        sa.Column("id", _Id, primary_key=True),
        _text("kind"),
        _text("name"),
        sa.Column("since", sa.Double(), nullable=False),
        _text("by"),
        _text("because"),
        sa.UniqueConstraint("kind", "name"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "wish",
        sa.Column("id", _Id, primary_key=True),
        _text("kind"),
        sa.Column("study_id", _Id, sa.ForeignKey("study.id"), nullable=True),
        sa.Column("quarantined", _Id, nullable=True),
        _text("by"),
        _text("because"),
        sa.Column("asked_at", sa.Double(), nullable=False),
        sa.Column("settled_at", sa.Double(), nullable=True),
        sa.Column("done", sa.Boolean(), nullable=False, server_default=sa.false()),
        _text("answer"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_wish_settled_at", "wish", ["settled_at"])
    op.create_index("ix_wish_study_id", "wish", ["study_id"])
