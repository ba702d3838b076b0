"""Name tables, columns, indexes and constraints by what they hold.

Nothing is rewritten on PostgreSQL. SQLite renames tables and columns in place, but makes indexes
again, and rebuilds a table for a new name of a unique constraint. It keeps the old names of primary
keys: nothing refers to them, and tables with a row for each phone would have to be rebuilt.

Revision ID: 0008
Revises: 0007
"""

from __future__ import annotations

from typing import NamedTuple

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


class _Index(NamedTuple):
    """An index to rename; the other fields describe it under the new names."""

    old: str
    new: str
    table: str
    columns: tuple[str, ...]
    where: str | None = None


_TABLES = {
    "ledgers": "phone_limits",
    "web_ledgers": "web_phone_limits",
    "received": "processed_webhooks",
    "reports": "early_reports",
    "receivers": "disabled_endpoints",
    "requests": "idempotency_keys",
    "keys": "api_keys",
    "events": "app_events",
    "paces": "throttles",
}
_COLUMNS = (
    ("phone_limits", "told_until", "notified_until"),
    ("web_phone_limits", "told_until", "notified_until"),
    ("conversations", "hints", "hints_in_a_row"),
    ("conversations", "hinted_at", "last_hint_at"),
    ("conversations", "answers", "answers_in_a_row"),
    ("conversations", "answered_at", "last_answer_at"),
    ("outbox", "doubts", "uncertain_attempts"),
    ("verifications", "name", "public_id"),
    ("verifications", "details", "metadata"),
    ("app_events", "name", "public_id"),
    ("api_keys", "name", "public_id"),
    ("idempotency_keys", "verification_name", "verification_id"),
    ("processed_webhooks", "received_at", "processed_at"),
)
_UNIQUE = (
    ("verifications", "uq_verifications_name", "uq_verifications_public_id"),
    ("app_events", "uq_events_name", "uq_app_events_public_id"),
    ("api_keys", "uq_keys_name", "uq_api_keys_public_id"),
)
_INDEXES = (
    _Index(
        "ix_tokens_asked",
        "ix_tokens_with_verification",
        "tokens",
        ("conversation_id", "expires_at"),
        "verification_id IS NOT NULL",
    ),
    _Index(
        "ix_outbox_in_doubt",
        "ix_outbox_uncertain",
        "outbox",
        ("due_at",),
        "state = 'queued' AND uncertain_attempts >= 2",
    ),
    _Index(
        "ix_events_queued",
        "ix_app_events_queued",
        "app_events",
        ("subject", "id"),
        "state = 'queued'",
    ),
    _Index("ix_events_due", "ix_app_events_due", "app_events", ("due_at",), "state = 'queued'"),
    _Index("ix_events_dead", "ix_app_events_dead", "app_events", ("id",), "state = 'dead'"),
    _Index("ix_events_created_at", "ix_app_events_created_at", "app_events", ("created_at",)),
    _Index(
        "ix_requests_answered_at",
        "ix_idempotency_keys_answered_at",
        "idempotency_keys",
        ("answered_at",),
    ),
    _Index(
        "ix_received_received_at",
        "ix_processed_webhooks_processed_at",
        "processed_webhooks",
        ("processed_at",),
    ),
    _Index(
        "ix_reports_received_at",
        "ix_early_reports_received_at",
        "early_reports",
        ("received_at",),
    ),
)
_SEQUENCES = {"keys_id_seq": "api_keys_id_seq", "events_id_seq": "app_events_id_seq"}


def upgrade() -> None:
    for old, new in _TABLES.items():
        op.rename_table(old, new)
    for table, old, new in _COLUMNS:
        _rename_column(table, old, new)
    for table, old, new in _UNIQUE:
        _rename_unique(table, old, new)
    for index in _INDEXES:
        _rename_index(index, index.old, index.new)
    if not _on_sqlite():
        for old, new in _TABLES.items():
            _rename_constraint(new, f"pk_{old}", f"pk_{new}")
        for old, new in _SEQUENCES.items():
            op.execute(f"ALTER SEQUENCE {old} RENAME TO {new}")


def downgrade() -> None:
    if not _on_sqlite():
        for old, new in _SEQUENCES.items():
            op.execute(f"ALTER SEQUENCE {new} RENAME TO {old}")
        for old, new in _TABLES.items():
            _rename_constraint(new, f"pk_{new}", f"pk_{old}")
    for index in _INDEXES:
        _rename_index(index, index.new, index.old)
    for table, old, new in _UNIQUE:
        _rename_unique(table, new, old)
    for table, old, new in _COLUMNS:
        _rename_column(table, new, old)
    for old, new in _TABLES.items():
        op.rename_table(new, old)


def _rename_column(table: str, old: str, new: str) -> None:
    op.execute(f"ALTER TABLE {table} RENAME COLUMN {old} TO {new}")


def _rename_constraint(table: str, old: str, new: str) -> None:
    op.execute(f"ALTER TABLE {table} RENAME CONSTRAINT {old} TO {new}")


def _rename_unique(table: str, old: str, new: str) -> None:
    if not _on_sqlite():
        _rename_constraint(table, old, new)
        return
    with op.batch_alter_table(table) as rebuilt:
        rebuilt.drop_constraint(old, type_="unique")
        rebuilt.create_unique_constraint(new, ["public_id"])


def _rename_index(index: _Index, old: str, new: str) -> None:
    if not _on_sqlite():
        op.execute(f"ALTER INDEX {old} RENAME TO {new}")
        return
    op.drop_index(old, index.table)
    where = sa.text(index.where) if index.where else None
    op.create_index(new, index.table, index.columns, sqlite_where=where)


def _on_sqlite() -> bool:
    return op.get_context().dialect.name == "sqlite"
