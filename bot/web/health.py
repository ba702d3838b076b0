"""`GET /healthz` says that the process lives, `GET /readyz` whether it can do its work."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    Check = Callable[[], Awaitable[bool]]


_FRESH_FOR = 1.0  # seconds


async def healthz(_request: web.Request) -> web.Response:
    """Answer 200 for as long as the process can answer at all."""
    return web.json_response({"alive": True})


class Readiness:
    """Named checks, all of which must pass before webhooks are welcome.

    What they found is told for a second to all who ask: who asks in a rush must not load the
    database that webhooks need.
    """

    def __init__(self, checks: Mapping[str, Check]) -> None:
        self._checks = checks
        self._passed: dict[str, bool] = {}
        self._fresh_until = 0.0
        self._checking = asyncio.Lock()

    async def handle(self, _request: web.Request) -> web.Response:
        """Answer 200 where every check passes, else 503, and say how each went."""
        async with self._checking:
            if time.monotonic() >= self._fresh_until:
                self._passed = {name: await check() for name, check in self._checks.items()}
                self._fresh_until = time.monotonic() + _FRESH_FOR
        ready = all(self._passed.values())
        return web.json_response(self._passed, status=200 if ready else 503)
