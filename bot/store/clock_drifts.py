"""Clock drifts: how far a process's wall clock differs from its monotonic clock.

Only processes whose clocks differ by more than the limit have a row.
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
"""A running process measures more often; an older row is from a process that has ended."""
_KEPT_FOR = timedelta(days=1)

_DRIFTS = ClockDriftRow.__table__


class ClockDrift(NamedTuple):
    """A process's last measurement: its wall clock is `drift` ahead of its monotonic clock."""

    process: str
    drift: timedelta
    measured_at: datetime


def record(connection: Connection, process: str, drift: timedelta, measured_at: datetime) -> None:
    """Record the drift of a process, and delete rows of processes that ended long ago."""
    connection.execute(delete(_DRIFTS).where(_DRIFTS.c.measured_at < measured_at - _KEPT_FOR))
    row = {"process": process, "seconds": drift.total_seconds(), "measured_at": measured_at}
    insert_or_update(connection, _DRIFTS, [row])


def remove(connection: Connection, process: str) -> None:
    """Delete the row of a process whose clocks agree."""
    connection.execute(delete(_DRIFTS).where(_DRIFTS.c.process == process))


def current(connection: Connection, now: datetime) -> list[ClockDrift]:
    """Read the recent measurements, ordered by process."""
    recent = select(_DRIFTS).where(_DRIFTS.c.measured_at > now - CURRENT_FOR)
    return [
        ClockDrift(row.process, timedelta(seconds=row.seconds), row.measured_at)
        for row in connection.execute(recent.order_by(_DRIFTS.c.process))
    ]
