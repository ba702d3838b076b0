"""Store each phone under the canonical spelling of its number, and merge the rows of one line.

In Mexico, Argentina and Brazil, numbers of mobile phones have two spellings. The rules are those of
`bot/conversation/numbers.py` at the time, repeated here since a migration must not change.

Of rows that become one, an opt-out wins, the later `verified_at` stays, counts and locks take the
greater value, and the times of codes are those of both. Tokens, texts and verifications follow. The
app learns of a pending verification that an opt-out ends when it expires. A downgrade cannot
separate merged rows.

Revision ID: 0011
Revises: 0010
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa
from alembic import op

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sqlalchemy import Connection, Row, TableClause

revision = "0011"
down_revision = "0010"

_RULES = (
    (re.compile(r"\+521([2-9]\d{9})", re.ASCII), r"+52\1"),
    (re.compile(r"\+54(11\d{8}|[23]\d{9})", re.ASCII), r"+549\1"),
    (re.compile(r"\+55([1-9]{2})([689]\d{7})", re.ASCII), r"+55\g<1>9\2"),
)
_COUNTRIES = ("+52", "+54", "+55")
_STATES = ("idle", "verified", "awaiting_code", "locked", "opted_out")
"""Of two states, the later one in this order stays."""


def _table(name: str, columns: str, *, times: str = "", json: str = "") -> TableClause:
    return sa.table(
        name,
        *(sa.column(each) for each in columns.split()),
        *(sa.column(each, sa.DateTime(timezone=True)) for each in times.split()),
        *(sa.column(each, sa.JSON) for each in json.split()),
    )


_GREATEST_COUNTS = "hints_in_a_row answers_in_a_row"
_LATEST_TIMES = "verified_at opted_out_at opted_in_at last_hint_at last_answer_at"
_GREATEST = ("wrong_guesses", "locks", "locked_until", "refused_until", "notified_until")
_CONVERSATIONS = _table(
    "conversations",
    f"id phone bot_number state token_id opt_out_wording texted_from {_GREATEST_COUNTS}",
    times=_LATEST_TIMES,
)
_TOKENS = _table("tokens", "id conversation_id", times="issued_at expires_at used_at ended_at")
_OUTBOX = _table("outbox", "id conversation_id token_id state recipient")
_VERIFICATIONS = _table("verifications", "phone")
_APP_EVENTS = _table("app_events", "subject state")
_LIMITS = tuple(
    _table(
        name,
        "phone wrong_guesses locks",
        times="locked_until refused_until notified_until",
        json="code_times",
    )
    for name in ("phone_limits", "web_phone_limits")
)
_NUMBER = sa.String(16)
# A literal, as in the partial indexes, so that they are used.
_QUEUED: sa.ColumnElement[str] = sa.literal_column("'queued'")


class _Moves(NamedTuple):
    """What happens to conversations, by row id.

    `spelled` has the other spelling of the conversations under it, `merged` the conversation into
    which one is merged. `opted_out` are merged conversations, `replaced` tokens that another token
    of the same conversation replaces.
    """

    spelled: dict[int, str]
    merged: dict[int, int]
    opted_out: set[int]
    replaced: set[str]


def upgrade() -> None:
    op.add_column("conversations", sa.Column("texted_from", _NUMBER))
    op.add_column("conversations", sa.Column("unreachable", _NUMBER))
    op.add_column("outbox", sa.Column("recipient", _NUMBER))
    connection = op.get_bind()
    canonical_of = _respelled(connection)
    if not canonical_of:
        return
    for limits in _LIMITS:
        _merge_limits(connection, limits, canonical_of)
    _follow(connection, _move_conversations(connection, canonical_of))
    phones = [{"other": other, "canonical": each} for other, each in canonical_of.items()]
    _run_each(
        connection,
        phones,
        sa.update(_VERIFICATIONS)
        .where(_VERIFICATIONS.c.phone == sa.bindparam("other"))
        .values(phone=sa.bindparam("canonical")),
    )
    _run_each(
        connection,
        phones,
        sa.update(_APP_EVENTS)
        .where(_APP_EVENTS.c.subject == sa.bindparam("other"), _APP_EVENTS.c.state == _QUEUED)
        .values(subject=sa.bindparam("canonical")),
    )


def downgrade() -> None:
    op.drop_column("outbox", "recipient")
    op.drop_column("conversations", "unreachable")
    op.drop_column("conversations", "texted_from")


def _respelled(connection: Connection) -> dict[str, str]:
    """Return the canonical spelling of each stored phone that is not spelled so."""
    found: set[str] = set()
    for table in (*_LIMITS, _CONVERSATIONS, _VERIFICATIONS):
        phones = sa.select(table.c.phone).where(_in_countries(table)).distinct()
        found.update(connection.scalars(phones))
    return {phone: canonical for phone in sorted(found) if (canonical := _canonical(phone))}


def _in_countries(table: TableClause) -> sa.ColumnElement[bool]:
    return sa.or_(*(table.c.phone.startswith(each) for each in _COUNTRIES))


def _canonical(phone: str) -> str | None:
    """Return the canonical spelling of a phone, or None if it has this spelling."""
    matches = ((form.fullmatch(phone), canonical) for form, canonical in _RULES)
    return next((match.expand(canonical) for match, canonical in matches if match), None)


def _merge_limits(
    connection: Connection, table: TableClause, canonical_of: Mapping[str, str]
) -> None:
    found = connection.execute(sa.select(table).where(_in_countries(table)))
    rows = {row.phone: row for row in found}
    others = {phone: row for phone, row in rows.items() if phone in canonical_of}
    pairs = [
        (rows[canonical], other)
        for phone, other in others.items()
        if (canonical := canonical_of[phone]) in rows
    ]
    merged = [
        {"row_id": kept.phone, "code_times": _all_times(kept, other)}
        | {name: _greatest((getattr(kept, name), getattr(other, name))) for name in _GREATEST}
        for kept, other in pairs
    ]
    by_phone = table.c.phone == sa.bindparam("row_id")
    _run_each(connection, merged, sa.update(table).where(by_phone))
    replaced = [{"row_id": other.phone} for _, other in pairs]
    _run_each(connection, replaced, sa.delete(table).where(by_phone))
    moved = [
        {"row_id": phone, "phone": canonical_of[phone]}
        for phone in others
        if canonical_of[phone] not in rows
    ]
    _run_each(connection, moved, sa.update(table).where(by_phone))


def _all_times(kept: Row[Any], other: Row[Any]) -> list[str]:
    return sorted([*kept.code_times, *other.code_times], key=datetime.fromisoformat)


def _move_conversations(connection: Connection, canonical_of: Mapping[str, str]) -> _Moves:
    """Give conversations the canonical phone, or merge them into those that have it."""
    found = connection.execute(sa.select(_CONVERSATIONS).where(_in_countries(_CONVERSATIONS)))
    rows = {(row.phone, row.bot_number): row for row in found}
    tokens = _own_tokens(connection)
    moves = _Moves({}, {}, set(), set())
    merged: list[dict[str, Any]] = []
    moved: list[dict[str, Any]] = []
    for (phone, bot_number), row in rows.items():
        if phone not in canonical_of:
            continue
        moves.spelled[row.id] = phone
        kept = rows.get((canonical_of[phone], bot_number))
        if kept is not None:
            merged.append(_merged(kept, row, tokens, moves))
            continue
        texted_from = phone if _last_text_at(row, tokens) else None
        moved.append({"row_id": row.id, "phone": canonical_of[phone], "texted_from": texted_from})
    by_id = _CONVERSATIONS.c.id == sa.bindparam("row_id")
    _run_each(connection, merged, sa.update(_CONVERSATIONS).where(by_id))
    _run_each(connection, moved, sa.update(_CONVERSATIONS).where(by_id))
    return moves


def _merged(
    kept: Row[Any], moved: Row[Any], tokens: Mapping[str, Row[Any]], moves: _Moves
) -> dict[str, Any]:
    """Return the changed columns of `kept`, into which `moved` is merged, and record the moves."""
    pair = (kept, moved)
    # Of two codes that the person asked for, the one that works, or works longer, stays.
    own = sorted(
        (tokens[row.token_id] for row in pair if row.token_id in tokens),
        key=lambda token: (token.used_at is None and token.ended_at is None, token.expires_at),
    )
    state = max((row.state for row in pair), key=_STATES.index)
    wordings = [row.opt_out_wording for row in pair if row.state == state]
    moved_at, kept_at = _last_text_at(moved, tokens), _last_text_at(kept, tokens)
    moved_is_later = moved_at is not None and (kept_at is None or moved_at > kept_at)
    greatest = {
        name: _greatest(getattr(row, name) for row in pair)
        for name in f"{_GREATEST_COUNTS} {_LATEST_TIMES}".split()
    }
    moves.merged[moved.id] = kept.id
    moves.replaced.update(token.id for token in own[:-1])
    if state == "opted_out":
        moves.opted_out.add(kept.id)
    return {
        "row_id": kept.id,
        "state": state,
        "token_id": own[-1].id if own else None,
        "opt_out_wording": next(filter(None, wordings), None),
        "texted_from": moved.phone if moved_is_later else None,
    } | greatest


def _follow(connection: Connection, moves: _Moves) -> None:
    """Move tokens and texts with their conversations, and end what an opt-out or merge ends.

    Tokens and texts have no index of their conversations: each table is read once.
    """
    texts = _rows_of_conversations(connection, _OUTBOX)
    tokens = _rows_of_conversations(connection, _TOKENS)
    moved_texts = [
        {"row_id": id_, "recipient": moves.spelled[of], "conversation_id": _now_at(of, moves)}
        for id_, of in texts
        if of in moves.spelled
    ]
    moved_tokens = [
        {"row_id": id_, "conversation_id": moves.merged[of]}
        for id_, of in tokens
        if of in moves.merged
    ]
    row_id: sa.BindParameter[Any] = sa.bindparam("row_id")
    _run_each(connection, moved_texts, sa.update(_OUTBOX).where(_OUTBOX.c.id == row_id))
    _run_each(connection, moved_tokens, sa.update(_TOKENS).where(_TOKENS.c.id == row_id))
    ended = moves.replaced | {id_ for id_, of in tokens if _now_at(of, moves) in moves.opted_out}
    live = _TOKENS.c.used_at.is_(None) & _TOKENS.c.ended_at.is_(None)
    end = sa.update(_TOKENS).where(_TOKENS.c.id == row_id, live).values(ended_at=datetime.now(UTC))
    cancel = sa.update(_OUTBOX).where(_OUTBOX.c.state == _QUEUED).values(state="cancelled")
    ended_tokens = [{"row_id": each} for each in sorted(ended)]
    opted_out = [{"row_id": each} for each in sorted(moves.opted_out)]
    _run_each(connection, ended_tokens, end)
    _run_each(connection, ended_tokens, cancel.where(_OUTBOX.c.token_id == row_id))
    _run_each(connection, opted_out, cancel.where(_OUTBOX.c.conversation_id == row_id))
    _delete_merged(connection, moves)


def _delete_merged(connection: Connection, moves: _Moves) -> None:
    """Delete merged conversations; the indexes keep the check of each foreign key short."""
    merged = [{"row_id": each} for each in moves.merged]
    if not merged:
        return
    for table in ("tokens", "outbox"):
        op.create_index(f"ix_{table}_merging", table, ["conversation_id"])
    by_id = _CONVERSATIONS.c.id == sa.bindparam("row_id")
    _run_each(connection, merged, sa.delete(_CONVERSATIONS).where(by_id))
    for table in ("tokens", "outbox"):
        op.drop_index(f"ix_{table}_merging", table)


def _rows_of_conversations(connection: Connection, table: TableClause) -> list[tuple[Any, int]]:
    """Return the id and the conversation of each row whose phone is in one of the countries."""
    of_countries = (
        sa.select(table.c.id, table.c.conversation_id)
        .join_from(table, _CONVERSATIONS, _CONVERSATIONS.c.id == table.c.conversation_id)
        .where(_in_countries(_CONVERSATIONS))
    )
    return [(row.id, row.conversation_id) for row in connection.execute(of_countries)]


def _now_at(conversation_id: int, moves: _Moves) -> int:
    return moves.merged.get(conversation_id, conversation_id)


def _own_tokens(connection: Connection) -> dict[str, Row[Any]]:
    """Return the tokens that persons of these countries have asked for last, by id."""
    own = (
        sa.select(_TOKENS)
        .join_from(_TOKENS, _CONVERSATIONS, _CONVERSATIONS.c.token_id == _TOKENS.c.id)
        .where(_in_countries(_CONVERSATIONS))
    )
    return {row.id: row for row in connection.execute(own)}


def _last_text_at(conversation: Row[Any], tokens: Mapping[str, Row[Any]]) -> datetime | None:
    """Return when the person last texted, as far as the rows show it."""
    token = tokens.get(conversation.token_id)
    times = (
        conversation.opted_out_at,
        conversation.opted_in_at,
        conversation.last_hint_at,
        conversation.last_answer_at,
        token and token.issued_at,
    )
    found: datetime | None = _greatest(times)
    return found


def _greatest(values: Iterable[Any]) -> Any:
    return max((value for value in values if value is not None), default=None)


def _run_each(
    connection: Connection, rows: Sequence[Mapping[str, Any]], statement: sa.UpdateBase
) -> None:
    """Run a statement for each row, all at once; a row must have all its parameters."""
    if rows:
        connection.execute(statement, rows)
