"""Create throttles that all processes share, and indexes that find the next text, codes first.

Revision ID: 0004
Revises: 0003
"""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_moment = sa.DateTime(timezone=True)
# Not the server's time: the clock of the process that sends may be behind it.
_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


def upgrade() -> None:
    paces = op.create_table(
        "paces",
        sa.Column("name", sa.String(16), nullable=False),
        sa.Column("next_at", _moment, nullable=False),
        sa.Column("halvings", sa.Integer(), nullable=False),
        sa.Column("halved_at", _moment),
        sa.PrimaryKeyConstraint("name", name="pk_paces"),
    )
    op.execute(paces.insert().values(name="account", next_at=_LONG_AGO, halvings=0))
    op.add_column(
        "outbox",
        sa.Column("bot_number", sa.String(16), nullable=False, server_default=sa.text("''")),
    )
    op.execute(
        "UPDATE outbox SET bot_number = (SELECT bot_number FROM conversations"
        " WHERE conversations.id = outbox.conversation_id) WHERE state = 'queued'"
    )
    op.drop_index("ix_outbox_due", "outbox")
    in_turn = ["bot_number", "due_at", "id"]
    _index_queued("ix_outbox_codes", in_turn, " AND token_id IS NOT NULL")
    _index_queued("ix_outbox_others", in_turn, " AND token_id IS NULL")
    _index_queued("ix_outbox_send_by", ["send_by"])
    _index_queued("ix_outbox_in_doubt", ["due_at"], " AND doubts >= 2")


def _index_queued(name: str, columns: list[str], which: str = "") -> None:
    rows = sa.text("state = 'queued'" + which)
    op.create_index(name, "outbox", columns, sqlite_where=rows, postgresql_where=rows)


def downgrade() -> None:
    for name in ("codes", "others", "send_by", "in_doubt"):
        op.drop_index(f"ix_outbox_{name}", "outbox")
    with op.batch_alter_table("outbox") as outbox:
        outbox.drop_column("bot_number")
    _index_queued("ix_outbox_due", ["due_at"])
    op.drop_table("paces")
