"""A limit on lookups that need no API key, so that webhooks keep their database connections."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from bot.store.engine.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MAX_LOOKUPS = 4
LOOKUP_TIMEOUT = 1.5
"""Seconds a request waits while MAX_LOOKUPS others are running."""


class LookupGate:
    """Lets at most MAX_LOOKUPS requests read from the database at the same time."""

    def __init__(self, timeout: float = LOOKUP_TIMEOUT) -> None:
        self._timeout = timeout
        self._running = asyncio.Semaphore(MAX_LOOKUPS)

    @asynccontextmanager
    async def enter(self) -> AsyncIterator[None]:
        """Wait for a free slot; raise UnavailableError after `timeout` seconds."""
        try:
            async with asyncio.timeout(self._timeout):
                await self._running.acquire()
        except TimeoutError:
            raise UnavailableError("too many lookups are waiting") from None
        try:
            yield
        finally:
            self._running.release()
