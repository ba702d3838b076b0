"""The outbox, the queue of texts to people: add, cancel, claim and settle them.

A claim moves a row's `due_at` ahead by a lease, so the claims of a sender that dies expire by
themselves; `attempts` distinguishes a claim from an earlier one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    Integer,
    String,
    and_,
    bindparam,
    case,
    delete,
    exists,
    func,
    literal_column,
    select,
    update,
)

from bot.conversation.verification import Origin
from bot.store import tokens
from bot.store.sql.array_param import array_param, locked_elsewhere
from bot.store.sql.bulk_insert import insert_all, insert_missing
from bot.store.sql.column_types import UtcDateTime
from bot.store.tables import (
    MAX_UNCERTAIN_ATTEMPTS,
    OUTBOX_FAILURES,
    ConversationRow,
    EarlyReportRow,
    OutboxRow,
    OutboxState,
    TokenRow,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import ColumnElement, Connection, Row, Select, Update

    from bot.conversation.replies import Reply
    from bot.conversation.reply_choice import Message
    from bot.conversation.state import Token

LEASE = timedelta(seconds=30)
"""How long a claim lasts: well over one API request with its timeout."""

_OUTBOX = OutboxRow.__table__
_CONVERSATIONS = ConversationRow.__table__
_REPORTS = EarlyReportRow.__table__
_TOKENS = TokenRow.__table__
# Without `reply`: another version of the bot may have queued a reply that this one does not know.
_CLAIMED = tuple(
    _OUTBOX.c[name]
    for name in ("id", "key", "attempts", "body", "send_by", "token_id", "recipient")
)
_MAX_DROPPED_AT_ONCE = 500
TOO_LATE = "too late"
IN_DOUBT = "in doubt"
_UNSETTLED = (OutboxState.QUEUED, OutboxState.CANCELLED)
# A literal, as in the indexes: with a parameter, SQLite would plan anew at every execution.
_QUEUED = _OUTBOX.c.state == literal_column(f"'{OutboxState.QUEUED}'")
_PROGRESS = {
    OutboxState.QUEUED: 0,
    OutboxState.CANCELLED: 0,
    OutboxState.DROPPED: 0,
    OutboxState.ACCEPTED: 1,
    OutboxState.SENT: 2,
    OutboxState.UNCONFIRMED: 3,
    OutboxState.DELIVERED: 4,
    OutboxState.FAILED: 4,
}
"""Delivery reports arrive in any order and only move a text forward. A text that was
cancelled or dropped while it was being sent was sent nevertheless, and its row must say so."""


def _states_before(state: OutboxState) -> list[OutboxState]:
    return [earlier for earlier, step in _PROGRESS.items() if step < _PROGRESS[state]]


@dataclass(slots=True)
class NewText:
    """A text to add to the outbox; `key` must be unguessable and unique.

    `recipient` is the spelling of the phone's number (E.164) to which it goes; None means the
    canonical one.
    """

    key: str
    bot_number: str
    message: Message
    recipient: str | None = None
    state: OutboxState = OutboxState.QUEUED


@dataclass(frozen=True, slots=True)
class ClaimedText:
    """A text that only this process sends until its lease ends. Numbers are E.164.

    `recipient` is the spelling of `phone` to which it goes.
    """

    id: int
    key: str
    attempts: int
    body: str
    send_by: datetime
    lease_end: datetime
    bot_number: str
    phone: str
    recipient: str
    token: Token | None

    @property
    def claimed_at(self) -> datetime:
        """Return when the text was claimed (UTC); it is sent after that."""
        return self.lease_end - LEASE


@dataclass(frozen=True, slots=True)
class TextReport:
    """The carrier's report of a text that it had accepted."""

    carrier_id: str
    state: OutboxState
    fault: str | None = None


class TextProgress(NamedTuple):
    """The new state of a text, with its conversation and the token whose code it has.

    `recipient` is the spelling of the phone's number to which it went; None if that is the
    canonical one.
    """

    conversation_id: int
    token_id: str | None
    state: OutboxState
    fault: str | None
    recipient: str | None


_COLUMNS = tuple(_OUTBOX.c[name] for name in TextProgress._fields)


class TextSummary(NamedTuple):
    """A text as an operator sees it, without its body."""

    reply: Reply
    state: OutboxState
    fault: str | None
    created_at: datetime


# Built once: building a statement costs more than running it.
_CANCEL = (
    update(_OUTBOX)
    .where(_OUTBOX.c.conversation_id.in_(array_param("conversations", BigInteger())), _QUEUED)
    .values(state=OutboxState.CANCELLED)
)
_CANCEL_CODES = _CANCEL.where(
    exists().where(
        _TOKENS.c.id == _OUTBOX.c.token_id,
        _TOKENS.c.used_at.is_not(None) | _TOKENS.c.ended_at.is_not(None),
    )
)


def add(connection: Connection, new: Sequence[tuple[int, NewText]], now: datetime) -> None:
    """Add texts in the order given, each with the row id of its conversation."""
    if new:
        insert_all(
            connection,
            _OUTBOX,
            [
                {
                    "key": text.key,
                    "conversation_id": conversation_id,
                    "bot_number": text.bot_number,
                    "recipient": text.recipient,
                    "token_id": text.message.token.id if text.message.token else None,
                    "origin": text.message.token.origin if text.message.token else None,
                    "reply": text.message.reply,
                    "body": text.message.body,
                    "state": text.state,
                    "created_at": now,
                    "send_by": text.message.send_by,
                    "due_at": now,
                    "attempts": 0,
                    "uncertain_attempts": 0,
                }
                for conversation_id, text in new
            ],
        )


def cancel(
    connection: Connection, conversation_ids: Collection[int], *, codes_only: bool = False
) -> None:
    """Cancel the queued texts of these conversations.

    With `codes_only`, cancel only texts with a code that is used or ended.
    """
    if conversation_ids:
        statement = _CANCEL_CODES if codes_only else _CANCEL
        connection.execute(statement, {"conversations": conversation_ids})


_NOW = bindparam("now", type_=UtcDateTime)
_DUE = and_(_QUEUED, _OUTBOX.c.due_at <= _NOW)
_IS_IN_DOUBT = _OUTBOX.c.uncertain_attempts >= literal_column(f"{MAX_UNCERTAIN_ATTEMPTS}")


def _unsendable(condition: ColumnElement[bool]) -> Select[Any]:
    texts = select(_OUTBOX.c.id, _CONVERSATIONS.c.phone).join(_CONVERSATIONS)
    return texts.where(_DUE, condition).limit(_MAX_DROPPED_AT_ONCE)


# Two queries: with both conditions in one, SQLite would read all texts that are due.
_UNSENDABLE = (_unsendable(_IS_IN_DOUBT), _unsendable(_OUTBOX.c.send_by <= _NOW))
_DROP = (
    update(_OUTBOX)
    .where(_OUTBOX.c.id.in_(array_param("ids", BigInteger())), _DUE)
    .values(
        state=OutboxState.DROPPED,
        fault=case((_IS_IN_DOUBT, IN_DOUBT), else_=func.coalesce(_OUTBOX.c.fault, TOO_LATE)),
    )
    .returning(*_COLUMNS)
)
_earlier = _OUTBOX.alias()
_EARLIER_IS_QUEUED = exists().where(
    _earlier.c.conversation_id == _OUTBOX.c.conversation_id,
    _earlier.c.id < _OUTBOX.c.id,
    _earlier.c.state == literal_column(f"'{OutboxState.QUEUED}'"),
)
_EARLIER_CODE_IS_QUEUED = _EARLIER_IS_QUEUED.where(_earlier.c.token_id.is_not(None))


class _PriorityClass(NamedTuple):
    """The queries for texts of one priority, codes or others, in the order of `due_at`.

    `numbers` selects the bot numbers that have queued texts of the priority; the other two are for
    one bot number.
    """

    numbers: Select[Any]
    any_due: Select[Any]
    claimable: Select[Any]


def _priority_class(condition: ColumnElement[bool], blocked: ColumnElement[bool]) -> _PriorityClass:
    of_number = and_(_DUE, condition, _OUTBOX.c.bot_number == bindparam("number"), ~blocked)
    return _PriorityClass(
        numbers=_numbers(and_(_QUEUED, condition)),
        any_due=select(exists().where(of_number)),
        claimable=select(
            *_CLAIMED, _OUTBOX.c.due_at, _CONVERSATIONS.c.bot_number, _CONVERSATIONS.c.phone
        )
        .join(_CONVERSATIONS)
        .where(of_number, _OUTBOX.c.send_by > _NOW)
        .order_by(_OUTBOX.c.due_at, _OUTBOX.c.id)
        .limit(bindparam("limit", type_=Integer))
        .with_for_update(of=_OUTBOX, skip_locked=True),
    )


def _numbers(condition: ColumnElement[bool]) -> Select[Any]:
    """Select the distinct bot numbers of some texts, with one index lookup for each number.

    DISTINCT would read all queued texts.
    """
    lowest = select(func.min(_OUTBOX.c.bot_number)).where(condition)
    found = select(lowest.scalar_subquery().label("number")).cte("found", recursive=True)
    next_number = lowest.where(_OUTBOX.c.bot_number > found.c.number).scalar_subquery()
    found = found.union_all(select(next_number).where(found.c.number.is_not(None)))
    return select(found.c.number).where(found.c.number.is_not(None))


_CLAIM = (
    update(_OUTBOX)
    .where(_OUTBOX.c.id.in_(array_param("ids", BigInteger())))
    .values(
        due_at=bindparam("lease_end", type_=UtcDateTime),
        attempts=_OUTBOX.c.attempts + 1,
        uncertain_attempts=_OUTBOX.c.uncertain_attempts + 1,
    )
)
# Codes are sent first, since people wait for them with the phone in their hand. A code also
# overtakes earlier texts to the same person: those wait until all due codes are sent.
_PRIORITIES = (
    _priority_class(_OUTBOX.c.token_id.is_not(None), _EARLIER_CODE_IS_QUEUED),
    _priority_class(_OUTBOX.c.token_id.is_(None), _EARLIER_IS_QUEUED),
)


def any_due(connection: Connection, now: datetime, excluding: Collection[str] = ()) -> bool:
    """Return whether a text is due from any bot number (E.164), `excluding` some.

    It is cheap, and needs no write lock.
    """
    return any(
        connection.scalar(priority.any_due, {"number": number, "now": now})
        for priority in _PRIORITIES
        for number in connection.scalars(priority.numbers).all()
        if number not in excluding
    )


def unsendable(connection: Connection, now: datetime) -> dict[int, str]:
    """Find texts that are too late or had too many uncertain attempts: phones (E.164) by row id.

    Lock the limits of these phones before dropping any of the texts.
    """
    due = {"now": now}
    return {row.id: row.phone for query in _UNSENDABLE for row in connection.execute(query, due)}


def drop(connection: Connection, row_ids: Collection[int], now: datetime) -> list[TextProgress]:
    """Drop texts that are still unsendable; their rows stay and say why."""
    return [TextProgress(*row) for row in connection.execute(_DROP, {"ids": row_ids, "now": now})]


def claim(
    connection: Connection, limit: int, now: datetime, limit_of: Callable[[str], int] | None = None
) -> list[ClaimedText]:
    """Claim up to `limit` texts that are due, codes first.

    `limit_of` returns how many texts a bot number (E.164) may send; without it, there is no limit
    per number.
    The attempt counts as uncertain from now on, since this process may die after sending the text.
    Only the oldest queued text of a conversation is claimed, so that texts to a person keep their
    order; but a code waits for earlier codes only.
    """
    rows = _claimable(connection, limit, now, limit_of or (lambda _: limit))
    if not rows:
        return []
    lease_end = now + LEASE
    connection.execute(_CLAIM, {"ids": [row.id for row in rows], "lease_end": lease_end})
    issued = tokens.load(connection, [row.token_id for row in rows if row.token_id])
    return [_claimed(row, lease_end, issued.get(row.token_id)) for row in rows]


def _claimable(
    connection: Connection, limit: int, now: datetime, limit_of: Callable[[str], int]
) -> list[Row[Any]]:
    taken: list[Row[Any]] = []
    for priority in _PRIORITIES:
        found: list[Row[Any]] = []
        for number in connection.scalars(priority.numbers).all() if len(taken) < limit else ():
            remaining = limit_of(number) - sum(row.bot_number == number for row in taken)
            at_most = min(limit - len(taken), remaining)
            if at_most > 0:
                due = {"number": number, "now": now, "limit": at_most}
                found += connection.execute(priority.claimable, due)
        found.sort(key=attrgetter("due_at", "id"))
        taken += found[: limit - len(taken)]
    return taken


_ACCEPTABLE = (
    select(_OUTBOX.c.id, *_COLUMNS)
    .where(
        _OUTBOX.c.id.in_(array_param("ids", BigInteger())),
        _OUTBOX.c.state.in_(_states_before(OutboxState.ACCEPTED)),
    )
    .order_by(_OUTBOX.c.id)
    .with_for_update()
)
_ACCEPT = (
    update(_OUTBOX)
    .where(_OUTBOX.c.id == bindparam("row_id"))
    .values(state=OutboxState.ACCEPTED, carrier_id=bindparam("carrier_id"), fault=None)
)
_TAKE_REPORTS = (
    delete(_REPORTS)
    .where(_REPORTS.c.carrier_id.in_(array_param("carrier_ids", String())))
    .returning(_REPORTS.c.carrier_id, _REPORTS.c.state, _REPORTS.c.fault)
)


def settle_accepted(
    connection: Connection, accepted: Mapping[int, str | None], now: datetime
) -> list[TextProgress]:
    """Record that the carrier has accepted texts, and apply the reports that came before.

    `accepted` has the carrier's ids by row id. A text for which the carrier returned no id (None)
    gets no reports.
    """
    if not accepted:
        return []
    carrier_ids = sorted(carrier_id for carrier_id in accepted.values() if carrier_id is not None)
    # A transaction with an early report inserts the same row: so one waits for the other.
    reports = [_report_row(TextReport(each, OutboxState.ACCEPTED), now) for each in carrier_ids]
    if reports:
        insert_missing(connection, _REPORTS, reports)
    rows = connection.execute(_ACCEPTABLE, {"ids": accepted}).all()
    if rows:
        connection.execute(
            _ACCEPT, [{"row_id": row.id, "carrier_id": accepted[row.id]} for row in rows]
        )
    progress = [
        TextProgress(*row)._replace(state=OutboxState.ACCEPTED, fault=None) for _, *row in rows
    ]
    early = connection.execute(_TAKE_REPORTS, {"carrier_ids": carrier_ids}).all()
    for row in sorted(early, key=attrgetter("carrier_id")):
        if row.state is not OutboxState.ACCEPTED:
            progress += _advance(connection, TextReport(row.carrier_id, row.state, row.fault))
    return progress


def settle_later(
    connection: Connection, claimed: ClaimedText, due_at: datetime, fault: str, *, in_doubt: bool
) -> None:
    """Schedule the next attempt for `due_at`, unless the text was claimed again.

    A text that was cancelled while it was being sent stays cancelled.
    The attempt no longer counts as uncertain if it is not `in_doubt`, because the carrier certainly
    did not accept the text.
    """
    connection.execute(
        update(_OUTBOX)
        .where(
            _OUTBOX.c.id == claimed.id,
            _OUTBOX.c.attempts == claimed.attempts,
            # After a commit whose outcome is unknown this runs again, and must count only once.
            _OUTBOX.c.due_at == claimed.lease_end,
            _OUTBOX.c.state.in_(_UNSETTLED),
        )
        .values(
            due_at=due_at,
            fault=fault,
            uncertain_attempts=_OUTBOX.c.uncertain_attempts - (0 if in_doubt else 1),
        )
    )


def settle_never(
    connection: Connection,
    claimed: ClaimedText,
    fault: str,
    state: OutboxState = OutboxState.FAILED,
) -> list[TextProgress]:
    """Give a text up, even one that was cancelled while it was being sent; its row says why.

    The attempt no longer counts as uncertain, because the carrier certainly did not accept the
    text.
    """
    return _update(
        connection,
        update(_OUTBOX)
        .where(_OUTBOX.c.id == claimed.id, _OUTBOX.c.state.in_(_UNSETTLED))
        .values(state=state, fault=fault, uncertain_attempts=_OUTBOX.c.uncertain_attempts - 1),
    )


def report(connection: Connection, text_report: TextReport, now: datetime) -> list[TextProgress]:
    """Move a text forward by the carrier's report.

    If no text has the carrier's id yet, store the report until one has.
    """
    progress = _advance(connection, text_report)
    if progress:
        return progress
    if _has_text(connection, text_report.carrier_id):
        # The text may have been settled between the two statements: try again.
        return _advance(connection, text_report)
    insert_missing(connection, _REPORTS, [_report_row(text_report, now)])
    connection.execute(
        update(_REPORTS)
        .where(
            _REPORTS.c.carrier_id == text_report.carrier_id,
            _REPORTS.c.state.in_(_states_before(text_report.state)),
        )
        .values(state=text_report.state, fault=text_report.fault)
    )
    # The text may have been settled by a transaction that the insert waited for.
    progress = _advance(connection, text_report)
    if progress or _has_text(connection, text_report.carrier_id):
        connection.execute(delete(_REPORTS).where(_REPORTS.c.carrier_id == text_report.carrier_id))
    return progress


_LOCKED_ELSEWHERE = locked_elsewhere(_OUTBOX.c.carrier_id, array_param("carrier_ids", String()))
_PHONES_OF = (
    select(_OUTBOX.c.carrier_id, _CONVERSATIONS.c.phone)
    .join(_OUTBOX)
    .where(_OUTBOX.c.carrier_id.in_(array_param("carrier_ids", String())))
)


def texts_locked_elsewhere(connection: Connection, carrier_ids: Collection[str]) -> set[str]:
    """Lock the texts with these carrier ids; return the ids locked by another transaction."""
    if not carrier_ids or connection.dialect.name == "sqlite":
        return set()
    return set(connection.scalars(_LOCKED_ELSEWHERE, {"carrier_ids": sorted(carrier_ids)}))


def phones_of(connection: Connection, carrier_ids: Collection[str]) -> dict[str, str]:
    """Return the phones (E.164) that texts went to, by the carrier's id."""
    if not carrier_ids:
        return {}
    rows = connection.execute(_PHONES_OF, {"carrier_ids": carrier_ids})
    return {row.carrier_id: row.phone for row in rows}


_MAY_COST = (
    _OUTBOX.c.carrier_id.is_not(None)
    | (_OUTBOX.c.uncertain_attempts > 0)
    | _OUTBOX.c.state.in_((OutboxState.QUEUED, OutboxState.ACCEPTED))
)
"""A text that was sent, may have been sent, or will be. One that was cancelled, dropped or refused
before it was sent costs nothing, nor does one to a test number."""
_FORM_CODES = select(func.count()).where(
    # A literal, as in the index.
    _OUTBOX.c.origin == literal_column(f"'{Origin.FORM}'"),
    _OUTBOX.c.created_at > bindparam("since", type_=UtcDateTime),
    _MAY_COST,
)


def count_form_codes(connection: Connection, since: datetime) -> int:
    """Count the texts with codes of the web form since a time, but not those given back.

    A text that was never sent, and never will be, is given back.
    """
    return connection.scalar(_FORM_CODES, {"since": since}) or 0


def all_failed(connection: Connection, token_id: str) -> bool:
    """Return whether no text with a token's code has reached, or will reach, the phone."""
    not_failed = (_OUTBOX.c.token_id == token_id) & _OUTBOX.c.state.not_in(OUTBOX_FAILURES)
    return not connection.scalar(select(exists().where(not_failed)))


def counts(connection: Connection) -> dict[OutboxState, int]:
    """Count texts by state."""
    rows = connection.execute(select(_OUTBOX.c.state, func.count()).group_by(_OUTBOX.c.state))
    return {row[0]: row[1] for row in rows}


def faults(connection: Connection, since: datetime) -> list[tuple[OutboxState, str, int]]:
    """Count the texts since a time that are queued, failed or dropped with a fault, by both."""
    rows = connection.execute(
        select(_OUTBOX.c.state, _OUTBOX.c.fault, func.count())
        .where(
            _OUTBOX.c.created_at > since,
            _OUTBOX.c.fault.is_not(None),
            _OUTBOX.c.state.in_((OutboxState.QUEUED, OutboxState.FAILED, OutboxState.DROPPED)),
        )
        .group_by(_OUTBOX.c.state, _OUTBOX.c.fault)
        .order_by(_OUTBOX.c.state, _OUTBOX.c.fault)
    )
    return [(state, fault, count) for state, fault, count in rows]


def last_text(connection: Connection, conversation_id: int) -> TextSummary | None:
    """Read the last text of a conversation."""
    row = connection.execute(
        select(_OUTBOX.c.reply, _OUTBOX.c.state, _OUTBOX.c.fault, _OUTBOX.c.created_at)
        .where(_OUTBOX.c.conversation_id == conversation_id)
        .order_by(_OUTBOX.c.id.desc())
        .limit(1)
    ).first()
    return TextSummary(*row) if row else None


def _advance(connection: Connection, text_report: TextReport) -> list[TextProgress]:
    return _update(
        connection,
        update(_OUTBOX)
        .where(
            _OUTBOX.c.carrier_id == text_report.carrier_id,
            _OUTBOX.c.state.in_(_states_before(text_report.state)),
        )
        .values(state=text_report.state, fault=text_report.fault),
    )


def _update(connection: Connection, statement: Update) -> list[TextProgress]:
    return [TextProgress(*row) for row in connection.execute(statement.returning(*_COLUMNS))]


def _has_text(connection: Connection, carrier_id: str) -> bool:
    return bool(connection.scalar(select(exists().where(_OUTBOX.c.carrier_id == carrier_id))))


def _report_row(text_report: TextReport, now: datetime) -> dict[str, Any]:
    return {
        "carrier_id": text_report.carrier_id,
        "state": text_report.state,
        "fault": text_report.fault,
        "received_at": now,
    }


def _claimed(row: Row[*tuple[Any, ...]], lease_end: datetime, token: Token | None) -> ClaimedText:
    return ClaimedText(
        id=row.id,
        key=row.key,
        attempts=row.attempts + 1,
        body=row.body,
        send_by=row.send_by,
        lease_end=lease_end,
        bot_number=row.bot_number,
        phone=row.phone,
        recipient=row.recipient or row.phone,
        token=token,
    )
