"""Warns when a process decides by a time that the wall clock does not show (any more).

A wall clock that is set right after the start leaves the time since the start as wrong as it was,
until the process is restarted: deadlines must not jump with the wall clock.
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
"""As far as the clocks of two processes may be apart (`docs/operating.md`)."""
LOOK_EVERY = clock_drifts.CURRENT_FOR.total_seconds() / 4
WARN_EVERY = timedelta(minutes=5)
ADVICE = "set the machine's clock by NTP, then restart this process"

_log = structlog.get_logger(__name__)


class ClockMonitor:
    """Compares the clocks of this process; `bot status` reads in the database what it found."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._process = f"{socket.gethostname()[:64]}:{os.getpid()}"
        self._warned_at: datetime | None = None
        # A process of this name that has crashed may have left its drift.
        self._may_be_recorded = True

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            try:
                await self.look()
            except Exception:  # noqa: BLE001 - the next look may do better
                _log.exception("looking at the clock failed")
            await asyncio.sleep(LOOK_EVERY)

    async def look(self) -> None:
        """Compare once; warn of a drift and record it, or remove what was recorded."""
        drift = drift_of(self._clock)
        drifts = abs(drift) > MAX_DRIFT
        if drifts:
            self._warn(drift)
        with suppress(UnavailableError):  # the next look records it
            if drifts:
                self._may_be_recorded = True
                measured_at = self._clock.wall()
                await self._database.write(clock_drifts.record, self._process, drift, measured_at)
            elif self._may_be_recorded:
                await self._database.write(clock_drifts.remove, self._process)
                self._may_be_recorded = False

    def _warn(self, drift: timedelta) -> None:
        now = self._clock.now()
        if self._warned_at is None or now >= self._warned_at + WARN_EVERY:
            self._warned_at = now
            seconds = round(drift.total_seconds(), 1)
            _log.warning(
                "wall clock differs from the time since the start",
                drift_seconds=seconds,
                advice=ADVICE,
            )
