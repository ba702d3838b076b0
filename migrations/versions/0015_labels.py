"""Keep the label of a reference: what the code text says that the verification is about.

No table is rewritten: verifications of earlier versions have none.

Revision ID: 0015
Revises: 0014
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    op.add_column("verifications", sa.Column("label", sa.String(24)))


def downgrade() -> None:
    op.drop_column("verifications", "label")
