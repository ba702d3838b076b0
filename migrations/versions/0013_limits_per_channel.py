"""Keep guess counts and locks for each channel, and the codes of a day for each class of channels.

The code texts that apps and the form have asked for count as those of apps; the next day they are
forgotten. The counts and locks of `web_phone_limits` are dropped: nothing says in which app, or
whether at the form, the codes were typed. No table is rewritten.

Revision ID: 0013
Revises: 0012
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from alembic import op

if TYPE_CHECKING:
    from sqlalchemy import Connection

revision = "0013"
down_revision = "0012"

_TIME = sa.DateTime(timezone=True)
_LISTS = ("key_code_times", "form_code_times", "wrong_times")
_CHANNEL = sa.String(24)


def upgrade() -> None:
    for name in _LISTS:
        op.add_column("phone_limits", sa.Column(name, sa.JSON()))
    op.add_column("phone_limits", sa.Column("closed", sa.JSON()))
    op.add_column(
        "phone_limits", sa.Column("failures", sa.Integer(), nullable=False, server_default="0")
    )
    op.add_column("tokens", sa.Column("channel", _CHANNEL))
    op.add_column("verifications", sa.Column("code_length", sa.Integer()))
    op.create_table(
        "channel_limits",
        sa.Column("phone", sa.String(16), nullable=False),
        sa.Column("channel", _CHANNEL, nullable=False),
        sa.Column("wrong_guesses", sa.Integer(), nullable=False),
        sa.Column("locks", sa.Integer(), nullable=False),
        sa.Column("locked_until", _TIME),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("wrong_times", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("phone", "channel", name="pk_channel_limits"),
    )
    connection = op.get_bind()
    _move_code_times(connection)
    _fill_code_lengths(connection)
    op.drop_table("web_phone_limits")


def downgrade() -> None:
    op.create_table(
        "web_phone_limits",
        sa.Column("phone", sa.String(16), nullable=False),
        sa.Column("wrong_guesses", sa.Integer(), nullable=False),
        sa.Column("locks", sa.Integer(), nullable=False),
        sa.Column("locked_until", _TIME),
        sa.Column("refused_until", _TIME),
        sa.Column("notified_until", _TIME),
        sa.Column("code_times", sa.JSON(), nullable=False),
        sa.Column("unknown_reference_times", sa.JSON()),
        sa.PrimaryKeyConstraint("phone", name="pk_web_phone_limits"),
    )
    web = _table("web_phone_limits", "phone", "wrong_guesses", "locks", "code_times")
    limits = _table("phone_limits", "phone", "key_code_times")
    zero = sa.literal(0)
    used = sa.select(limits.c.phone, zero, zero, limits.c.key_code_times).where(
        limits.c.key_code_times.is_not(sa.null())
    )
    op.get_bind().execute(sa.insert(web).from_select([*web.c.keys()], used))
    op.drop_table("channel_limits")
    op.drop_column("verifications", "code_length")
    op.drop_column("tokens", "channel")
    for name in ("failures", "closed", *_LISTS):
        op.drop_column("phone_limits", name)


def _move_code_times(connection: Connection) -> None:
    web = _table("web_phone_limits", "phone", "code_times")
    limits = _table(
        "phone_limits", "phone", "wrong_guesses", "locks", "code_times", "key_code_times"
    )
    of_phone = sa.select(web.c.code_times).where(web.c.phone == limits.c.phone).scalar_subquery()
    known = limits.c.phone.in_(sa.select(web.c.phone))
    connection.execute(sa.update(limits).where(known).values(key_code_times=of_phone))
    zero, nothing = sa.literal(0), sa.cast(sa.literal("[]", sa.String()), sa.JSON())
    missing = sa.select(web.c.phone, zero, zero, nothing, web.c.code_times).where(
        web.c.phone.not_in(sa.select(limits.c.phone))
    )
    connection.execute(sa.insert(limits).from_select([*limits.c.keys()], missing))


def _fill_code_lengths(connection: Connection) -> None:
    """Set the length of the code of each verification that is not over."""
    verifications = sa.table(
        "verifications", sa.column("public_id"), sa.column("status"), sa.column("code_length")
    )
    tokens = sa.table("tokens", sa.column("verification_id"), sa.column("length"))
    # A literal, as in the partial index, so that it is used.
    pending = verifications.c.status == sa.literal_column("'pending'")
    found = connection.execute(
        sa.select(tokens.c.verification_id, tokens.c.length)
        .join_from(tokens, verifications, tokens.c.verification_id == verifications.c.public_id)
        .where(pending)
    )
    rows = [{"id": row.verification_id, "length": row.length} for row in found]
    if rows:
        connection.execute(
            sa.update(verifications)
            .where(verifications.c.public_id == sa.bindparam("id"))
            .values(code_length=sa.bindparam("length")),
            rows,
        )


def _table(name: str, *columns: str) -> sa.TableClause:
    types: dict[str, Any] = {"code_times": sa.JSON(), "key_code_times": sa.JSON()}
    return sa.table(name, *(sa.column(each, types.get(each)) for each in columns))
