"""The outbox: texts to people, from the decision to their delivery.

A row is claimed by moving its `due_at` ahead by a lease, so a sender that dies loses its claims
by itself, and `attempts` tells a claim from the one before.
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

from bot.store import tokens
from bot.store.sql.array_param import array_param, locked_elsewhere
from bot.store.sql.bulk_insert import insert_all, insert_missing
from bot.store.tables import (
    MAX_DOUBTS,
    OUTBOX_FAILURES,
    ConversationRow,
    EarlyReportRow,
    OutboxRow,
    OutboxState,
    TokenRow,
    UtcDateTime,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import ColumnElement, Connection, Row, Select, Update

    from bot.conversation.replies import Reply
    from bot.conversation.state import Token
    from bot.conversation.turn import Message

LEASE = timedelta(seconds=30)
"""How long a claim lasts: well over one API request with its timeout."""

_OUTBOX = OutboxRow.__table__
_CONVERSATIONS = ConversationRow.__table__
_REPORTS = EarlyReportRow.__table__
_TOKENS = TokenRow.__table__
# Not `reply`: a text that another version of the bot has queued may be about what we do not know.
_CLAIMED = tuple(
    _OUTBOX.c[name] for name in ("id", "key", "attempts", "body", "send_by", "token_id")
)
_MAX_DROPPED_AT_ONCE = 500
TOO_LATE = "too late"
IN_DOUBT = "in doubt"
_NOT_SETTLED = (OutboxState.QUEUED, OutboxState.CANCELLED)
# Written out, as in the indexes: a parameter would have SQLite plan anew at every execution.
_QUEUED = _OUTBOX.c.state == literal_column(f"'{OutboxState.QUEUED}'")
_ORDER = {
    OutboxState.QUEUED: 0,
    OutboxState.CANCELLED: 0,
    OutboxState.DROPPED: 0,
    OutboxState.ACCEPTED: 1,
    OutboxState.SENT: 2,
    OutboxState.UNCONFIRMED: 3,
    OutboxState.DELIVERED: 4,
    OutboxState.FAILED: 4,
}
"""Delivery reports arrive in any order and move a row forward only. A text that was cancelled or
dropped while on its way has left all the same, and its row says so."""


def _states_before(state: OutboxState) -> list[OutboxState]:
    return [earlier for earlier, order in _ORDER.items() if order < _ORDER[state]]


@dataclass(slots=True)
class NewText:
    """A text about to be stored; `key` is to be unguessable and never used again."""

    key: str
    bot_number: str
    message: Message
    state: OutboxState = OutboxState.QUEUED


@dataclass(frozen=True, slots=True)
class ClaimedText:
    """A text that is this sender's to send until its lease ends. Numbers are E.164."""

    id: int
    key: str
    attempts: int
    body: str
    send_by: datetime
    lease_end: datetime
    bot_number: str
    phone: str
    token: Token | None

    @property
    def claimed_at(self) -> datetime:
        """Return when it was claimed (UTC): the text left after that."""
        return self.lease_end - LEASE


@dataclass(frozen=True, slots=True)
class TextReport:
    """What the carrier reports of a text it had accepted."""

    carrier_id: str
    state: OutboxState
    fault: str | None = None


class TextProgress(NamedTuple):
    """A text that has moved: with which token's code, in which conversation, how far and why."""

    conversation_id: int
    token_id: str | None
    state: OutboxState
    fault: str | None


_MOVED = tuple(_OUTBOX.c[name] for name in TextProgress._fields)


class TextSummary(NamedTuple):
    """What an operator is told of a text: what it was about and how far it has come."""

    reply: Reply
    state: OutboxState
    fault: str | None
    created_at: datetime


# Statements that run often are made once: making one costs more than running it.
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


def add(connection: Connection, drafts: Sequence[tuple[int, NewText]], now: datetime) -> None:
    """Store texts to be sent, in the order given, each with the row id of its conversation."""
    if drafts:
        insert_all(
            connection,
            _OUTBOX,
            [
                {
                    "key": draft.key,
                    "conversation_id": conversation_id,
                    "bot_number": draft.bot_number,
                    "token_id": draft.message.token.id if draft.message.token else None,
                    "reply": draft.message.reply,
                    "body": draft.message.body,
                    "state": draft.state,
                    "created_at": now,
                    "send_by": draft.message.send_by,
                    "due_at": now,
                    "attempts": 0,
                    "doubts": 0,
                }
                for conversation_id, draft in drafts
            ],
        )


def cancel(
    connection: Connection, conversation_ids: Collection[int], *, codes_only: bool = False
) -> None:
    """Keep what is still queued for these conversations from leaving.

    With `codes_only` that is what has a code that works no more.
    """
    if conversation_ids:
        statement = _CANCEL_CODES if codes_only else _CANCEL
        connection.execute(statement, {"conversations": conversation_ids})


_NOW = bindparam("now", type_=UtcDateTime)
_DUE = and_(_QUEUED, _OUTBOX.c.due_at <= _NOW)
_IS_IN_DOUBT = _OUTBOX.c.doubts >= literal_column(f"{MAX_DOUBTS}")


def _unsendable(which: ColumnElement[bool]) -> Select[Any]:
    texts = select(_OUTBOX.c.id, _CONVERSATIONS.c.phone).join(_CONVERSATIONS)
    return texts.where(_DUE, which).limit(_MAX_DROPPED_AT_ONCE)


# Each by itself: SQLite finds what one or the other is true of by reading all texts that are due.
_UNSENDABLE = (_unsendable(_IS_IN_DOUBT), _unsendable(_OUTBOX.c.send_by <= _NOW))
_DROP = (
    update(_OUTBOX)
    .where(_OUTBOX.c.id.in_(array_param("ids", BigInteger())), _DUE)
    .values(
        state=OutboxState.DROPPED,
        fault=case((_IS_IN_DOUBT, IN_DOUBT), else_=func.coalesce(_OUTBOX.c.fault, TOO_LATE)),
    )
    .returning(*_MOVED)
)
_earlier = _OUTBOX.alias()
_EARLIER_WAITS = exists().where(
    _earlier.c.conversation_id == _OUTBOX.c.conversation_id,
    _earlier.c.id < _OUTBOX.c.id,
    _earlier.c.state == literal_column(f"'{OutboxState.QUEUED}'"),
)
_EARLIER_CODE_WAITS = _EARLIER_WAITS.where(_earlier.c.token_id.is_not(None))


class _Lane(NamedTuple):
    """Texts that leave in the order of their time: which numbers of the bot have any, and more."""

    numbers: Select[Any]
    any_due: Select[Any]
    claimable: Select[Any]


def _lane(which: ColumnElement[bool], held_back: ColumnElement[bool]) -> _Lane:
    of_number = and_(_DUE, which, _OUTBOX.c.bot_number == bindparam("number"), ~held_back)
    return _Lane(
        numbers=_numbers(and_(_QUEUED, which)),
        any_due=select(exists().where(of_number)),
        claimable=select(
            *_CLAIMED, _OUTBOX.c.due_at, _CONVERSATIONS.c.bot_number, _CONVERSATIONS.c.phone
        )
        .join(_CONVERSATIONS)
        .where(of_number, _OUTBOX.c.send_by > _NOW)
        .order_by(_OUTBOX.c.due_at, _OUTBOX.c.id)
        .limit(bindparam("most", type_=Integer))
        .with_for_update(of=_OUTBOX, skip_locked=True),
    )


def _numbers(which: ColumnElement[bool]) -> Select[Any]:
    """Select the numbers of some texts by one look into their index for each number.

    DISTINCT would read all texts that wait.
    """
    least = select(func.min(_OUTBOX.c.bot_number)).where(which)
    found = select(least.scalar_subquery().label("number")).cte("found", recursive=True)
    after = least.where(_OUTBOX.c.bot_number > found.c.number).scalar_subquery()
    found = found.union_all(select(after).where(found.c.number.is_not(None)))
    return select(found.c.number).where(found.c.number.is_not(None))


_CLAIM = (
    update(_OUTBOX)
    .where(_OUTBOX.c.id.in_(array_param("ids", BigInteger())))
    .values(
        due_at=bindparam("lease_end", type_=UtcDateTime),
        attempts=_OUTBOX.c.attempts + 1,
        doubts=_OUTBOX.c.doubts + 1,
    )
)
# Somebody waits for a code with the phone in their hand. It overtakes what else the same person is
# to get: that waits for the codes of all others.
_LANES = (
    _lane(_OUTBOX.c.token_id.is_not(None), _EARLIER_CODE_WAITS),
    _lane(_OUTBOX.c.token_id.is_(None), _EARLIER_WAITS),
)


def any_due(connection: Connection, now: datetime, but: Collection[str] = ()) -> bool:
    """Tell whether there is anything to claim, `but` from some of the bot's numbers (E.164).

    It is cheap, and needs no write lock.
    """
    return any(
        connection.scalar(lane.any_due, {"number": number, "now": now})
        for lane in _LANES
        for number in connection.scalars(lane.numbers).all()
        if number not in but
    )


def unsendable(connection: Connection, now: datetime) -> dict[int, str]:
    """Find some of the texts that are past their time or too doubtful: row ids, and phones (E.164).

    Hold the ledgers of those phones before dropping any.
    """
    due = {"now": now}
    return {row.id: row.phone for each in _UNSENDABLE for row in connection.execute(each, due)}


def drop(connection: Connection, row_ids: Collection[int], now: datetime) -> list[TextProgress]:
    """Drop hopeless texts, visibly, that nobody has dropped meanwhile."""
    return [TextProgress(*row) for row in connection.execute(_DROP, {"ids": row_ids, "now": now})]


def claim(
    connection: Connection, limit: int, now: datetime, share: Callable[[str], int] | None = None
) -> list[ClaimedText]:
    """Claim up to `limit` texts that are due, codes first, of each of the bot's numbers its share.

    `share` tells how many texts a number (E.164) may send; without it each may send all.
    Each text is in doubt from now on: this process may die when it has left.
    Of each conversation only the oldest unsettled one is taken, so that texts to a person keep
    their order, but that a code waits for codes alone.
    """
    rows = _claimable(connection, limit, now, share or (lambda _: limit))
    if not rows:
        return []
    lease_end = now + LEASE
    connection.execute(_CLAIM, {"ids": [row.id for row in rows], "lease_end": lease_end})
    issued = tokens.load(connection, [row.token_id for row in rows if row.token_id])
    return [_claimed(row, lease_end, issued.get(row.token_id)) for row in rows]


def _claimable(
    connection: Connection, limit: int, now: datetime, share: Callable[[str], int]
) -> list[Row[Any]]:
    taken: list[Row[Any]] = []
    for lane in _LANES:
        found: list[Row[Any]] = []
        for number in connection.scalars(lane.numbers).all() if len(taken) < limit else ():
            left = share(number) - sum(row.bot_number == number for row in taken)
            most = min(limit - len(taken), left)
            if most > 0:
                due = {"number": number, "now": now, "most": most}
                found += connection.execute(lane.claimable, due)
        found.sort(key=attrgetter("due_at", "id"))
        taken += found[: limit - len(taken)]
    return taken


_ACCEPTABLE = (
    select(_OUTBOX.c.id, *_MOVED)
    .where(
        _OUTBOX.c.id.in_(array_param("ids", BigInteger())),
        _OUTBOX.c.state.in_(_states_before(OutboxState.ACCEPTED)),
    )
    .order_by(_OUTBOX.c.id)
    .with_for_update()
)
_ACCEPT = (
    update(_OUTBOX)
    .where(_OUTBOX.c.id == bindparam("of"))
    .values(state=OutboxState.ACCEPTED, carrier_id=bindparam("carrier_id"), fault=None)
)
_TAKE_REPORTS = (
    delete(_REPORTS)
    .where(_REPORTS.c.carrier_id.in_(array_param("known", String())))
    .returning(_REPORTS.c.carrier_id, _REPORTS.c.state, _REPORTS.c.fault)
)


def settle_accepted(
    connection: Connection, accepted: Mapping[int, str | None], now: datetime
) -> list[TextProgress]:
    """Record by row id that the carrier has texts, and what it has reported of them already.

    The values are the carrier's ids; where it does not say under which id it has a text, no report
    will find it.
    """
    if not accepted:
        return []
    known = sorted(carrier_id for carrier_id in accepted.values() if carrier_id is not None)
    # Making the rows that early reports would make has both transactions wait for each other.
    reports = [_report_row(TextReport(name, OutboxState.ACCEPTED), now) for name in known]
    if reports:
        insert_missing(connection, _REPORTS, reports)
    moving = connection.execute(_ACCEPTABLE, {"ids": accepted}).all()
    if moving:
        connection.execute(
            _ACCEPT, [{"of": row.id, "carrier_id": accepted[row.id]} for row in moving]
        )
    moved = [
        TextProgress(row.conversation_id, row.token_id, OutboxState.ACCEPTED, None)
        for row in moving
    ]
    early = connection.execute(_TAKE_REPORTS, {"known": known}).all()
    for row in sorted(early, key=attrgetter("carrier_id")):
        if row.state is not OutboxState.ACCEPTED:
            moved += _advance(connection, TextReport(row.carrier_id, row.state, row.fault))
    return moved


def settle_later(
    connection: Connection, claimed: ClaimedText, due_at: datetime, fault: str, *, in_doubt: bool
) -> None:
    """Try a text again at `due_at`, unless it has been cancelled, claimed again or settled so.

    Where it is not `in_doubt`, the carrier is known not to have it.
    """
    connection.execute(
        update(_OUTBOX)
        .where(
            _OUTBOX.c.id == claimed.id,
            _OUTBOX.c.attempts == claimed.attempts,
            # After a commit whose outcome is unknown this is done again, and counts once.
            _OUTBOX.c.due_at == claimed.lease_end,
            _QUEUED,
        )
        .values(due_at=due_at, fault=fault, doubts=_OUTBOX.c.doubts - (0 if in_doubt else 1))
    )


def settle_never(
    connection: Connection,
    claimed: ClaimedText,
    fault: str,
    state: OutboxState = OutboxState.FAILED,
) -> list[TextProgress]:
    """Give a text up, visibly; one that was cancelled on its way tells how it ended too."""
    return _moved(
        connection,
        update(_OUTBOX)
        .where(_OUTBOX.c.id == claimed.id, _OUTBOX.c.state.in_(_NOT_SETTLED))
        .values(state=state, fault=fault),
    )


def report(connection: Connection, news: TextReport, now: datetime) -> list[TextProgress]:
    """Move a text forward by what the carrier reports of it.

    Where the text is not known as accepted yet, the report is kept until it is.
    """
    moved = _advance(connection, news)
    if moved:
        return moved
    if _is_known(connection, news.carrier_id):
        # It may have been settled between the two statements: then it moves now.
        return _advance(connection, news)
    insert_missing(connection, _REPORTS, [_report_row(news, now)])
    connection.execute(
        update(_REPORTS)
        .where(
            _REPORTS.c.carrier_id == news.carrier_id,
            _REPORTS.c.state.in_(_states_before(news.state)),
        )
        .values(state=news.state, fault=news.fault)
    )
    # The text may have been settled while the insert waited for that transaction.
    moved = _advance(connection, news)
    if moved or _is_known(connection, news.carrier_id):
        connection.execute(delete(_REPORTS).where(_REPORTS.c.carrier_id == news.carrier_id))
    return moved


_REPORTED_HELD = locked_elsewhere(_OUTBOX.c.carrier_id, array_param("carrier_ids", String()))
_PHONES_OF = (
    select(_OUTBOX.c.carrier_id, _CONVERSATIONS.c.phone)
    .join(_OUTBOX)
    .where(_OUTBOX.c.carrier_id.in_(array_param("carrier_ids", String())))
)


def reported_held(connection: Connection, carrier_ids: Collection[str]) -> set[str]:
    """Take the texts that the carrier has under these ids, and name those held elsewhere."""
    if not carrier_ids or connection.dialect.name == "sqlite":
        return set()
    return set(connection.scalars(_REPORTED_HELD, {"carrier_ids": sorted(carrier_ids)}))


def phones_of(connection: Connection, carrier_ids: Collection[str]) -> dict[str, str]:
    """Name by the carrier's id the phones (E.164) that texts went to."""
    if not carrier_ids:
        return {}
    rows = connection.execute(_PHONES_OF, {"carrier_ids": carrier_ids})
    return {row.carrier_id: row.phone for row in rows}


def all_failed(connection: Connection, token_id: str) -> bool:
    """Tell whether no text with a token's code has reached, or will reach, the phone."""
    hopeful = (_OUTBOX.c.token_id == token_id) & _OUTBOX.c.state.not_in(OUTBOX_FAILURES)
    return not connection.scalar(select(exists().where(hopeful)))


def counts(connection: Connection) -> dict[OutboxState, int]:
    """Count texts by state."""
    rows = connection.execute(select(_OUTBOX.c.state, func.count()).group_by(_OUTBOX.c.state))
    return {row[0]: row[1] for row in rows}


def faults(connection: Connection, since: datetime) -> list[tuple[OutboxState, str, int]]:
    """Count the texts since a moment that wait, failed or were dropped, by state and fault."""
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
    """Read what was last to be sent in a conversation."""
    row = connection.execute(
        select(_OUTBOX.c.reply, _OUTBOX.c.state, _OUTBOX.c.fault, _OUTBOX.c.created_at)
        .where(_OUTBOX.c.conversation_id == conversation_id)
        .order_by(_OUTBOX.c.id.desc())
        .limit(1)
    ).first()
    return TextSummary(*row) if row else None


def _advance(connection: Connection, news: TextReport) -> list[TextProgress]:
    return _moved(
        connection,
        update(_OUTBOX)
        .where(
            _OUTBOX.c.carrier_id == news.carrier_id,
            _OUTBOX.c.state.in_(_states_before(news.state)),
        )
        .values(state=news.state, fault=news.fault),
    )


def _moved(connection: Connection, statement: Update) -> list[TextProgress]:
    return [TextProgress(*row) for row in connection.execute(statement.returning(*_MOVED))]


def _is_known(connection: Connection, carrier_id: str) -> bool:
    return bool(connection.scalar(select(exists().where(_OUTBOX.c.carrier_id == carrier_id))))


def _report_row(news: TextReport, now: datetime) -> dict[str, Any]:
    return {
        "carrier_id": news.carrier_id,
        "state": news.state,
        "fault": news.fault,
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
        token=token,
    )
