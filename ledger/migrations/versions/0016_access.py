"""Access: accounts, sessions, tokens, and an audit trail that can only grow."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

_Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_SEALED = "the audit trail can only grow"


def _id() -> sa.Column[int]:
    return sa.Column("id", _Id, primary_key=True)


def _text(name: str, *, nullable: bool = False, unique: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=nullable, unique=unique)


def _time(name: str, *, nullable: bool = False) -> sa.Column[float]:
    return sa.Column(name, sa.Double(), nullable=nullable)


def _flag(name: str) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean(), nullable=False)


def _account() -> sa.Column[int]:
    return sa.Column("account_id", _Id, sa.ForeignKey("account.id"), nullable=False)


def upgrade() -> None:
    """Six new tables."""
    op.create_table(
        "account",
        _id(),
        _text("name", unique=True),
        _text("role"),
        _text("origin"),
        _text("subject", nullable=True, unique=True),
        _text("password"),
        _flag("must_change"),
        _text("totp_secret", nullable=True),
        sa.Column("totp_step", sa.BigInteger(), nullable=False),
        _text("recovery"),
        sa.Column("failures", sa.Integer(), nullable=False),
        _time("locked_until", nullable=True),
        _flag("disabled"),
        _time("created_at"),
        _text("created_by"),
        _time("signed_in_at", nullable=True),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "session",
        _id(),
        _text("digest", unique=True),
        _account(),
        _flag("complete"),
        _time("created_at"),
        _time("seen_at"),
        _time("expires_at"),
        _text("address"),
        _text("agent"),
        _time("names_until", nullable=True),
        _time("ended_at", nullable=True),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_session_account_id", "session", ["account_id"])
    op.create_index("ix_session_expires_at", "session", ["expires_at"])
    op.create_table(
        "api_token",
        _id(),
        _text("digest", unique=True),
        _account(),
        _text("label"),
        _text("role"),
        _text("permissions"),
        _time("created_at"),
        _text("created_by"),
        _time("expires_at"),
        _time("used_at", nullable=True),
        _text("used_from", nullable=True),
        _time("revoked_at", nullable=True),
        _text("revoked_by", nullable=True),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_api_token_account_id", "api_token", ["account_id"])
    op.create_table(
        "oidc_request",
        _id(),
        _text("state", unique=True),
        _text("nonce"),
        _text("verifier"),
        _text("back_to"),
        _time("created_at"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_oidc_request_created_at", "oidc_request", ["created_at"])
    _audit_trail()


def _audit_trail() -> None:
    op.create_table(
        "audit",
        _id(),
        sa.Column("number", sa.BigInteger(), nullable=False, unique=True),
        _time("at"),
        _text("who"),
        _text("role"),
        _text("address"),
        _text("what"),
        _text("thing_id"),
        _text("outcome"),
        _text("detail"),
        _text("digest"),
        sqlite_autoincrement=True,
    )
    for column in ("who", "what", "at"):
        op.create_index(f"ix_audit_{column}", "audit", [column])
    op.create_table(
        "audit_head",
        _id(),
        sa.Column("number", sa.BigInteger(), nullable=False),
        _text("digest"),
        sqlite_autoincrement=True,
    )
    op.execute(f"INSERT INTO audit_head (number, digest) VALUES (0, '{'0' * 64}')")  # noqa: S608  Ours alone.
    if op.get_bind().dialect.name == "sqlite":
        for event in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER audit_no_{event.lower()} BEFORE {event} ON audit "
                f"BEGIN SELECT RAISE(ABORT, '{_SEALED}'); END"
            )
    else:
        op.execute(
            "CREATE FUNCTION wetread_audit_sealed() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN RAISE EXCEPTION '{_SEALED}'; END $$"
        )
        op.execute(
            "CREATE TRIGGER audit_sealed BEFORE UPDATE OR DELETE OR TRUNCATE ON audit "
            "FOR EACH STATEMENT EXECUTE FUNCTION wetread_audit_sealed()"
        )
