"""First tables."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _table(name: str, *columns: Any) -> None:
    op.create_table(name, sa.Column("id", _Id, primary_key=True), *columns, sqlite_autoincrement=True)


def _to(name: str, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(f"{name}_id", _Id, sa.ForeignKey(f"{name}.id"), nullable=nullable)


def _text(name: str, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.Text(), nullable=nullable)


def _number(name: str, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.Integer(), nullable=nullable)


def _big(name: str, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.BigInteger(), nullable=nullable)


def _id(name: str) -> sa.Column[Any]:
    return sa.Column(name, _Id, nullable=True)


def _time(name: str, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.Double(), nullable=nullable)


def _yes_or_no(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Boolean(), nullable=False)


def _index(table: str, *columns: str) -> None:
    op.create_index(op.f(f"ix_{table}_{'_'.join(columns)}"), table, list(columns))


def upgrade() -> None:
    _what_was_received()
    _what_is_done()
    _what_is_said()


def _what_was_received() -> None:
    _table(
        "study",
        _text("uid"),
        _text("state"),
        _number("generation"),
        _number("instances"),
        _number("series"),
        _time("first_arrival_at"),
        _time("opened_at"),
        _time("last_arrival_at"),
        _time("closed_at", nullable=True),
        _text("closed_because", nullable=True),
        _text("calling"),
        _text("patient_id"),
        _text("patient_name"),
        _text("accession_number"),
        _text("study_date"),
        _text("description"),
        sa.UniqueConstraint("uid"),
    )
    _index("study", "state", "last_arrival_at")
    _index("study", "accession_number")
    _table(
        "series",
        _to("study"),
        _text("uid"),
        _text("modality"),
        _text("headers"),
        _number("instances"),
        sa.UniqueConstraint("study_id", "uid"),
    )
    _table(
        "instance",
        _to("study"),
        _to("series"),
        _text("sop_instance"),
        _text("sop_class"),
        _text("transfer_syntax"),
        _text("digest"),
        _big("size"),
        _text("path"),
        _text("calling"),
        _text("called"),
        _text("address"),
        _time("received_at"),
        _number("instance_number", nullable=True),
        _number("frames"),
        _text("position"),
        _text("orientation"),
        sa.UniqueConstraint("sop_instance"),
    )
    _index("instance", "study_id")
    _index("instance", "series_id")
    _index("instance", "path")
    _table(
        "quarantine",
        _time("at"),
        _text("sop_instance"),
        _text("digest"),
        _text("path"),
        _text("because"),
        _text("calling"),
        _text("address"),
        _to("study", nullable=True),
        sa.UniqueConstraint("sop_instance", "digest"),
    )
    _index("quarantine", "path")
    _table(
        "routing_note",
        _to("study"),
        _number("generation"),
        _to("series", nullable=True),
        _text("rule"),
        _yes_or_no("taken"),
        _text("because"),
    )
    _index("routing_note", "study_id", "generation")


def _what_is_done() -> None:
    _table(
        "job",
        _text("key"),
        _to("study"),
        _to("series"),
        _text("rule"),
        _text("model"),
        _text("settings"),
        _text("priority"),
        _text("destinations"),
        _text("state"),
        _number("attempts"),
        _big("epoch"),
        _text("because"),
        _text("outcome", nullable=True),
        _text("model_identity"),
        _time("created_at"),
        _time("started_at", nullable=True),
        _time("finished_at", nullable=True),
        _time("next_attempt_at"),
        _text("lease_owner", nullable=True),
        _time("lease_until", nullable=True),
        _text("timings"),
        sa.Column("supersedes", _Id, sa.ForeignKey("job.id"), nullable=True),
        _id("predecessor"),
        sa.UniqueConstraint("key"),
    )
    _index("job", "study_id")
    _index("job", "series_id", "rule")
    _index("job", "state", "next_attempt_at")
    _table("job_input", _to("job"), _to("instance"), sa.UniqueConstraint("job_id", "instance_id"))
    _index("job_input", "instance_id")
    _table(
        "result",
        _to("job"),
        _text("role"),
        _text("sop_class"),
        _text("sop_instance"),
        _text("study"),
        _text("series"),
        _text("transfer_syntax"),
        _text("digest"),
        _big("size"),
        _text("path"),
        sa.Column("purged", sa.Boolean(), nullable=False, server_default=sa.false()),
        _time("created_at"),
        sa.UniqueConstraint("job_id", "sop_instance"),
    )
    _index("result", "sop_instance")
    _index("result", "path")
    _table(
        "delivery",
        _to("study"),
        _to("job"),
        _to("result"),
        _text("peer"),
        _yes_or_no("root"),
        _text("state"),
        _number("attempts"),
        _big("epoch"),
        _time("created_at"),
        _time("next_attempt_at"),
        _text("lease_owner", nullable=True),
        _time("lease_until", nullable=True),
        _number("status", nullable=True),
        _text("because"),
        _time("sent_at", nullable=True),
        _time("committed_at", nullable=True),
        sa.UniqueConstraint("result_id", "peer"),
    )
    _index("delivery", "job_id")
    _index("delivery", "study_id", "peer", "state")
    _index("delivery", "state", "next_attempt_at")


def _what_is_said() -> None:
    _table(
        "outbox",
        _text("kind"),
        sa.Column("subject_id", _Id, nullable=False),
        _text("queue"),
        _time("created_at"),
        _time("published_at", nullable=True),
    )
    _index("outbox", "kind", "subject_id")
    _index("outbox", "published_at")
    _table(
        "event",
        _time("at"),
        _text("thing"),
        _id("thing_id"),
        _id("study_id"),
        _id("job_id"),
        _text("event"),
        _text("before"),
        _text("after"),
        _text("because"),
        _text("detail"),
    )
    _index("event", "study_id")
    _index("event", "job_id")
    _index("event", "at")
