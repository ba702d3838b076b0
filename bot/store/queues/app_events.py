"""The queue of app events: add, claim and settle them, and replay those that were given up.

A claim moves a row's `due_at` ahead by a lease, so the claims of a process that dies expire
by themselves; `attempts` distinguishes a claim from an earlier one.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import Integer, and_, bindparam, delete, exists, func, select, update

from bot.store.sql.bulk_insert import insert_all, insert_missing
from bot.store.sql.column_types import UtcDateTime
from bot.store.tables import AppEventRow, AppEventState, DisabledEndpointRow

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime
    from typing import Any

    from sqlalchemy import Connection

LEASE = timedelta(seconds=45)
"""How long a claim lasts: well over one request with its timeout, and recording its result."""

_EVENTS = AppEventRow.__table__
_DISABLED_ENDPOINTS = DisabledEndpointRow.__table__
_QUEUED = _EVENTS.c.state == AppEventState.QUEUED
_DEAD = _EVENTS.c.state == AppEventState.DEAD


@dataclass(frozen=True, slots=True)
class NewAppEvent:
    """An app event to add to the queue.

    `subject` is the id of a verification or a phone number (E.164), `type` the type of the event,
    and `body` what is posted, byte for byte.
    """

    subject: str
    type: str
    body: str


@dataclass(frozen=True, slots=True)
class ClaimedAppEvent:
    """An app event that only this process delivers until its lease ends."""

    id: int
    public_id: str
    type: str
    body: str
    attempts: int


class DeadAppEvent(NamedTuple):
    """An app event that was given up, as an operator sees it."""

    public_id: str
    type: str
    subject: str
    fault: str | None
    created_at: datetime


def add(connection: Connection, new: Sequence[NewAppEvent], now: datetime) -> None:
    """Add app events in the order given, in the same transaction as the change they report."""
    if new:
        insert_all(
            connection,
            _EVENTS,
            [
                {
                    "public_id": f"msg_{secrets.token_hex(16)}",
                    "subject": app_event.subject,
                    "type": app_event.type,
                    "body": app_event.body,
                    "state": AppEventState.QUEUED,
                    "created_at": now,
                    "due_at": now,
                    "attempts": 0,
                }
                for app_event in new
            ],
        )


# Built once: building a statement costs more than running it.
_earlier = _EVENTS.alias()
_IS_OLDEST_OF_SUBJECT = ~exists().where(
    _earlier.c.subject == _EVENTS.c.subject,
    _earlier.c.id < _EVENTS.c.id,
    _earlier.c.state == AppEventState.QUEUED,
)
_IS_DISABLED = exists().where(_DISABLED_ENDPOINTS.c.url_hash == bindparam("url_hash"))
# In one statement: a 410 recorded between two statements would be overlooked.
_DUE = and_(
    _QUEUED,
    _EVENTS.c.due_at <= bindparam("now", type_=UtcDateTime),
    _IS_OLDEST_OF_SUBJECT,
    ~_IS_DISABLED,
)
_ANY_DUE = select(exists().where(_DUE))
_CLAIMABLE = (
    select(*(_EVENTS.c[name] for name in ("id", "public_id", "type", "body", "attempts")))
    .where(_DUE)
    .order_by(_EVENTS.c.due_at, _EVENTS.c.id)
    .limit(bindparam("limit", type_=Integer))
    .with_for_update(of=_EVENTS, skip_locked=True)
)
_DISABLED = select(_IS_DISABLED)


def any_due(connection: Connection, url: str, now: datetime) -> bool:
    """Return whether an app event is due; a cheap query that needs no write lock."""
    return bool(connection.scalar(_ANY_DUE, {"url_hash": _hash(url), "now": now}))


def claim(connection: Connection, url: str, limit: int, now: datetime) -> list[ClaimedAppEvent]:
    """Claim up to `limit` app events that are due; none while the endpoint `url` is disabled.

    Of each subject only the oldest queued event is claimed, so that the app receives them in order.
    """
    due = {"url_hash": _hash(url), "now": now, "limit": limit}
    rows = connection.execute(_CLAIMABLE, due).all()
    if not rows:
        return []
    connection.execute(
        update(_EVENTS)
        .where(_EVENTS.c.id.in_([row.id for row in rows]))
        .values(due_at=now + LEASE, attempts=_EVENTS.c.attempts + 1)
    )
    return [
        ClaimedAppEvent(row.id, row.public_id, row.type, row.body, row.attempts + 1) for row in rows
    ]


def settle_delivered(connection: Connection, claimed: ClaimedAppEvent) -> None:
    """Record that the app has accepted the event."""
    _settle(connection, claimed, state=AppEventState.DELIVERED, fault=None)


def settle_later(
    connection: Connection, claimed: ClaimedAppEvent, due_at: datetime, fault: str
) -> None:
    """Schedule the next attempt for `due_at`; later events of its subject wait."""
    _settle(connection, claimed, due_at=due_at, fault=fault)


def settle_dead(connection: Connection, claimed: ClaimedAppEvent, fault: str) -> None:
    """Give an event up, so that later events of its subject no longer wait; it stays listed."""
    _settle(connection, claimed, state=AppEventState.DEAD, fault=fault)


def _settle(connection: Connection, claimed: ClaimedAppEvent, **values: Any) -> None:
    """Update an event, unless its lease has ended and it was claimed again."""
    connection.execute(
        update(_EVENTS)
        .where(_EVENTS.c.id == claimed.id, _EVENTS.c.attempts == claimed.attempts, _QUEUED)
        .values(**values)
    )


def list_dead(connection: Connection, limit: int) -> list[DeadAppEvent]:
    """Read up to `limit` app events that were given up, the newest first."""
    columns = (_EVENTS.c[name] for name in DeadAppEvent._fields)
    rows = connection.execute(
        select(*columns).where(_DEAD).order_by(_EVENTS.c.id.desc()).limit(limit)
    )
    return [DeadAppEvent(*row) for row in rows]


def replay(connection: Connection, public_ids: Collection[str] | None, now: datetime) -> int:
    """Queue again the given events that were given up (for None, all); return how many."""
    condition = _DEAD if public_ids is None else and_(_DEAD, _EVENTS.c.public_id.in_(public_ids))
    return connection.execute(
        update(_EVENTS)
        .where(condition)
        .values(state=AppEventState.QUEUED, due_at=now, attempts=0, fault=None)
    ).rowcount


def counts(connection: Connection) -> dict[AppEventState, int]:
    """Count app events by state."""
    rows = connection.execute(select(_EVENTS.c.state, func.count()).group_by(_EVENTS.c.state))
    return {row[0]: row[1] for row in rows}


def disable(connection: Connection, url: str, now: datetime) -> None:
    """Disable an endpoint, since it has answered 410: no app event is sent there."""
    insert_missing(connection, _DISABLED_ENDPOINTS, [{"url_hash": _hash(url), "disabled_at": now}])


def is_disabled(connection: Connection, url: str) -> bool:
    """Return whether an endpoint is disabled."""
    return bool(connection.scalar(_DISABLED, {"url_hash": _hash(url)}))


def enable(connection: Connection, url: str | None = None) -> int:
    """Enable an endpoint again or, for None, all of them; return how many were disabled."""
    statement = delete(_DISABLED_ENDPOINTS)
    if url is not None:
        statement = statement.where(_DISABLED_ENDPOINTS.c.url_hash == _hash(url))
    return connection.execute(statement).rowcount


def any_disabled(connection: Connection) -> bool:
    """Return whether any endpoint is disabled."""
    return bool(
        connection.scalar(select(exists().where(_DISABLED_ENDPOINTS.c.url_hash.is_not(None))))
    )


def _hash(url: str) -> str:
    """Hash an endpoint's URL, which may contain a secret and is never stored."""
    return hashlib.sha256(url.encode()).hexdigest()
