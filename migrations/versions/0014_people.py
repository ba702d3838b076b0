"""Keep what belongs to a person once, for all of the bot's numbers, and let NOT ME revoke.

Verified, opt-out and NOT ME were kept for each of the bot's numbers. Of several, the latest times
stay. An opt-out at one number becomes one for all, unless a START followed at any of them; queued
texts from the other numbers are cancelled. Their conversations follow at their next input, as after
a STOP. The end of a refusal after NOT ME becomes the time of the NOT ME, an hour before.

Only SQLite rewrites tables, when columns are dropped. A downgrade gives all conversations of a
phone the values of the person.

Revision ID: 0014
Revises: 0013
"""

from __future__ import annotations

from datetime import timedelta

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"

_TIME = sa.DateTime(timezone=True)
_REFUSAL = timedelta(hours=1)
_MOVED = ("verified_at", "opted_out_at", "opted_in_at", "opt_out_wording")
_CONVERSATIONS = sa.table(
    "conversations",
    *(sa.column(name) for name in ("id", "phone", "state", "opt_out_wording")),
    *(sa.column(name, _TIME) for name in ("verified_at", "opted_out_at", "opted_in_at")),
)
_PEOPLE = sa.table(
    "people",
    sa.column("phone"),
    sa.column("opted_out", sa.Boolean),
    sa.column("not_mes", sa.Integer),
    sa.column("opt_out_wording"),
    *(sa.column(name, _TIME) for name in ("opted_out_at", "opted_in_at", "verified_at")),
    sa.column("not_me_at", _TIME),
)
_PHONE_LIMITS = sa.table("phone_limits", sa.column("phone"), sa.column("refused_until", _TIME))
_OUTBOX = sa.table("outbox", sa.column("conversation_id"), sa.column("state"))
_OPTED_OUT = _CONVERSATIONS.c.state == "opted_out"


def upgrade() -> None:
    op.create_table(
        "people",
        sa.Column("phone", sa.String(16), nullable=False),
        sa.Column("opted_out", sa.Boolean(), nullable=False),
        sa.Column("opted_out_at", _TIME),
        sa.Column("opted_in_at", _TIME),
        sa.Column("opt_out_wording", sa.String(64)),
        sa.Column("verified_at", _TIME),
        sa.Column("verified_alone_at", _TIME),
        sa.Column("not_me_at", _TIME),
        sa.Column("not_mes", sa.Integer(), nullable=False),
        sa.Column("cancelled_at", _TIME),
        sa.Column("own_code_at", _TIME),
        sa.PrimaryKeyConstraint("phone", name=op.f("pk_people")),
    )
    op.add_column("conversations", sa.Column("blocked_at", _TIME))
    op.add_column("verifications", sa.Column("revoked_at", _TIME))
    connection = op.get_bind()
    _add_people(connection)
    _opt_out(connection)
    _add_refusals(connection)
    for name in _MOVED:
        op.drop_column("conversations", name)
    op.drop_column("phone_limits", "refused_until")


def downgrade() -> None:
    op.add_column("phone_limits", sa.Column("refused_until", _TIME))
    for name in _MOVED:
        type_ = sa.String(64) if name == "opt_out_wording" else _TIME
        op.add_column("conversations", sa.Column(name, type_))
    connection = op.get_bind()
    connection.execute(
        sa.update(_CONVERSATIONS).values(
            {
                name: sa.select(_PEOPLE.c[name])
                .where(_PEOPLE.c.phone == _CONVERSATIONS.c.phone)
                .scalar_subquery()
                for name in _MOVED
            }
        )
    )
    opted_out = sa.select(_PEOPLE.c.phone).where(_PEOPLE.c.opted_out)
    connection.execute(
        sa.update(_CONVERSATIONS)
        .where(_CONVERSATIONS.c.phone.in_(opted_out))
        .values(state="opted_out")
    )
    refused = connection.execute(
        sa.select(_PEOPLE.c.phone, _PEOPLE.c.not_me_at).where(_PEOPLE.c.not_me_at.is_not(None))
    )
    rows = [{"of": row.phone, "until": row.not_me_at + _REFUSAL} for row in refused]
    if rows:
        connection.execute(
            sa.update(_PHONE_LIMITS)
            .where(_PHONE_LIMITS.c.phone == sa.bindparam("of"))
            .values(refused_until=sa.bindparam("until", type_=_TIME)),
            rows,
        )
    op.drop_column("verifications", "revoked_at")
    op.drop_column("conversations", "blocked_at")
    op.drop_table("people")


def _add_people(connection: sa.Connection) -> None:
    """Add a row for each phone of which something is kept, with the latest time of each kind."""
    found = _CONVERSATIONS.c
    kept = [found[name].is_not(None) for name in ("verified_at", "opted_out_at", "opted_in_at")]
    latest = [
        sa.func.max(found[name]).label(name)
        for name in ("verified_at", "opted_out_at", "opted_in_at")
    ]
    rows = (
        sa.select(found.phone, sa.false(), sa.literal_column("0"), *latest)
        .where(sa.or_(*kept, _OPTED_OUT))
        .group_by(found.phone)
    )
    columns = ["phone", "opted_out", "not_mes", "verified_at", "opted_out_at", "opted_in_at"]
    connection.execute(sa.insert(_PEOPLE).from_select(columns, rows))


def _opt_out(connection: sa.Connection) -> None:
    """Opt people out whose opt-out no START followed, and cancel their texts elsewhere.

    An opt-out without a time counts, and one at the time of a START too.
    """
    of_person = _CONVERSATIONS.c.phone == _PEOPLE.c.phone
    is_later = sa.or_(
        _PEOPLE.c.opted_in_at.is_(None),
        _CONVERSATIONS.c.opted_out_at.is_(None),
        _CONVERSATIONS.c.opted_out_at >= _PEOPLE.c.opted_in_at,
    )
    wording = (
        sa.select(_CONVERSATIONS.c.opt_out_wording)
        .where(of_person, _CONVERSATIONS.c.opt_out_wording.is_not(None))
        .order_by(_CONVERSATIONS.c.opted_out_at.desc(), _CONVERSATIONS.c.id.desc())
        .limit(1)
        .scalar_subquery()
    )
    connection.execute(
        sa.update(_PEOPLE)
        .where(sa.exists().where(of_person, _CONVERSATIONS.c.opted_out_at.is_not(None)))
        .values(opt_out_wording=wording)
    )
    connection.execute(
        sa.update(_PEOPLE)
        .where(sa.exists().where(of_person, _OPTED_OUT, is_later))
        .values(opted_out=sa.true(), opt_out_wording=wording)
    )
    # Texts of a conversation that is opted out already: one may confirm the opt-out.
    elsewhere = sa.select(_CONVERSATIONS.c.id).where(
        ~_OPTED_OUT,
        _CONVERSATIONS.c.phone.in_(sa.select(_PEOPLE.c.phone).where(_PEOPLE.c.opted_out)),
    )
    connection.execute(
        sa.update(_OUTBOX)
        .where(_OUTBOX.c.conversation_id.in_(elsewhere), _OUTBOX.c.state == "queued")
        .values(state="cancelled")
    )


def _add_refusals(connection: sa.Connection) -> None:
    """Turn the ends of refusals into the times of the NOT MEs; few people have one."""
    known = set(connection.scalars(sa.select(_PEOPLE.c.phone)))
    found = connection.execute(
        sa.select(_PHONE_LIMITS).where(_PHONE_LIMITS.c.refused_until.is_not(None))
    )
    for row in found.all():
        values = {"not_me_at": row.refused_until - _REFUSAL, "not_mes": 1}
        if row.phone in known:
            changed = sa.update(_PEOPLE).where(_PEOPLE.c.phone == row.phone)
            connection.execute(changed.values(values))
        else:
            new = sa.insert(_PEOPLE).values(phone=row.phone, opted_out=sa.false(), **values)
            connection.execute(new)
