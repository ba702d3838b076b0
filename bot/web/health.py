"""`GET /healthz` says that the process lives, `GET /readyz` whether it can do its work."""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING

from aiohttp import web

from bot.store.engine.errors import BusyError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    Check = Callable[[], Awaitable[bool]]
    Detail = Callable[[], float | str | None]


_FRESH_FOR = 1.0  # seconds
_WRITE_FRESH_FOR = 5.0  # seconds: a write costs more than a look, and takes its turn
_BUSY_FOR = 15.0
"""Seconds that writes may fail by locks alone: others may hold one for a while, and let it go."""


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


def accepts_writes(write: Callable[[], Awaitable[None]]) -> Check:
    """Make a check of a write; `write` raises UnavailableError where it fails.

    Where it only was not its turn in time (BusyError), what was found last stands, for a while.
    """
    written_at = -math.inf

    async def accepted() -> bool:
        nonlocal written_at
        try:
            await write()
        except BusyError:
            return time.monotonic() - written_at < _BUSY_FOR
        except UnavailableError:
            written_at = -math.inf
            return False
        written_at = time.monotonic()
        return True

    return accepted


def remembered(check: Check, *, writes: bool = False) -> Check:
    """Tell for a second, to all who ask, what a check has found; for five where it writes.

    Who asks in a rush must not load the database that webhooks need.
    """
    checking = asyncio.Lock()
    passed, fresh_until = False, 0.0

    async def recall() -> bool:
        nonlocal passed, fresh_until
        async with checking:
            if time.monotonic() >= fresh_until:
                passed = await check()
                fresh_until = time.monotonic() + (_WRITE_FRESH_FOR if writes else _FRESH_FOR)
        return passed

    return recall
