"""How far the wall clock of a process and the time that it decides by are apart.

Only those processes have a row whose clocks differ by more than they may.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import delete, select

from bot.store.sql.bulk_insert import insert_or_update
from bot.store.tables import ClockDriftRow

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection

CURRENT_FOR = timedelta(minutes=2)
"""A process that runs measures more often: what is older was left by one that has ended."""
_KEPT_FOR = timedelta(days=1)

_DRIFTS = ClockDriftRow.__table__


class ClockDrift(NamedTuple):
    """What a process measured last: its wall clock is `drift` ahead of the time it decides by."""

    process: str
    drift: timedelta
    measured_at: datetime


def record(connection: Connection, process: str, drift: timedelta, measured_at: datetime) -> None:
    """Record what a process has measured, and remove what processes left that ended long ago."""
    connection.execute(delete(_DRIFTS).where(_DRIFTS.c.measured_at < measured_at - _KEPT_FOR))
    row = {"process": process, "seconds": drift.total_seconds(), "measured_at": measured_at}
    insert_or_update(connection, _DRIFTS, [row])


def remove(connection: Connection, process: str) -> None:
    """Remove what a process has recorded, since its clocks agree."""
    connection.execute(delete(_DRIFTS).where(_DRIFTS.c.process == process))


def current(connection: Connection, now: datetime) -> list[ClockDrift]:
    """Read what processes have measured lately, by their name."""
    lately = select(_DRIFTS).where(_DRIFTS.c.measured_at > now - CURRENT_FOR)
    return [
        ClockDrift(row.process, timedelta(seconds=row.seconds), row.measured_at)
        for row in connection.execute(lately.order_by(_DRIFTS.c.process))
    ]
