"""Timeouts that are long enough for a busy machine.

No test may depend on the speed of the machine. The deadlines that a bot has because Telnyx waits
two seconds are therefore much longer here, except in the tests of those deadlines.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from bot.store.engine.database import Database

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sqlalchemy import URL

TEST_TIMEOUT = 60.0
"""Seconds until a test fails; a few are normal on a slow machine."""
_POLL_INTERVAL = 0.01


def slow_database(url: URL) -> Database:
    """Open a database whose transactions have enough time on a busy machine."""
    return Database(url, TEST_TIMEOUT)


async def wait_until(condition: Callable[[], bool | Awaitable[bool]]) -> None:
    """Poll until a condition holds; raise TimeoutError."""
    async with asyncio.timeout(TEST_TIMEOUT):
        while True:
            result = condition()
            if result if isinstance(result, bool) else await result:
                return
            await asyncio.sleep(_POLL_INTERVAL)
