"""Figures that never go back, alarms, messages about them, and traces that were told."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _text(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Text(), nullable=False)


def upgrade() -> None:
    """Four new tables. A message may be about an alarm, and then about no study."""
    op.create_table(
        "alarm",
        sa.Column("id", _Id, primary_key=True),
        _text("kind"),
        _text("about"),
        _text("words"),
        sa.Column("urgent", sa.Boolean(), nullable=False),
        sa.Column("opened_at", sa.Double(), nullable=False),
        sa.Column("seen_at", sa.Double(), nullable=False),
        sa.Column("cleared_at", sa.Double(), nullable=True),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_alarm_cleared_at", "alarm", ["cleared_at"])
    op.create_index("ix_alarm_opened_at", "alarm", ["opened_at"])
    op.create_table(
        "tally",
        sa.Column("id", _Id, primary_key=True),
        _text("name"),
        _text("labels"),
        sa.Column("total", sa.Double(), nullable=False),
        _text("buckets"),
        sa.UniqueConstraint("name", "labels"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "tally_cursor",
        sa.Column("id", _Id, primary_key=True),
        sa.Column("source", sa.Text(), nullable=False, unique=True),
        sa.Column("up_to", sa.BigInteger(), nullable=False),
        _text("missing"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "traced",
        sa.Column("id", _Id, primary_key=True),
        sa.Column("study_id", _Id, sa.ForeignKey("study.id"), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.UniqueConstraint("study_id", "generation"),
        sqlite_autoincrement=True,
    )
    # SQLite cannot take NOT NULL away from a column: the table is made anew, its rows and numbers kept.
    with op.batch_alter_table("notification", table_kwargs={"sqlite_autoincrement": True}) as notification:
        notification.alter_column("study_id", existing_type=_Id, nullable=True)
        notification.alter_column("job_id", existing_type=_Id, nullable=True)
        notification.add_column(
            sa.Column(
                "alarm_id", _Id, sa.ForeignKey("alarm.id", name="fk_notification_alarm_id"), nullable=True
            )
        )
        notification.add_column(sa.Column("told_in", _Id, nullable=True))
    op.create_index("ix_notification_alarm_id", "notification", ["alarm_id"])
    op.create_index("ix_notification_receiver_created_at", "notification", ["receiver", "created_at"])
