"""The sending throttles, one for the account and one for each bot number.

All processes on one database share them: the transaction that holds a row's lock decides for all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import asdict
from sqlalchemy import select

from bot.conversation.throttle import Throttle
from bot.store.sql.bulk_insert import insert_or_update
from bot.store.tables import ThrottleRow

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from sqlalchemy import Connection, Select

_THROTTLES = ThrottleRow.__table__
# Numbers begin with a plus, which sorts before a letter: so the account comes first.
_ALL = select(_THROTTLES).order_by(_THROTTLES.c.name.desc())
_LOCK_ALL = _ALL.with_for_update()


def lock(connection: Connection) -> dict[str, Throttle]:
    """Lock and read all throttles, by name.

    The account's row is created with the table and locked first, so processes wait for each other
    there.
    """
    return _throttles(connection, _LOCK_ALL)


def read(connection: Connection) -> dict[str, Throttle]:
    """Read all throttles by name, without a lock."""
    return _throttles(connection, _ALL)


def save(connection: Connection, throttles: Mapping[str, Throttle]) -> None:
    """Write throttles by name, all in one statement."""
    if throttles:
        rows = [{"name": name} | asdict(throttle) for name, throttle in throttles.items()]
        insert_or_update(connection, _THROTTLES, rows)


def _throttles(connection: Connection, query: Select[Any]) -> dict[str, Throttle]:
    rows = connection.execute(query)
    return {row.name: Throttle(row.next_at, row.halvings, row.halved_at) for row in rows}
