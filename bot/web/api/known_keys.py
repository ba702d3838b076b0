"""The API keys that are valid, in memory: a made-up key is refused without the database."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

from bot.store import api_keys
from bot.store.engine.errors import UnavailableError

if TYPE_CHECKING:
    from bot.store.engine.database import Database

MAX_AGE = 30.0
"""Seconds after a reading for which an unknown key is refused although a later reading failed: on a
busy database, strangers would otherwise get 503 for a key that surely does not exist."""


class KnownKeys:
    """The ids of all keys that are not revoked, and the hashes of their secrets.

    They are read when an unknown key is used, at most once in `interval` seconds however many are
    used. A key may have been revoked since: its row decides.
    """

    def __init__(self, database: Database, interval: float) -> None:
        self._database = database
        self._interval = interval
        self._hashes: dict[str, str] = {}
        self._next_reading_at = -math.inf
        self._reading: asyncio.Task[None] | None = None
        self._read_at = -math.inf
        self._has_failed = True

    async def include(self, public_id: str, secret: str) -> bool:
        """Return whether a key is known; if it is not, also after reading the keys again."""
        if self._match(public_id, secret):
            return True
        return await self.refresh() and self._match(public_id, secret)

    def forget(self, public_id: str) -> None:
        """Forget a key that is no longer valid."""
        self._hashes.pop(public_id, None)

    def check_current(self) -> None:
        """Raise UnavailableError if readings have failed for long: an unknown key may be valid."""
        age = asyncio.get_running_loop().time() - self._read_at
        if self._has_failed and age > MAX_AGE:
            raise UnavailableError("the API keys cannot be read")

    async def refresh(self) -> bool:
        """Read the keys, or wait for the reading that runs.

        Return False if it is too early for one.
        """
        if self._reading is None or self._reading.done():
            now = asyncio.get_running_loop().time()
            if now < self._next_reading_at:
                return False
            self._next_reading_at = now + self._interval
            self._reading = asyncio.create_task(self._read())
        # A request that is cancelled must not cancel the reading, for which others wait.
        await asyncio.shield(self._reading)
        return True

    def _match(self, public_id: str, secret: str) -> bool:
        return api_keys.hash_matches(self._hashes.get(public_id), secret)

    async def _read(self) -> None:
        try:
            self._hashes = await self._database.read(api_keys.valid_hashes)
        except UnavailableError:
            self._has_failed = True
        else:
            self._has_failed = False
            self._read_at = asyncio.get_running_loop().time()
