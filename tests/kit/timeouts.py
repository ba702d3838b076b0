"""How long a test waits for what must happen: long enough for a machine that stands still at times.

No test may depend on how fast a machine is. Deadlines that a bot has for the sake of Telnyx, which
waits two seconds, are therefore much longer here, except in the tests of those deadlines.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from bot.store.engine.database import Database

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sqlalchemy import URL

TEST_TIMEOUT = 60.0
"""Seconds until a test gives up on what takes a few on a slow machine."""
_LOOK_EVERY = 0.01


def slow_database(url: URL) -> Database:
    """Open a database whose transactions are not cut short on a busy machine."""
    return Database(url, TEST_TIMEOUT)


async def wait_until(happened: Callable[[], bool | Awaitable[bool]]) -> None:
    """Wait until something has happened that sets no event; raises TimeoutError."""
    async with asyncio.timeout(TEST_TIMEOUT):
        while True:
            found = happened()
            if found if isinstance(found, bool) else await found:
                return
            await asyncio.sleep(_LOOK_EVERY)
