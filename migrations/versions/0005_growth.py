"""Create indexes that statements need, and drop those that only make inserts slower.

Revision ID: 0005
Revises: 0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.drop_index("ix_conversations_state", "conversations")
    op.drop_index("ix_tokens_conversation_id", "tokens")
    op.drop_index("ix_verifications_origin", "verifications")
    _index_some("ix_verifications_form", "verifications", "created_at", "origin = 'form'")
    op.create_index("ix_verifications_status", "verifications", ["status", "id"])
    op.drop_index("ix_outbox_conversation_id", "outbox")
    op.drop_index("ix_outbox_carrier_id", "outbox")
    _index_some("ix_outbox_carrier_id", "outbox", "carrier_id", "carrier_id IS NOT NULL")
    with op.batch_alter_table("outbox") as outbox:
        outbox.drop_constraint("uq_outbox_key", type_="unique")


def downgrade() -> None:
    with op.batch_alter_table("outbox") as outbox:
        outbox.create_unique_constraint("uq_outbox_key", ["key"])
    op.drop_index("ix_outbox_carrier_id", "outbox")
    op.create_index("ix_outbox_carrier_id", "outbox", ["carrier_id"])
    op.create_index("ix_outbox_conversation_id", "outbox", ["conversation_id"])
    op.drop_index("ix_verifications_status", "verifications")
    op.drop_index("ix_verifications_form", "verifications")
    op.create_index("ix_verifications_origin", "verifications", ["origin", "created_at"])
    op.create_index("ix_tokens_conversation_id", "tokens", ["conversation_id"])
    op.create_index("ix_conversations_state", "conversations", ["state"])


def _index_some(name: str, table: str, column: str, where: str) -> None:
    rows = sa.text(where)
    op.create_index(name, table, [column], sqlite_where=rows, postgresql_where=rows)
