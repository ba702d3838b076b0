"""Create a table of processes whose wall clock and monotonic clock differ.

Revision ID: 0007
Revises: 0006
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "clock_drifts",
        sa.Column("process", sa.String(80), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("measured_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("process", name="pk_clock_drifts"),
    )


def downgrade() -> None:
    op.drop_table("clock_drifts")
