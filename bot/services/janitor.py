"""Removes what is past its time, a little at a time, so that no webhook waits behind it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from bot.store.outages import UnavailableError
from bot.store.retention import purge_chunk

if TYPE_CHECKING:
    from bot.services.clock import Clock
    from bot.store.database import Database

_REST = 600.0
_BREATH = 0.1

_log = structlog.get_logger(__name__)


class Janitor:
    """Purges for as long as there is something to purge, then rests."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def run(self) -> None:
        """Purge until cancelled."""
        while True:  # noqa: ASYNC110 - nothing but time calls for a purge
            await asyncio.sleep(_BREATH if await self._purge() else _REST)

    async def _purge(self) -> int:
        try:
            removed = await self._database.write(purge_chunk, self._clock.now())
        except UnavailableError as error:
            _log.warning("nothing purged", reason=str(error))
            return 0
        except Exception:  # noqa: BLE001 - the next round may do better
            _log.exception("nothing purged")
            return 0
        if removed:
            _log.info("purged", rows=removed)
        return removed
