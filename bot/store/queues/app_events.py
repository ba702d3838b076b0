"""Events on their way to the app, from the change they tell of to their delivery.

A row is claimed by moving its `due_at` ahead by a lease, so a process that dies loses its claims
by itself, and `attempts` tells a claim from the one before.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import Integer, and_, bindparam, delete, exists, func, select, update

from bot.store.sql.bulk_insert import insert_all, insert_missing
from bot.store.tables import AppEventRow, AppEventState, DisabledEndpointRow, UtcDateTime

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime
    from typing import Any

    from sqlalchemy import Connection

LEASE = timedelta(seconds=45)
"""How long a claim lasts: well over one request with its timeout, and noting what came of it."""

_EVENTS = AppEventRow.__table__
_DISABLED_ENDPOINTS = DisabledEndpointRow.__table__
_QUEUED = _EVENTS.c.state == AppEventState.QUEUED
_DEAD = _EVENTS.c.state == AppEventState.DEAD


@dataclass(frozen=True, slots=True)
class NewAppEvent:
    """An event about to be stored.

    `subject` is what it is about, a verification's name or a number in E.164, `type` what
    happened, and `body` what is posted, byte for byte.
    """

    subject: str
    type: str
    body: str


@dataclass(frozen=True, slots=True)
class ClaimedAppEvent:
    """An event that is this process's to deliver until its lease ends."""

    id: int
    name: str
    type: str
    body: str
    attempts: int


class DeadAppEvent(NamedTuple):
    """What an operator is told of an event that was given up."""

    name: str
    type: str
    subject: str
    fault: str | None
    created_at: datetime


def add(connection: Connection, drafts: Sequence[NewAppEvent], now: datetime) -> None:
    """Store events to be delivered, in the order given: in the transaction they tell of."""
    if drafts:
        insert_all(
            connection,
            _EVENTS,
            [
                {
                    "name": f"msg_{secrets.token_hex(16)}",
                    "subject": draft.subject,
                    "type": draft.type,
                    "body": draft.body,
                    "state": AppEventState.QUEUED,
                    "created_at": now,
                    "due_at": now,
                    "attempts": 0,
                }
                for draft in drafts
            ],
        )


# Statements that run at every look are made once: making one costs more than running it.
_earlier = _EVENTS.alias()
_FIRST_IN_LINE = ~exists().where(
    _earlier.c.subject == _EVENTS.c.subject,
    _earlier.c.id < _EVENTS.c.id,
    _earlier.c.state == AppEventState.QUEUED,
)
_GONE = exists().where(_DISABLED_ENDPOINTS.c.url_hash == bindparam("url_hash"))
# In the same statement: a 410 that is noted between two would be overlooked.
_DUE = and_(
    _QUEUED, _EVENTS.c.due_at <= bindparam("now", type_=UtcDateTime), _FIRST_IN_LINE, ~_GONE
)
_ANY_DUE = select(exists().where(_DUE))
_CLAIMABLE = (
    select(*(_EVENTS.c[name] for name in ("id", "name", "type", "body", "attempts")))
    .where(_DUE)
    .order_by(_EVENTS.c.due_at, _EVENTS.c.id)
    .limit(bindparam("most", type_=Integer))
    .with_for_update(of=_EVENTS, skip_locked=True)
)
_DISABLED = select(_GONE)


def any_due(connection: Connection, url: str, now: datetime) -> bool:
    """Tell whether there is anything to claim; cheap, and needs no write lock."""
    return bool(connection.scalar(_ANY_DUE, {"url_hash": _hash(url), "now": now}))


def claim(connection: Connection, url: str, limit: int, now: datetime) -> list[ClaimedAppEvent]:
    """Claim up to `limit` events that are due; none while the address `url` is gone.

    Of each subject only the oldest that waits is taken, so that the app is told in order.
    """
    due = {"url_hash": _hash(url), "now": now, "most": limit}
    rows = connection.execute(_CLAIMABLE, due).all()
    if not rows:
        return []
    connection.execute(
        update(_EVENTS)
        .where(_EVENTS.c.id.in_([row.id for row in rows]))
        .values(due_at=now + LEASE, attempts=_EVENTS.c.attempts + 1)
    )
    return [ClaimedAppEvent(row.id, row.name, row.type, row.body, row.attempts + 1) for row in rows]


def settle_delivered(connection: Connection, claimed: ClaimedAppEvent) -> None:
    """Record that the app has the event."""
    _settle(connection, claimed, state=AppEventState.DELIVERED, fault=None)


def settle_later(
    connection: Connection, claimed: ClaimedAppEvent, due_at: datetime, fault: str
) -> None:
    """Try an event again at `due_at`; what comes after it waits."""
    _settle(connection, claimed, due_at=due_at, fault=fault)


def settle_dead(connection: Connection, claimed: ClaimedAppEvent, fault: str) -> None:
    """Give an event up, visibly, so that what comes after it need not wait any more."""
    _settle(connection, claimed, state=AppEventState.DEAD, fault=fault)


def _settle(connection: Connection, claimed: ClaimedAppEvent, **values: Any) -> None:
    """Change an event, unless its lease has ended and it was claimed again."""
    connection.execute(
        update(_EVENTS)
        .where(_EVENTS.c.id == claimed.id, _EVENTS.c.attempts == claimed.attempts, _QUEUED)
        .values(**values)
    )


def dead(connection: Connection, limit: int) -> list[DeadAppEvent]:
    """List up to `limit` events that were given up, the latest first."""
    columns = (_EVENTS.c[name] for name in DeadAppEvent._fields)
    rows = connection.execute(
        select(*columns).where(_DEAD).order_by(_EVENTS.c.id.desc()).limit(limit)
    )
    return [DeadAppEvent(*row) for row in rows]


def replay(connection: Connection, names: Collection[str] | None, now: datetime) -> int:
    """Put events that were given up back, those named or, for None, all; return how many."""
    which = _DEAD if names is None else and_(_DEAD, _EVENTS.c.name.in_(names))
    back = update(_EVENTS).where(which)
    return connection.execute(
        back.values(state=AppEventState.QUEUED, due_at=now, attempts=0, fault=None)
    ).rowcount


def counts(connection: Connection) -> dict[AppEventState, int]:
    """Count events by state."""
    rows = connection.execute(select(_EVENTS.c.state, func.count()).group_by(_EVENTS.c.state))
    return {row[0]: row[1] for row in rows}


def disable(connection: Connection, url: str, now: datetime) -> None:
    """Note that an address has said it is gone: nothing is to go there."""
    insert_missing(connection, _DISABLED_ENDPOINTS, [{"url_hash": _hash(url), "disabled_at": now}])


def is_disabled(connection: Connection, url: str) -> bool:
    """Tell whether an address has said it is gone."""
    return bool(connection.scalar(_DISABLED, {"url_hash": _hash(url)}))


def enable(connection: Connection, url: str | None = None) -> int:
    """Let events go to an address again or, for None, to all; return how many were gone."""
    which = delete(_DISABLED_ENDPOINTS)
    if url is not None:
        which = which.where(_DISABLED_ENDPOINTS.c.url_hash == _hash(url))
    return connection.execute(which).rowcount


def any_disabled(connection: Connection) -> bool:
    """Tell whether any address has said it is gone."""
    return bool(
        connection.scalar(select(exists().where(_DISABLED_ENDPOINTS.c.url_hash.is_not(None))))
    )


def _hash(url: str) -> str:
    """Know an address again without keeping it: it may hold a secret."""
    return hashlib.sha256(url.encode()).hexdigest()
