"""Count attempts at the web form in a table of their own, and its codes in the outbox.

The counts of the last day continue: the requests of each network, and the texts of the form.

Revision ID: 0016
Revises: 0015
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"

_FOR_FORM = sa.text("origin = 'form'")
_ROW_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_TIME = sa.DateTime(timezone=True)
_TABLES = ("form_attempts", "form_proofs", "form_waits")
_COPY_REQUESTS = sa.text(
    "INSERT INTO form_attempts (kind, subject, made_at)"
    " SELECT 'request', asked_from, created_at FROM verifications"
    " WHERE origin = 'form' AND asked_from IS NOT NULL AND created_at > :since"
).bindparams(sa.bindparam("since", type_=_TIME))
_MARK_TEXTS = sa.text(
    "UPDATE outbox SET origin = 'form' WHERE created_at > :since AND token_id IN"
    " (SELECT id FROM tokens WHERE origin = 'form' AND expires_at > :since)"
).bindparams(sa.bindparam("since", type_=_TIME))


def upgrade() -> None:
    op.create_table(
        "form_attempts",
        sa.Column("id", _ROW_ID, autoincrement=True, nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("subject", sa.String(64), nullable=False),
        sa.Column("made_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_form_attempts"),
    )
    op.create_index("ix_form_attempts_subject", "form_attempts", ["subject", "kind", "made_at"])
    op.create_index("ix_form_attempts_made_at", "form_attempts", ["made_at"])
    op.create_table(
        "form_proofs",
        sa.Column("proof", sa.String(32), nullable=False),
        sa.Column("used_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("proof", name="pk_form_proofs"),
    )
    op.create_index("ix_form_proofs_used_at", "form_proofs", ["used_at"])
    op.create_table(
        "form_waits",
        sa.Column("network", sa.String(64), nullable=False),
        sa.Column("session", sa.String(64), nullable=False),
        sa.Column("ready_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("network", name="pk_form_waits"),
    )
    op.create_index("ix_form_waits_ready_at", "form_waits", ["ready_at"])
    op.add_column("outbox", sa.Column("origin", sa.String(20)))
    op.create_index(
        "ix_outbox_form",
        "outbox",
        ["created_at"],
        sqlite_where=_FOR_FORM,
        postgresql_where=_FOR_FORM,
    )
    since = {"since": datetime.now(UTC) - timedelta(days=1)}
    connection = op.get_bind()
    connection.execute(_COPY_REQUESTS, since)
    connection.execute(_MARK_TEXTS, since)
    op.drop_index("ix_verifications_form", "verifications")
    op.drop_column("verifications", "asked_from")


def downgrade() -> None:
    op.add_column("verifications", sa.Column("asked_from", sa.String(64)))
    op.create_index(
        "ix_verifications_form",
        "verifications",
        ["created_at"],
        sqlite_where=_FOR_FORM,
        postgresql_where=_FOR_FORM,
    )
    op.drop_index("ix_outbox_form", "outbox")
    op.drop_column("outbox", "origin")
    for table in _TABLES:
        op.drop_table(table)
