"""How many events about opt-outs and opt-ins of each number were reported in an hour.

A phone's row changes only in a transaction that holds the lock of the phone's limits, or the row's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import String, bindparam, delete, exists, select

from bot.conversation.app_events import EventType, OptEventCount
from bot.store.sql.array_param import array_param
from bot.store.sql.bulk_insert import insert_or_update
from bot.store.sql.column_types import UtcDateTime
from bot.store.tables import OptEventCountRow

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from sqlalchemy import Connection, Row

_COUNTS = OptEventCountRow.__table__
_OF_PHONES = select(_COUNTS).where(_COUNTS.c.phone.in_(array_param("phones", String())))
_IS_DUE = _COUNTS.c.due_at <= bindparam("now", type_=UtcDateTime)
_ANY = select(exists().where(_IS_DUE))
_CHUNK = 100
_OLDEST = (
    select(_COUNTS)
    .where(_IS_DUE)
    .order_by(_COUNTS.c.due_at)
    .limit(_CHUNK)
    .with_for_update(skip_locked=True)
)


class OptEvents(NamedTuple):
    """The count of one phone (E.164), and the type of its last change, at a bot number."""

    phone: str
    bot_number: str
    latest: EventType
    hour: OptEventCount


def load(connection: Connection, phones: Collection[str]) -> dict[str, OptEventCount]:
    """Read the counts of phones (E.164); phones without one are left out."""
    rows = connection.execute(_OF_PHONES, {"phones": sorted(phones)})
    return {row.phone: _opt_events(row).hour for row in rows}


def save(connection: Connection, changed: Collection[OptEvents]) -> None:
    """Write counts, all in one statement."""
    rows = [
        {
            "phone": each.phone,
            "bot_number": each.bot_number,
            "latest": each.latest,
            "reported_at": each.hour.reported_at,
            "due_at": each.hour.due_at,
            "left_out": each.hour.left_out,
        }
        for each in sorted(changed)
    ]
    insert_or_update(connection, _COUNTS, rows)


def any_due(connection: Connection, now: datetime) -> bool:
    """Return whether a count is due at `now` (UTC); without a lock."""
    return bool(connection.scalar(_ANY, {"now": now}))


def take_due(connection: Connection, now: datetime) -> list[OptEvents]:
    """Delete up to a hundred counts that are due at `now` (UTC), and return them.

    Those that another transaction has locked are left for the next time.
    """
    rows = connection.execute(_OLDEST, {"now": now})
    found = [_opt_events(row) for row in rows]
    if found:
        phones = [each.phone for each in found]
        connection.execute(delete(_COUNTS).where(_COUNTS.c.phone.in_(phones)))
    return found


def _opt_events(row: Row[tuple[object, ...]]) -> OptEvents:
    hour = OptEventCount(row.reported_at, row.left_out)
    return OptEvents(row.phone, row.bot_number, EventType(row.latest), hour)
