"""Removes what is past its time, a little at a time, so that no webhook waits long behind it.

Beside webhooks that is some 4,000 rows a second, and a person who is verified leaves about ten: it
keeps up with 400 of them a second, and what a rush adds beyond that goes when the rush is over.
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

_REST = 60.0
"""Seconds: short enough that a busy bot has no flood to purge after each."""
_BREATH = 2.0
"""How many times as long as a chunk took the next one waits: however slow the database is, two
thirds of its time are for others."""

_log = structlog.get_logger(__name__)


class Janitor:
    """Purges for as long as there is something to purge, then rests."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def run(self) -> None:
        """Purge until cancelled."""
        while True:
            try:
                removed = await self.purge()
            except UnavailableError as error:
                _log.warning("nothing purged", reason=str(error))
            except Exception:  # noqa: BLE001 - the next round may do better
                _log.exception("nothing purged")
            else:
                if removed:
                    _log.info("purged", rows=removed)
            await asyncio.sleep(_REST)

    async def purge(self) -> int:
        """Remove all that is past its time, and return how many rows; raises UnavailableError."""
        loop = asyncio.get_running_loop()
        removed = 0
        while True:
            began = loop.time()
            chunk = await self._database.write(purge_chunk, self._clock.now())
            removed += chunk
            await self._database.checkpoint()
            if chunk < CHUNK:
                return removed
            await asyncio.sleep(_BREATH * (loop.time() - began))
