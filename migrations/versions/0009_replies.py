"""Say of each code which reply by text completes its request.

A code that an app or the form asked for before this migration can only be typed.

Revision ID: 0009
Revises: 0008
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.add_column(
        "tokens", sa.Column("reply_rule", sa.String(20), server_default="none", nullable=False)
    )
    op.add_column(
        "tokens", sa.Column("letters_index", sa.Integer, server_default="0", nullable=False)
    )
    op.add_column(
        "tokens", sa.Column("explained", sa.Boolean, server_default=sa.false(), nullable=False)
    )
    op.add_column(
        "verifications",
        sa.Column("complete", sa.String(20), server_default="typed", nullable=False),
    )
    op.add_column(
        "verifications", sa.Column("letters_index", sa.Integer, server_default="0", nullable=False)
    )
    op.execute("UPDATE tokens SET reply_rule = 'code' WHERE origin IN ('person', 'reference')")
    op.execute("UPDATE verifications SET complete = 'reply' WHERE origin = 'reference'")


def downgrade() -> None:
    for name in ("complete", "letters_index"):
        op.drop_column("verifications", name)
    for name in ("reply_rule", "letters_index", "explained"):
        op.drop_column("tokens", name)
