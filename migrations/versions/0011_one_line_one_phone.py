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
    moves = _Moves({}, {}, set(), set())
    for other, canonical in _respelled(connection):
        for limits in _LIMITS:
            _merge_limits(connection, limits, other, canonical)
        _move_conversations(connection, other, canonical, moves)
        _update(connection, _VERIFICATIONS, _VERIFICATIONS.c.phone == other, phone=canonical)
        queued = (_APP_EVENTS.c.subject == other) & (_APP_EVENTS.c.state == _QUEUED)
        _update(connection, _APP_EVENTS, queued, subject=canonical)
    if moves.spelled:
        _follow(connection, moves)


def downgrade() -> None:
    op.drop_column("outbox", "recipient")
    op.drop_column("conversations", "unreachable")
    op.drop_column("conversations", "texted_from")


def _respelled(connection: Connection) -> list[tuple[str, str]]:
    """Return the stored phones that are not in the canonical spelling, each with that."""
    found: set[str] = set()
    for table in (*_LIMITS, _CONVERSATIONS, _VERIFICATIONS):
        phones = sa.select(table.c.phone).where(_in_countries(table)).distinct()
        found.update(connection.scalars(phones))
    return sorted((phone, canonical) for phone in found if (canonical := _canonical(phone)))


def _in_countries(table: TableClause) -> sa.ColumnElement[bool]:
    return sa.or_(*(table.c.phone.startswith(each) for each in _COUNTRIES))


def _canonical(phone: str) -> str | None:
    """Return the canonical spelling of a phone, or None if it has this spelling."""
    matches = ((form.fullmatch(phone), canonical) for form, canonical in _RULES)
    return next((match.expand(canonical) for match, canonical in matches if match), None)


def _merge_limits(connection: Connection, table: TableClause, other: str, canonical: str) -> None:
    rows = connection.execute(sa.select(table).where(table.c.phone.in_((other, canonical)))).all()
    if len(rows) <= 1:
        _update(connection, table, table.c.phone == other, phone=canonical)
        return
    merged = {
        column.name: _greatest(getattr(row, column.name) for row in rows)
        for column in table.c
        if column.name not in {"phone", "code_times"}
    }
    times = [time for row in rows for time in row.code_times]
    merged["code_times"] = sorted(times, key=datetime.fromisoformat)
    connection.execute(sa.delete(table).where(table.c.phone == other))
    _update(connection, table, table.c.phone == canonical, **merged)


def _move_conversations(connection: Connection, other: str, canonical: str, moves: _Moves) -> None:
    """Give conversations the canonical phone, or merge them into those that have it."""
    query = sa.select(_CONVERSATIONS).where(_CONVERSATIONS.c.phone.in_((other, canonical)))
    rows = connection.execute(query).all()
    kept = {row.bot_number: row for row in rows if row.phone == canonical}
    tokens = _own_tokens(connection, rows)
    for moved in rows:
        if moved.phone == canonical:
            continue
        moves.spelled[moved.id] = other
        if moved.bot_number in kept:
            _merge_conversation(connection, kept[moved.bot_number], moved, tokens, moves)
            continue
        texted_from = other if _last_text_at(moved, tokens) else None
        row = _CONVERSATIONS.c.id == moved.id
        _update(connection, _CONVERSATIONS, row, phone=canonical, texted_from=texted_from)


def _merge_conversation(
    connection: Connection,
    kept: Row[Any],
    moved: Row[Any],
    tokens: Mapping[str, Row[Any]],
    moves: _Moves,
) -> None:
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
    _update(
        connection,
        _CONVERSATIONS,
        _CONVERSATIONS.c.id == kept.id,
        state=state,
        token_id=own[-1].id if own else None,
        opt_out_wording=next(filter(None, wordings), None),
        texted_from=moved.phone if moved_is_later else None,
        **greatest,
    )
    moves.merged[moved.id] = kept.id
    moves.replaced.update(token.id for token in own[:-1])
    if state == "opted_out":
        moves.opted_out.add(kept.id)


def _follow(connection: Connection, moves: _Moves) -> None:
    """Move tokens and texts with their conversations, and end what an opt-out or merge ends.

    Tokens and texts have no index of their conversations: each table is read once.
    """
    texts = _rows_of_conversations(connection, _OUTBOX)
    tokens = _rows_of_conversations(connection, _TOKENS)
    _update_each(
        connection,
        _OUTBOX,
        [
            {"row_id": id_, "recipient": moves.spelled[of], "conversation_id": _now_at(of, moves)}
            for id_, of in texts
            if of in moves.spelled
        ],
    )
    _update_each(
        connection,
        _TOKENS,
        [
            {"row_id": id_, "conversation_id": moves.merged[of]}
            for id_, of in tokens
            if of in moves.merged
        ],
    )
    ended = moves.replaced | {id_ for id_, of in tokens if _now_at(of, moves) in moves.opted_out}
    now = datetime.now(UTC)
    for token_id in sorted(ended):
        live = _TOKENS.c.used_at.is_(None) & _TOKENS.c.ended_at.is_(None)
        _update(connection, _TOKENS, (_TOKENS.c.id == token_id) & live, ended_at=now)
        _cancel(connection, _OUTBOX.c.token_id == token_id)
    for conversation_id in sorted(moves.opted_out):
        _cancel(connection, _OUTBOX.c.conversation_id == conversation_id)
    for conversation_id in moves.merged:
        row = _CONVERSATIONS.c.id == conversation_id
        connection.execute(sa.delete(_CONVERSATIONS).where(row))


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


def _cancel(connection: Connection, condition: sa.ColumnElement[bool]) -> None:
    queued = condition & (_OUTBOX.c.state == _QUEUED)
    _update(connection, _OUTBOX, queued, state="cancelled")


def _own_tokens(connection: Connection, conversations: Sequence[Row[Any]]) -> dict[str, Row[Any]]:
    """Return the tokens that the persons have asked for, by id."""
    ids = [row.token_id for row in conversations if row.token_id]
    found = connection.execute(sa.select(_TOKENS).where(_TOKENS.c.id.in_(ids))) if ids else ()
    return {row.id: row for row in found}


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


def _update(
    connection: Connection, table: TableClause, condition: sa.ColumnElement[bool], **values: Any
) -> None:
    connection.execute(sa.update(table).where(condition).values(**values))


def _update_each(
    connection: Connection, table: TableClause, rows: Sequence[Mapping[str, Any]]
) -> None:
    """Update rows by `row_id`; all have the same other columns."""
    if rows:
        row = table.c.id == sa.bindparam("row_id")
        connection.execute(sa.update(table).where(row), rows)
