"""`GET /healthz`: the process is alive. `GET /readyz`: it can do its work."""

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


_CHECK_INTERVAL = 1.0
_WRITE_CHECK_INTERVAL = 5.0
"""Seconds; a write costs more than a read, and waits in the writer's queue."""
_MAX_BUSY = 15.0
"""Seconds for which the check still passes while locks keep it from writing; most are released
by then."""


async def healthz(_request: web.Request) -> web.Response:
    """Return 200 as long as the process can respond."""
    return web.json_response({"alive": True})


class Readiness:
    """Handler of the readiness probe: named checks, all of which must pass."""

    def __init__(
        self, checks: Mapping[str, Check], details: Mapping[str, Detail] | None = None
    ) -> None:
        self._checks = checks
        self._details = details or {}

    async def handle(self, request: web.Request) -> web.Response:
        """Return 200 if every check passes, else 503, with the result of each.

        `?verbose` adds details that do not affect readiness.
        """
        passed = {name: await check() for name, check in self._checks.items()}
        body: dict[str, object] = {**passed}
        if "verbose" in request.query:
            body["details"] = {name: detail() for name, detail in self._details.items()}
        return web.json_response(body, status=200 if all(passed.values()) else 503)


def accepts_writes(write: Callable[[], Awaitable[None]]) -> Check:
    """Return a check that writes; `write` raises UnavailableError if it fails.

    While a lock keeps it from writing (BusyError), the last success counts for `_MAX_BUSY` seconds.
    """
    written_at = -math.inf

    async def check() -> bool:
        nonlocal written_at
        try:
            await write()
        except BusyError:
            return time.monotonic() - written_at < _MAX_BUSY
        except UnavailableError:
            written_at = -math.inf
            return False
        written_at = time.monotonic()
        return True

    return check


def cached(check: Check, *, writes: bool = False) -> Check:
    """Return a check that runs at most once a second, or once in five if it writes.

    Frequent probes must not load the database that webhooks need.
    """
    lock = asyncio.Lock()
    passed, fresh_until = False, 0.0

    async def cached_check() -> bool:
        nonlocal passed, fresh_until
        async with lock:
            if time.monotonic() >= fresh_until:
                passed = await check()
                interval = _WRITE_CHECK_INTERVAL if writes else _CHECK_INTERVAL
                fresh_until = time.monotonic() + interval
        return passed

    return cached_check
