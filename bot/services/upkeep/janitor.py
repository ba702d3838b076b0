"""Removes rows past their retention in small chunks, so that no webhook waits long for one.

While webhooks are processed, it removes about 4,000 rows a second. Each person who is verified
leaves about ten, so it keeps up with 400 people a second, and catches up after a peak.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from bot.store.engine.errors import UnavailableError
from bot.store.retention import CHUNK, purge_chunk

if TYPE_CHECKING:
    from bot.services.clock import Clock
    from bot.store.engine.database import Database

_PURGE_INTERVAL = 60.0
"""Seconds: short, so that even a busy bot has only a few rows to purge each time."""
_PAUSE_FACTOR = 2.0
"""The pause after a chunk, in multiples of its duration: however slow the database is, two thirds
of its time are left for others."""

_log = structlog.get_logger(__name__)


class Janitor:
    """Purges all rows past their retention, then waits for the next interval."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def run(self) -> None:
        """Purge until cancelled."""
        while True:
            try:
                removed = await self.purge()
            except UnavailableError as error:
                _log.warning("purging failed", reason=str(error))
            except Exception:  # noqa: BLE001 - the next purge may succeed
                _log.exception("purging failed")
            else:
                if removed:
                    _log.info("old rows purged", rows=removed)
            await asyncio.sleep(_PURGE_INTERVAL)

    async def purge(self) -> int:
        """Remove all rows past their retention; return how many. Raises UnavailableError."""
        loop = asyncio.get_running_loop()
        removed = 0
        while True:
            started = loop.time()
            chunk = await self._database.write(purge_chunk, self._clock.now())
            removed += chunk
            await self._database.checkpoint()
            if chunk < CHUNK:
                return removed
            await asyncio.sleep(_PAUSE_FACTOR * (loop.time() - started))
