"""Reports what no input reports: alerts in the log, and events that were left out for an hour."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from bot.services.intake.app_event_log import record_left_out
from bot.services.upkeep.repeated_check import repeat
from bot.store import alerts, opt_event_counts

if TYPE_CHECKING:
    from collections.abc import Callable

    from bot.services.clock import Clock
    from bot.store.engine.database import Database


_log = structlog.get_logger(__name__)


class Reporter:
    """Checks once a second; calls `after_commit` after each commit."""

    def __init__(self, database: Database, clock: Clock, after_commit: Callable[[], None]) -> None:
        self._database = database
        self._clock = clock
        self._after_commit = after_commit

    async def run(self) -> None:
        """Check until cancelled."""
        await repeat(self.report, "reporting failed")

    async def report(self) -> None:
        """Log new alerts, and record the events that are due; raises UnavailableError."""
        now = self._clock.now()
        # Reads, so that the write lock is taken only if there is something to report.
        if await self._database.read(alerts.any_not_logged):
            for alert in await self._database.write(alerts.take_not_logged):
                _log.error("alert", **alert._asdict())
        if await self._database.read(opt_event_counts.any_due, now):
            await self._database.write(record_left_out, now)
            self._after_commit()
