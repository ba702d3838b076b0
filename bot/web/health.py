"""`GET /healthz` says that the process lives, `GET /readyz` whether it can do its work."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    Check = Callable[[], Awaitable[bool]]
    Detail = Callable[[], float]


_FRESH_FOR = 1.0  # seconds


async def healthz(_request: web.Request) -> web.Response:
    """Answer 200 for as long as the process can answer at all."""
    return web.json_response({"alive": True})


class Readiness:
    """Named checks, all of which must pass before webhooks are welcome."""

    def __init__(
        self, checks: Mapping[str, Check], details: Mapping[str, Detail] | None = None
    ) -> None:
        self._checks = checks
        self._details = details or {}

    async def handle(self, request: web.Request) -> web.Response:
        """Answer 200 where every check passes, else 503, and say how each went.

        `?verbose` adds details, on which readiness does not depend.
        """
        passed = {name: await check() for name, check in self._checks.items()}
        body: dict[str, object] = {**passed}
        if "verbose" in request.query:
            body["details"] = {name: detail() for name, detail in self._details.items()}
        return web.json_response(body, status=200 if all(passed.values()) else 503)


def remembered(check: Check) -> Check:
    """Tell for a second, to all who ask, what a check has found.

    Who asks in a rush must not load the database that webhooks need.
    """
    checking = asyncio.Lock()
    passed, fresh_until = False, 0.0

    async def recall() -> bool:
        nonlocal passed, fresh_until
        async with checking:
            if time.monotonic() >= fresh_until:
                passed = await check()
                fresh_until = time.monotonic() + _FRESH_FOR
        return passed

    return recall
