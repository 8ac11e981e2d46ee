"""Channels: which version of a model its name means; and which jobs are shadow runs of another version."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """No job was a shadow run of another version before there were channels."""
    op.create_table(
        "channel",
        sa.Column("id", _Id, primary_key=True),
        sa.Column("name", sa.Text(), nullable=False, unique=True),
        sa.Column("active", sa.Text(), nullable=False),
        sa.Column("shadow", sa.Text(), nullable=True),
        sa.Column("changed_at", sa.Double(), nullable=False),
        sa.Column("changed_by", sa.Text(), nullable=False),
        sqlite_autoincrement=True,
    )
    shadow: sa.Column[bool] = sa.Column("shadow", sa.Boolean(), nullable=False, server_default=sa.false())
    op.add_column("job", shadow)
