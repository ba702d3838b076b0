"""Create tables of alerts, of counters over all phones, and of events about opt-outs.

Revision ID: 0012
Revises: 0011
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.create_table(
        "alerts",
        sa.Column("code", sa.String(32), nullable=False),
        sa.Column("scope", sa.String(64), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("raised_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("logged", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("code", "scope", name="pk_alerts"),
    )
    not_logged = sa.text("NOT logged")
    op.create_index(
        "ix_alerts_not_logged",
        "alerts",
        ["code"],
        sqlite_where=not_logged,
        postgresql_where=not_logged,
    )
    op.create_table(
        "counters",
        sa.Column("name", sa.String(80), nullable=False),
        sa.Column("began_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("value", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_counters"),
    )
    op.create_table(
        "opt_event_counts",
        sa.Column("phone", sa.String(16), nullable=False),
        sa.Column("bot_number", sa.String(16), nullable=False),
        sa.Column("latest", sa.String(40), nullable=False),
        sa.Column("reported_at", sa.JSON(), nullable=False),
        sa.Column("left_out", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("phone", name="pk_opt_event_counts"),
    )
    op.create_index("ix_opt_event_counts_due_at", "opt_event_counts", ["due_at"])


def downgrade() -> None:
    op.drop_table("opt_event_counts")
    op.drop_table("counters")
    op.drop_table("alerts")
