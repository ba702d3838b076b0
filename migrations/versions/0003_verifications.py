"""Create tables for the API: verifications, app events, API keys, and idempotency keys.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_row_id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_number = sa.String(16)
_state = sa.String(20)
_moment = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("tokens", sa.Column("verification_id", sa.String(32)))
    op.add_column(
        "tokens", sa.Column("origin", _state, nullable=False, server_default=sa.text("'person'"))
    )
    _index_some(
        "ix_tokens_asked",
        "tokens",
        ["conversation_id", "expires_at"],
        "verification_id IS NOT NULL",
    )
    op.create_table(
        "web_ledgers",
        sa.Column("phone", _number, nullable=False),
        sa.Column("wrong_guesses", sa.Integer(), nullable=False),
        sa.Column("locks", sa.Integer(), nullable=False),
        sa.Column("locked_until", _moment),
        sa.Column("refused_until", _moment),
        sa.Column("told_until", _moment),
        sa.Column("code_times", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("phone", name="pk_web_ledgers"),
    )
    _create_verifications()
    _create_events()
    op.create_table(
        "keys",
        sa.Column("id", _row_id, autoincrement=True, nullable=False),
        sa.Column("name", sa.String(16), nullable=False),
        sa.Column("title", sa.String(64), nullable=False),
        sa.Column("secret_hash", sa.String(64), nullable=False),
        sa.Column("scopes", sa.String(200), nullable=False),
        sa.Column("per_minute", sa.Integer(), nullable=False),
        sa.Column("created_at", _moment, nullable=False),
        sa.Column("revoked_at", _moment),
        sa.PrimaryKeyConstraint("id", name="pk_keys"),
        sa.UniqueConstraint("name", name="uq_keys_name"),
    )
    op.create_table(
        "requests",
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("outcome", _state, nullable=False),
        sa.Column("verification_name", sa.String(32), nullable=False),
        sa.Column("tries_left", sa.Integer(), nullable=False),
        sa.Column("answered_at", _moment, nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_requests"),
    )
    op.create_index("ix_requests_answered_at", "requests", ["answered_at"])


def _create_verifications() -> None:
    op.create_table(
        "verifications",
        sa.Column("id", _row_id, autoincrement=True, nullable=False),
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("origin", _state, nullable=False),
        sa.Column("bot_number", _number, nullable=False),
        sa.Column("phone", _number),
        sa.Column("reference", sa.String(128)),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.Column("status", _state, nullable=False),
        sa.Column("reason", _state),
        sa.Column("created_at", _moment, nullable=False),
        sa.Column("expires_at", _moment, nullable=False),
        sa.Column("ended_at", _moment),
        sa.Column("session", sa.String(64)),
        sa.Column("asked_from", sa.String(64)),
        sa.Column("test", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_verifications"),
        sa.UniqueConstraint("name", name="uq_verifications_name"),
    )
    for column in ("created_at", "phone", "reference", "session"):
        op.create_index(f"ix_verifications_{column}", "verifications", [column])
    op.create_index("ix_verifications_origin", "verifications", ["origin", "created_at"])
    _index_some("ix_verifications_pending", "verifications", ["expires_at"], "status = 'pending'")
    _index_some(
        "uq_verifications_reference",
        "verifications",
        ["reference"],
        "origin = 'reference'",
        unique=True,
    )


def _create_events() -> None:
    op.create_table(
        "events",
        sa.Column("id", _row_id, autoincrement=True, nullable=False),
        sa.Column("name", sa.String(40), nullable=False),
        sa.Column("subject", sa.String(32), nullable=False),
        sa.Column("type", sa.String(40), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("state", _state, nullable=False),
        sa.Column("created_at", _moment, nullable=False),
        sa.Column("due_at", _moment, nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("fault", sa.String(64)),
        sa.PrimaryKeyConstraint("id", name="pk_events"),
        sa.UniqueConstraint("name", name="uq_events_name"),
    )
    op.create_index("ix_events_created_at", "events", ["created_at"])
    _index_some("ix_events_queued", "events", ["subject", "id"], "state = 'queued'")
    _index_some("ix_events_due", "events", ["due_at"], "state = 'queued'")
    _index_some("ix_events_dead", "events", ["id"], "state = 'dead'")
    op.create_table(
        "receivers",
        sa.Column("url_hash", sa.String(64), nullable=False),
        sa.Column("disabled_at", _moment, nullable=False),
        sa.PrimaryKeyConstraint("url_hash", name="pk_receivers"),
    )


def _index_some(
    name: str, table: str, columns: list[str], where: str, *, unique: bool = False
) -> None:
    rows = sa.text(where)
    op.create_index(name, table, columns, unique=unique, sqlite_where=rows, postgresql_where=rows)


def downgrade() -> None:
    for table in ("receivers", "requests", "keys", "events", "verifications", "web_ledgers"):
        op.drop_table(table)
    op.drop_index("ix_tokens_asked", "tokens")
    with op.batch_alter_table("tokens") as tokens:
        tokens.drop_column("origin")
        tokens.drop_column("verification_id")
