"""Studies in the order of their latest arrival, page by page."""

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """One index."""
    op.create_index("ix_study_last_arrival_at_id", "study", ["last_arrival_at", "id"])
