"""Count the unknown references of a phone: after ten in an hour none is looked up.

No table is rewritten: the rows of earlier versions have NULL, which is read as an empty list.

Revision ID: 0010
Revises: 0009
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

_TABLES = ("phone_limits", "web_phone_limits")


def upgrade() -> None:
    for table in _TABLES:
        op.add_column(table, sa.Column("unknown_reference_times", sa.JSON()))


def downgrade() -> None:
    for table in _TABLES:
        op.drop_column(table, "unknown_reference_times")
