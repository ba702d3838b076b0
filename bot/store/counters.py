"""Counters over all phones, each for one period at a time, like the current hour or day.

Transactions that increment the same counter wait for each other, so it is done last, in the order
of the names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import case, select
from sqlalchemy.dialects import postgresql, sqlite

from bot.store.tables import CounterRow

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection
    from sqlalchemy.sql.dml import ReturningInsert

_COUNTERS = CounterRow.__table__


def increment(connection: Connection, name: str, by: int, began_at: datetime) -> int:
    """Add to a counter of the period that began at a time (UTC); return its new value.

    A counter of an earlier period starts again from 0. A period that is later than this one, from
    a clock that runs ahead, is continued.
    """
    statement = _INCREMENT[connection.dialect.name]
    row = {"name": name, "began_at": began_at, "value": by}
    return connection.execute(statement, row).scalar_one()


def read(connection: Connection, name: str, began_at: datetime) -> int:
    """Return the value of a counter in the period that began at a time (UTC)."""
    current = (_COUNTERS.c.name == name) & (_COUNTERS.c.began_at >= began_at)
    return connection.scalar(select(_COUNTERS.c.value).where(current)) or 0


def _increment(dialect: str) -> ReturningInsert[int]:
    insert: sqlite.Insert | postgresql.Insert = (
        sqlite.insert(_COUNTERS) if dialect == "sqlite" else postgresql.insert(_COUNTERS)
    )
    new = insert.excluded
    is_over = _COUNTERS.c.began_at < new.began_at
    return insert.on_conflict_do_update(
        index_elements=[_COUNTERS.c.name],
        set_={
            "value": case((is_over, new.value), else_=_COUNTERS.c.value + new.value),
            "began_at": case((is_over, new.began_at), else_=_COUNTERS.c.began_at),
        },
    ).returning(_COUNTERS.c.value)


_INCREMENT = {dialect: _increment(dialect) for dialect in ("sqlite", "postgresql")}
