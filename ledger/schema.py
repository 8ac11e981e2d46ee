"""
The tables, as they are after the latest migration.

Times are seconds since 1970-01-01 UTC by the database's clock. States are the words of the state machines.
UIDs, digests and AE titles are text, valid because only parsed values are written. A test holds this file and
the migrations against each other.
"""

import json
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    false,
)

#: The revision in `migrations/versions` that these tables are.
HEAD = "0017"


class Json(TypeDecorator[Any]):
    """A JSON document as ASCII text: the same on every database, and no NUL can reach PostgreSQL."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        return None if value is None else json.loads(value)


class Plain(TypeDecorator[str]):
    """Text as every database takes it: without NUL, and with a question mark for half a surrogate pair."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        if value is None or (value.isascii() and "\0" not in value):
            return value
        return value.replace("\0", "").encode("utf-8", "replace").decode("utf-8")


# SQLite counts rows by itself only in a column that is called exactly INTEGER.
Id = BigInteger().with_variant(Integer(), "sqlite")
metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _table(name: str, *columns: Column[Any] | UniqueConstraint | Index) -> Table:
    # AUTOINCREMENT: the number of a deleted row is never given again, so an old hint cannot name a new row.
    return Table(name, metadata, Column("id", Id, primary_key=True), *columns, sqlite_autoincrement=True)


def _to(column: str, *, nullable: bool = False) -> Column[Any]:
    return Column(f"{column}_id", Id, ForeignKey(f"{column}.id"), nullable=nullable)


def _text(name: str, *, nullable: bool = False) -> Column[Any]:
    return Column(name, Plain, nullable=nullable)


def _number(name: str, *, nullable: bool = False) -> Column[Any]:
    return Column(name, Integer, nullable=nullable)


def _time(name: str, *, nullable: bool = False) -> Column[Any]:
    return Column(name, Double, nullable=nullable)


study = _table(
    "study",
    Column("uid", Plain, nullable=False, unique=True),
    _text("state"),
    _number("generation"),
    _number("instances"),
    _number("series"),
    _time("first_arrival_at"),
    _time("opened_at"),
    _time("last_arrival_at"),
    _time("closed_at", nullable=True),
    _text("closed_because", nullable=True),
    _text("closed_as", nullable=True),
    _text("calling"),
    _text("patient_id"),
    _text("patient_name"),
    _text("accession_number"),
    _text("study_date"),
    _text("description"),
    _number("rules", nullable=True),  # Version of the rules that it was routed by; none of them was saved.
    # An operator is in a hurry: whatever is opened for it is urgent.
    Column("stat", Boolean, nullable=False, server_default=false()),
    Index(None, "state", "last_arrival_at"),
    Index(None, "last_arrival_at", "id"),  # The order in which people look at them.
    Index(None, "accession_number"),
)
series = _table(
    "series",
    _to("study"),
    _text("uid"),
    _text("modality"),
    Column("headers", Json, nullable=False),
    _number("instances"),  # Those held now: a purge sets it to 0.
    UniqueConstraint("study_id", "uid"),
)
instance = _table(
    "instance",
    _to("study"),
    _to("series"),
    Column("sop_instance", Plain, nullable=False, unique=True),
    _text("sop_class"),
    _text("transfer_syntax"),
    _text("digest"),
    Column("size", BigInteger, nullable=False),
    _text("path"),
    _text("calling"),
    _text("called"),
    _text("address"),
    _time("received_at"),
    _number("instance_number", nullable=True),
    _number("frames"),
    Column("position", Json, nullable=False),
    Column("orientation", Json, nullable=False),
    # Of an image without a position in the patient, which stands for itself: what rules may ask of it.
    Column("headers", Json, nullable=True),
    Index(None, "study_id"),
    Index(None, "series_id"),
    Index(None, "path"),
)
quarantine = _table(
    "quarantine",
    _time("at"),
    _text("sop_instance"),
    _text("digest"),
    _text("path"),
    _text("because"),
    _text("calling"),
    _text("address"),
    _to("study", nullable=True),
    UniqueConstraint("sop_instance", "digest"),
    Index(None, "path"),
)
routing_note = _table(
    "routing_note",
    _to("study"),
    _number("generation"),
    _to("series", nullable=True),
    _text("rule"),
    Column("taken", Boolean, nullable=False),
    _text("because"),
    Index(None, "study_id", "generation"),
)
job = _table(
    "job",
    Column("key", Plain, nullable=False, unique=True),
    _to("study"),
    _to("series"),
    _text("rule"),
    # A later job of the same rule about the same overtakes it: a series, an image, several series at once.
    Column("subject", Plain, nullable=False, server_default=""),
    _text("model"),
    Column("settings", Json, nullable=False),
    _number("earlier_asked", nullable=True),  # Earlier examinations, at most; none where no rule asks.
    _text("priority"),
    Column("destinations", Json, nullable=False),
    _text("state"),
    _number("attempts"),
    Column("epoch", BigInteger, nullable=False),
    _text("because"),
    _text("outcome", nullable=True),
    _text("model_identity"),
    _time("created_at"),
    _time("started_at", nullable=True),
    _time("finished_at", nullable=True),
    _time("next_attempt_at"),
    _text("lease_owner", nullable=True),
    _time("lease_until", nullable=True),
    Column("timings", Json, nullable=False),
    Column("supersedes", Id, ForeignKey("job.id"), nullable=True),
    # Of another version of the model, beside a job of the same rule: see `channel`.
    Column("shadow", Boolean, nullable=False, server_default=false()),
    Column("predecessor", Id, nullable=True),  # result.id; no foreign key, for `result` has one to `job`.
    # By destination, result.id of the report that it has, and that the new one replaces there.
    Column("predecessors", Json, nullable=False, server_default="{}"),
    _time("rank", nullable=True),  # Its place in the queue, where an operator moved it; else that is its id.
    # How many runs of the same on the same were asked for before it: their results have other UIDs.
    Column("again", Integer, nullable=False, server_default="0"),
    Index(None, "study_id"),
    Index(None, "rank"),
    Index(None, "series_id", "rule"),
    Index(None, "state", "next_attempt_at"),
)
job_input = _table(
    "job_input",
    _to("job"),
    _to("instance"),
    _text("input", nullable=True),  # Which of several inputs of the model it fills.
    UniqueConstraint("job_id", "instance_id"),
    Index(None, "instance_id"),
)
usage = _table(
    "usage",
    _to("job"),
    _time("at"),
    _text("reference"),  # The model as its rule names it.
    _text("model"),  # Its identity.
    _text("device"),
    Column("voxels", BigInteger, nullable=False),
    Column("seconds", Json, nullable=False),
    Column("began", Json, nullable=False),
    Column("host_peak", BigInteger, nullable=False),
    Column("device_peak", BigInteger, nullable=False),
    Column("host_weights", BigInteger, nullable=False),
    Column("device_weights", BigInteger, nullable=False),
    Column("host_allowed", BigInteger, nullable=False),
    Column("device_allowed", BigInteger, nullable=False),
    Column("resident", Boolean, nullable=False),
    Column("alone", Boolean, nullable=False),
    Column("lowered", Json, nullable=False),
    Column("out_of_memory", Boolean, nullable=False),
    Index(None, "job_id"),
    Index(None, "reference"),
)
worker = _table(
    "worker",
    Column("owner", Plain, nullable=False, unique=True),
    _text("device"),
    Column("idle", Boolean, nullable=False),
    Column("budget_bytes", BigInteger, nullable=False),
    Column("taken_bytes", BigInteger, nullable=False),
    _time("since"),
    _time("seen_at"),
    Column("works", Json, nullable=False, server_default="[]"),  # What it has in hand, and how far that is.
    Column("gauges", Json, nullable=False, server_default="null"),  # Of its GPU.
)
resident = _table(
    "resident",
    _to("worker"),
    _text("model"),  # As rules name it.
    UniqueConstraint("worker_id", "model"),
    Index(None, "model"),
)
result = _table(
    "result",
    _to("job"),
    _text("role"),
    _text("sop_class"),
    _text("sop_instance"),
    _text("study"),
    _text("series"),
    _text("transfer_syntax"),
    _text("digest"),
    Column("size", BigInteger, nullable=False),
    _text("path"),
    Column(
        "purged", Boolean, nullable=False, server_default=false()
    ),  # Its file was deleted with the study's.
    Column("peers", Json, nullable=True),  # The destinations that it is for; NULL: all of its job.
    Column("instead_of", Id, nullable=True),  # result.id of what a destination refused.
    _time("created_at"),
    UniqueConstraint("job_id", "sop_instance"),
    Index(None, "sop_instance"),
    Index(None, "path"),
)
delivery = _table(
    "delivery",
    _to("study"),
    _to("job"),
    _to("result"),
    _text("peer"),
    Column("root", Boolean, nullable=False),  # Refers to the other results of its job, so it goes last.
    # An attempt ended without an answer: the peer may have it, so it is not withdrawn but sent to the end.
    Column("in_doubt", Boolean, nullable=False, server_default=false()),
    # A rejection note: about earlier results, so no later one has to wait for it.
    Column("note", Boolean, nullable=False, server_default=false()),
    _text("state"),
    _number("attempts"),
    Column("epoch", BigInteger, nullable=False),
    _time("created_at"),
    _time("next_attempt_at"),
    _text("lease_owner", nullable=True),
    _time("lease_until", nullable=True),
    _number("status", nullable=True),
    _text("because"),
    _time("sent_at", nullable=True),
    _time("committed_at", nullable=True),
    UniqueConstraint("result_id", "peer"),
    Index(None, "job_id"),
    Index(None, "study_id", "peer", "state"),
    Index(None, "state", "next_attempt_at"),
)
commitment = _table(
    "commitment",
    Column("transaction_uid", Plain, nullable=False, unique=True),
    _to("study"),
    _to("job"),
    _text("peer"),
    _text("state"),
    _time("opened_at"),
    _time("asked_at", nullable=True),
    _time("answered_at", nullable=True),
    _text("because"),
    Index(None, "job_id"),
)
commitment_item = _table(
    "commitment_item",
    _to("commitment"),
    _to("delivery"),
    _text("sop_class"),
    _text("sop_instance"),
    Column("committed", Boolean, nullable=True),
    _number("reason", nullable=True),
    UniqueConstraint("commitment_id", "delivery_id"),
    Index(None, "delivery_id"),
)
rejected = _table(
    "rejected",
    _to("result"),  # The rejection note …
    _to("delivery"),  # … and a delivery that it names: what the peer has and should put away.
    _text("policy"),  # "reject" or "replace", as it was when the note was made.
    UniqueConstraint("delivery_id"),  # Once: whoever comes second finds nothing left to reject.
    Index(None, "result_id"),
)
receiver = _table(
    "receiver",
    Column("name", Plain, nullable=False, unique=True),
    _time("since"),  # What ended before it was first seen in the settings is none of its business.
)
given_up = _table(
    "given_up",
    _to("job"),
    Column("job_epoch", BigInteger, nullable=False),  # A job that is asked for again may be given up again.
    _time("at"),
    _text("fault"),
    _text("because"),
    # Whether it is decided what its destinations hear of it, and what: a report, or why none could be made.
    Column("settled", Boolean, nullable=False, server_default=false()),
    _text("told"),
    _to("result", nullable=True),
    Index(None, "job_id"),
    Index(None, "result_id"),
    Index(None, "settled"),
)
notification = _table(
    "notification",
    _to("study", nullable=True),  # None: it is about alarms, or about several runs.
    _to("job", nullable=True),
    Column("job_epoch", BigInteger, nullable=False),
    _to("alarm", nullable=True),
    Column("told_in", Id, nullable=True),  # notification.id of the digest that tells it.
    _text("receiver"),
    _text("rule"),
    _text("subject"),
    _text("occasion"),
    Column("corrects", Boolean, nullable=False),
    _text("control_id"),
    _text("body"),  # Empty once the study was purged.
    _text("state"),
    _number("attempts"),
    Column("epoch", BigInteger, nullable=False),
    _time("created_at"),
    _time("next_attempt_at"),
    _text("lease_owner", nullable=True),
    _time("lease_until", nullable=True),
    _text("because"),
    _time("taken_at", nullable=True),
    UniqueConstraint("job_id", "job_epoch", "receiver"),  # Once, however many sweeps there are.
    Index(None, "study_id", "receiver", "state"),
    Index(None, "state", "next_attempt_at"),
    Index(None, "alarm_id"),
    Index(None, "receiver", "created_at"),
)
alarm = _table(
    "alarm",
    _text("kind"),
    _text("about"),  # What tells those of one kind apart: a peer, a receiver, a job.
    _text("words"),
    Column("urgent", Boolean, nullable=False),
    _time("opened_at"),
    _time("seen_at"),
    _time("cleared_at", nullable=True),
    Index(None, "cleared_at"),
    Index(None, "opened_at"),
)
workitem = _table(
    "workitem",
    _text("manager"),
    _text("sop_instance"),
    _text("study_uid"),  # It may be listed before its images are here.
    _text("code"),
    _text("rule"),
    _text("transaction_uid"),
    _text("state"),
    _text("because"),
    _time("listed_at"),
    _time("claimed_at", nullable=True),
    _time("ended_at", nullable=True),
    Column("outputs", Json, nullable=False),
    UniqueConstraint("manager", "sop_instance"),
    Index(None, "manager", "state"),
)
promise = _table(
    "promise",
    _text("transaction_uid"),
    _text("calling"),
    _text("address"),
    _text("state"),
    _number("attempts"),
    _time("next_attempt_at"),
    _time("asked_at"),
    _time("answered_at", nullable=True),
    _text("because"),
    UniqueConstraint("transaction_uid", "calling"),
    Index(None, "state", "next_attempt_at"),
)
expected_instance = _table(
    "expected_instance",
    _to("promise"),
    _text("sop_class"),
    _text("sop_instance"),
    UniqueConstraint("promise_id", "sop_instance"),
    Index(None, "sop_instance"),
)
statement = _table(
    "statement",
    _to("study"),
    _number("generation"),  # Of the closing that it belongs to, or will belong to.
    _to("series", nullable=True),
    _time("at"),
    _text("witness"),
    _text("given_by"),
    _text("because"),
    _number("ours", nullable=True),
    _number("theirs", nullable=True),
    Column("decided", Boolean, nullable=False),
    Index(None, "study_id", "generation"),
)
peer_count = _table(
    "peer_count",
    _to("study"),
    _text("peer"),
    _number("theirs", nullable=True),
    Column("series", Json, nullable=False),  # Series Instance UID → instances, where it was asked for them.
    _text("counted_by"),
    _time("asked_at"),
    _time("since_at"),
    _text("because"),  # Why the latest question had no answer.
    UniqueConstraint("study_id", "peer"),
)
fetch = _table(
    "fetch",
    _text("purpose"),
    _text("study_uid"),  # What is fetched need not be here yet.
    _text("peer"),
    _to("study", nullable=True),  # In whose history it is told: of a prior, the study that it is for.
    Column("terms", Json, nullable=False),
    _text("state"),
    _number("attempts"),
    _time("next_attempt_at"),
    _time("asked_at"),
    _time("started_at", nullable=True),
    _time("finished_at", nullable=True),
    _text("because"),
    Index(None, "state", "next_attempt_at"),
    Index(None, "study_uid"),
    Index(None, "study_id"),
)
fetch_item = _table(
    "fetch_item",
    _to("fetch"),
    _text("sop_instance"),
    UniqueConstraint("fetch_id", "sop_instance"),
    Index(None, "sop_instance"),
)
# What was added up of history, arrivals and usages: see `ledger.figures`.
tally = _table(
    "tally",
    _text("name"),
    Column("labels", Json, nullable=False),  # [[name, value], …], by name
    Column("total", Double, nullable=False),
    Column("buckets", Json, nullable=False),  # upper end → how many
    UniqueConstraint("name", "labels"),
)
tally_cursor = _table(
    "tally_cursor",
    Column("source", Plain, nullable=False, unique=True),  # The table whose rows are added up …
    Column("up_to", BigInteger, nullable=False),  # … up to this id …
    Column("missing", Json, nullable=False),  # … but for these: [[first, last, noticed at], …]
)
# Studies that were told of to a collector of traces, each closing of them once.
traced = _table(
    "traced",
    _to("study"),
    _number("generation"),
    _time("at"),
    UniqueConstraint("study_id", "generation"),
)
pause = _table(
    "pause",
    _text("kind"),
    _text("name"),
    _time("since"),
    _text("by"),
    _text("because"),
    UniqueConstraint("kind", "name"),
)
wish = _table(
    "wish",
    _text("kind"),
    _to("study", nullable=True),
    Column("quarantined", Id, nullable=True),  # quarantine.id; no foreign key, for that row goes.
    _text("by"),
    _text("because"),
    _time("asked_at"),
    _time("settled_at", nullable=True),
    Column("done", Boolean, nullable=False, server_default=false()),
    _text("answer"),
    Index(None, "settled_at"),
    Index(None, "study_id"),
)
channel = _table(
    "channel",
    Column("name", Plain, nullable=False, unique=True),
    _text("active"),
    _text("shadow", nullable=True),
    _time("changed_at"),
    _text("changed_by"),
)
feedback = _table(
    "feedback",
    _to("study"),
    _to("job"),
    _time("at"),
    _text("model"),  # Its identity, as it was when it made the result.
    _text("said_by"),
    _text("judgement", nullable=True),
    _text("comment"),
    Index(None, "job_id"),
    Index(None, "model"),
)
feedback_key = _table("feedback_key", _text("key"), _time("made_at"))
rule_set = _table(
    "rule_set",
    Column("number", Integer, nullable=False, unique=True),  # Without gaps: the latest one is in force.
    _time("at"),
    _text("by"),
    _text("comment"),
    _text("source"),
    Column("rules", Json, nullable=False),
    _number("same_as", nullable=True),
)
account = _table(
    "account",
    Column("name", Plain, nullable=False, unique=True),
    _text("role"),
    _text("origin"),
    Column("subject", Plain, nullable=True, unique=True),
    _text("password"),  # Argon2id, in PHC format; empty where there is none.
    Column("must_change", Boolean, nullable=False),
    _text("totp_secret", nullable=True),
    Column("totp_step", BigInteger, nullable=False),
    Column("recovery", Json, nullable=False),  # SHA-256 of the codes that are left.
    _number("failures"),
    _time("locked_until", nullable=True),
    Column("disabled", Boolean, nullable=False),
    _time("created_at"),
    _text("created_by"),
    _time("signed_in_at", nullable=True),
)
session = _table(
    "session",
    Column("digest", Plain, nullable=False, unique=True),  # SHA-256 of what the cookie says.
    _to("account"),
    Column("complete", Boolean, nullable=False),  # Otherwise the second factor is still owed.
    _time("created_at"),
    _time("seen_at"),
    _time("expires_at"),
    _text("address"),
    _text("agent"),
    _time("names_until", nullable=True),
    _time("ended_at", nullable=True),
    Index(None, "account_id"),
    Index(None, "expires_at"),
)
api_token = _table(
    "api_token",
    Column("digest", Plain, nullable=False, unique=True),
    _to("account"),
    _text("label"),
    _text("role"),
    Column("permissions", Json, nullable=False),  # null: all of the role's.
    _time("created_at"),
    _text("created_by"),
    _time("expires_at"),
    _time("used_at", nullable=True),
    _text("used_from", nullable=True),
    _time("revoked_at", nullable=True),
    _text("revoked_by", nullable=True),
    Index(None, "account_id"),
)
oidc_request = _table(
    "oidc_request",
    Column("state", Plain, nullable=False, unique=True),  # SHA-256 of the state that the browser carries.
    _text("nonce"),
    _text("verifier"),
    _text("back_to"),
    _time("created_at"),
    Index(None, "created_at"),
)
# Append-only, by triggers: see migration 0016.
audit = _table(
    "audit",
    Column("number", BigInteger, nullable=False, unique=True),
    _time("at"),
    _text("who"),
    _text("role"),
    _text("address"),
    _text("what"),
    _text("thing_id"),
    _text("outcome"),
    Column("detail", Json, nullable=False),
    _text("digest"),
    Index(None, "who"),
    Index(None, "what"),
    Index(None, "at"),
)
audit_head = _table(
    "audit_head",
    Column("number", BigInteger, nullable=False),
    _text("digest"),
)
outbox = _table(
    "outbox",
    _text("kind"),
    Column("subject_id", Id, nullable=False),
    _text("queue"),
    _time("created_at"),
    _time("published_at", nullable=True),
    Index(None, "kind", "subject_id"),
    Index(None, "published_at"),
)
event = _table(
    "event",
    _time("at"),
    _text("thing"),
    Column("thing_id", Id, nullable=True),
    Column("study_id", Id, nullable=True),
    Column("job_id", Id, nullable=True),
    _text("event"),
    _text("before"),
    _text("after"),
    _text("because"),
    Column("detail", Json, nullable=False),
    Index(None, "study_id"),
    Index(None, "job_id"),
    Index(None, "at"),
)
