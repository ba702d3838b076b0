"""The API keys that are valid, in memory: a made-up key is refused without the database."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

from bot.store import api_keys
from bot.store.engine.errors import UnavailableError

if TYPE_CHECKING:
    from bot.store.engine.database import Database

REFRESH_INTERVAL = 1.0
"""Seconds between two readings of the keys, however many unknown keys are used."""


class KnownKeys:
    """The ids of all keys that are not revoked, and the hashes of their secrets.

    They are read when an unknown key is used. A key may have been revoked since: its row decides.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._hashes: dict[str, str] = {}
        self._next_reading_at = -math.inf
        self._reading: asyncio.Task[None] | None = None
        self._is_current = False

    async def include(self, public_id: str, secret: str) -> bool:
        """Return whether a key is known; if it is not, also after reading the keys again."""
        if self._match(public_id, secret):
            return True
        await self._refresh()
        return self._match(public_id, secret)

    def forget(self, public_id: str) -> None:
        """Forget a key that is no longer valid."""
        self._hashes.pop(public_id, None)

    def check_current(self) -> None:
        """Raise UnavailableError if the last reading failed: an unknown key may be valid then."""
        if not self._is_current:
            raise UnavailableError("the API keys cannot be read")

    def _match(self, public_id: str, secret: str) -> bool:
        return api_keys.hash_matches(self._hashes.get(public_id), secret)

    async def _refresh(self) -> None:
        """Read the keys, or wait for the reading that runs; at most one begins in a second."""
        if self._reading is None or self._reading.done():
            now = asyncio.get_running_loop().time()
            if now < self._next_reading_at:
                return
            self._next_reading_at = now + REFRESH_INTERVAL
            self._reading = asyncio.create_task(self._read())
        # A request that is cancelled must not cancel the reading, for which others wait.
        await asyncio.shield(self._reading)

    async def _read(self) -> None:
        try:
            self._hashes = await self._database.read(api_keys.valid_hashes)
        except UnavailableError:
            self._is_current = False
        else:
            self._is_current = True
