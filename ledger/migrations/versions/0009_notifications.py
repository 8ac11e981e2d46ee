"""Notifications: whom to tell that a run has ended, what was said, and why jobs were given up."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _to(name: str, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(f"{name}_id", _Id, sa.ForeignKey(f"{name}.id"), nullable=nullable)


def _text(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Text(), nullable=False)


def upgrade() -> None:
    """Three new tables. Of what ended before, nobody is told."""
    op.create_table(
        "receiver",
        sa.Column("id", _Id, primary_key=True),
        sa.Column("name", sa.Text(), nullable=False, unique=True),
        sa.Column("since", sa.Double(), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "given_up",
        sa.Column("id", _Id, primary_key=True),
        _to("job"),
        sa.Column("job_epoch", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        _text("fault"),
        _text("because"),
        sa.Column("settled", sa.Boolean(), nullable=False, server_default=sa.false()),
        _text("told"),
        _to("result", nullable=True),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_given_up_job_id", "given_up", ["job_id"])
    op.create_index("ix_given_up_result_id", "given_up", ["result_id"])
    op.create_index("ix_given_up_settled", "given_up", ["settled"])
    op.create_table(
        "notification",
        sa.Column("id", _Id, primary_key=True),
        _to("study"),
        _to("job"),
        sa.Column("job_epoch", sa.BigInteger(), nullable=False),
        _text("receiver"),
        _text("rule"),
        _text("subject"),
        _text("occasion"),
        sa.Column("corrects", sa.Boolean(), nullable=False),
        _text("control_id"),
        _text("body"),
        _text("state"),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("next_attempt_at", sa.Double(), nullable=False),
        sa.Column("lease_owner", sa.Text(), nullable=True),
        sa.Column("lease_until", sa.Double(), nullable=True),
        _text("because"),
        sa.Column("taken_at", sa.Double(), nullable=True),
        sa.UniqueConstraint("job_id", "job_epoch", "receiver"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_notification_study_id_receiver_state", "notification", ["study_id", "receiver", "state"]
    )
    op.create_index("ix_notification_state_next_attempt_at", "notification", ["state", "next_attempt_at"])
