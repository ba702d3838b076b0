"""`GET /healthz` says that the process lives, `GET /readyz` whether it can do its work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    Check = Callable[[], Awaitable[bool]]


async def healthz(_request: web.Request) -> web.Response:
    """Answer 200 for as long as the process can answer at all."""
    return web.json_response({"alive": True})


class Readiness:
    """Named checks, all of which must pass before webhooks are welcome."""

    def __init__(self, checks: Mapping[str, Check]) -> None:
        self._checks = checks

    async def handle(self, _request: web.Request) -> web.Response:
        """Answer 200 where every check passes, else 503, and say how each went."""
        passed = {name: await check() for name, check in self._checks.items()}
        return web.json_response(passed, status=200 if all(passed.values()) else 503)
