"""Create the first tables: limits, conversations, tokens, outbox, and processed webhooks.

Revision ID: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_row_id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_number = sa.String(16)
_state = sa.String(20)
_moment = sa.DateTime(timezone=True)
_queued = sa.text("state = 'queued'")


def upgrade() -> None:
    op.create_table(
        "ledgers",
        sa.Column("phone", _number, nullable=False),
        sa.Column("wrong_guesses", sa.Integer(), nullable=False),
        sa.Column("locks", sa.Integer(), nullable=False),
        sa.Column("locked_until", _moment),
        sa.Column("refused_until", _moment),
        sa.Column("told_until", _moment),
        sa.Column("code_times", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("phone", name="pk_ledgers"),
    )
    op.create_table(
        "conversations",
        sa.Column("id", _row_id, autoincrement=True, nullable=False),
        sa.Column("phone", _number, nullable=False),
        sa.Column("bot_number", _number, nullable=False),
        sa.Column("state", _state, nullable=False),
        sa.Column("verified_at", _moment),
        sa.Column("token_id", sa.String(32)),
        sa.Column("opted_out_at", _moment),
        sa.Column("opt_out_wording", sa.String(64)),
        sa.Column("hints", sa.Integer(), nullable=False),
        sa.Column("hinted_at", _moment),
        sa.Column("answers", sa.Integer(), nullable=False),
        sa.Column("answered_at", _moment),
        sa.PrimaryKeyConstraint("id", name="pk_conversations"),
        sa.UniqueConstraint("phone", "bot_number", name="uq_conversations_phone"),
    )
    op.create_index("ix_conversations_state", "conversations", ["state"])
    op.create_table(
        "tokens",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("conversation_id", _row_id, nullable=False),
        sa.Column("key_id", sa.String(16), nullable=False),
        sa.Column("length", sa.Integer(), nullable=False),
        sa.Column("alphabet", _state, nullable=False),
        sa.Column("issued_at", _moment, nullable=False),
        sa.Column("expires_at", _moment, nullable=False),
        sa.Column("resend_after", _moment, nullable=False),
        sa.Column("guesses", sa.Integer(), nullable=False),
        sa.Column("used_at", _moment),
        sa.Column("ended_at", _moment),
        sa.ForeignKeyConstraint(
            ["conversation_id"],
            ["conversations.id"],
            name="fk_tokens_conversation_id_conversations",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_tokens"),
    )
    op.create_index("ix_tokens_conversation_id", "tokens", ["conversation_id"])
    op.create_index("ix_tokens_expires_at", "tokens", ["expires_at"])
    op.create_table(
        "outbox",
        sa.Column("id", _row_id, autoincrement=True, nullable=False),
        sa.Column("key", sa.String(32), nullable=False),
        sa.Column("conversation_id", _row_id, nullable=False),
        sa.Column("token_id", sa.String(32)),
        sa.Column("reply", _state, nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("state", _state, nullable=False),
        sa.Column("created_at", _moment, nullable=False),
        sa.Column("send_by", _moment, nullable=False),
        sa.Column("due_at", _moment, nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("carrier_id", sa.String(128)),
        sa.Column("fault", sa.String(64)),
        sa.ForeignKeyConstraint(
            ["conversation_id"],
            ["conversations.id"],
            name="fk_outbox_conversation_id_conversations",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["token_id"], ["tokens.id"], name="fk_outbox_token_id_tokens", ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_outbox"),
        sa.UniqueConstraint("key", name="uq_outbox_key"),
    )
    op.create_index("ix_outbox_conversation_id", "outbox", ["conversation_id"])
    op.create_index("ix_outbox_token_id", "outbox", ["token_id"])
    op.create_index("ix_outbox_carrier_id", "outbox", ["carrier_id"])
    op.create_index("ix_outbox_created_at", "outbox", ["created_at"])
    for name, columns in {"queued": ["conversation_id", "id"], "due": ["due_at"]}.items():
        op.create_index(
            f"ix_outbox_{name}",
            "outbox",
            columns,
            sqlite_where=_queued,
            postgresql_where=_queued,
        )
    op.create_table(
        "received",
        sa.Column("key", sa.String(136), nullable=False),
        sa.Column("received_at", _moment, nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_received"),
    )
    op.create_index("ix_received_received_at", "received", ["received_at"])
    op.create_table(
        "reports",
        sa.Column("carrier_id", sa.String(128), nullable=False),
        sa.Column("state", _state, nullable=False),
        sa.Column("fault", sa.String(64)),
        sa.Column("received_at", _moment, nullable=False),
        sa.PrimaryKeyConstraint("carrier_id", name="pk_reports"),
    )
    op.create_index("ix_reports_received_at", "reports", ["received_at"])


def downgrade() -> None:
    for table in ("reports", "received", "outbox", "tokens", "conversations", "ledgers"):
        op.drop_table(table)
