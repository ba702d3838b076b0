"""Store when START was last texted, as for STOP: the later one counts.

Revision ID: 0006
Revises: 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("conversations", sa.Column("opted_in_at", sa.DateTime(timezone=True)))


def downgrade() -> None:
    op.drop_column("conversations", "opted_in_at")
