"""Warns when the time for decisions differs from the wall clock.

If the wall clock is corrected after the start, the time for decisions stays wrong until the process
is restarted, since deadlines must not jump with the wall clock.
"""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from bot.services.clock import drift_of
from bot.store import clock_drifts
from bot.store.engine.errors import UnavailableError

if TYPE_CHECKING:
    from datetime import datetime

    from bot.services.clock import Clock
    from bot.store.engine.database import Database

MAX_DRIFT = timedelta(seconds=5)
"""The most by which the clocks of two processes may differ (`docs/operating.md`)."""
CHECK_INTERVAL = clock_drifts.CURRENT_FOR.total_seconds() / 4
WARNING_INTERVAL = timedelta(minutes=5)
ADVICE = "set the machine's clock by NTP, then restart this process"

_log = structlog.get_logger(__name__)


class ClockMonitor:
    """Compares the clocks of this process, and records their drift for `bot status`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._process = f"{socket.gethostname()[:64]}:{os.getpid()}"
        self._warned_at: datetime | None = None
        # A process of the same name may have crashed and left its row.
        self._may_be_recorded = True

    async def run(self) -> None:
        """Check until cancelled."""
        while True:
            try:
                await self.check()
            except Exception:  # noqa: BLE001 - the next check may succeed
                _log.exception("clock check failed")
            await asyncio.sleep(CHECK_INTERVAL)

    async def check(self) -> None:
        """Check once: warn of a drift and record it, or remove a recorded one."""
        drift = drift_of(self._clock)
        is_wrong = abs(drift) > MAX_DRIFT
        if is_wrong:
            self._warn(drift)
        with suppress(UnavailableError):  # the next check records it
            if is_wrong:
                self._may_be_recorded = True
                measured_at = self._clock.wall()
                await self._database.write(clock_drifts.record, self._process, drift, measured_at)
            elif self._may_be_recorded:
                await self._database.write(clock_drifts.remove, self._process)
                self._may_be_recorded = False

    def _warn(self, drift: timedelta) -> None:
        now = self._clock.now()
        if self._warned_at is None or now >= self._warned_at + WARNING_INTERVAL:
            self._warned_at = now
            seconds = round(drift.total_seconds(), 1)
            _log.warning(
                "wall clock differs from the time since the start",
                drift_seconds=seconds,
                advice=ADVICE,
            )
