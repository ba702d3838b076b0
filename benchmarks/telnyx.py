"""A simulated Telnyx API in a process of its own that records when each text arrived."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiohttp import ClientSession, web

from benchmarks.running import run
from benchmarks.servers import OTHERS_CPU, serving
from bot.simulator.telnyx import payloads

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_ARRIVAL_TIMEOUT = 40.0
"""Seconds to wait for the next text: longer than a claim's lease of thirty."""
_POLL_INTERVAL = 0.1


@dataclass(frozen=True, slots=True)
class Telnyx:
    """The running API."""

    base_url: str

    async def arrivals(self, at_least: int = 0) -> dict[str, float]:
        """Wait for `at_least` texts; return when each phone's text arrived (monotonic seconds).

        Exit if fewer texts arrive, or if a phone got two.
        """
        arrived, deadline = await self._read_arrivals(), time.monotonic() + _ARRIVAL_TIMEOUT
        while len(arrived) < at_least:
            await asyncio.sleep(_POLL_INTERVAL)
            before, arrived = arrived, await self._read_arrivals()
            if len(arrived) > len(before):
                deadline = time.monotonic() + _ARRIVAL_TIMEOUT
            elif time.monotonic() > deadline:
                sys.exit(f"{len(arrived)} of {at_least} texts arrived")
        if len(by_phone := dict(arrived)) < len(arrived):
            sys.exit(f"{len(arrived)} texts arrived at {len(by_phone)} phones")
        return by_phone

    async def _read_arrivals(self) -> list[tuple[str, float]]:
        async with ClientSession() as session, session.get(f"{self.base_url}/arrivals") as answer:
            arrived: list[tuple[str, float]] = await answer.json()
            return arrived


@asynccontextmanager
async def simulated() -> AsyncIterator[Telnyx]:
    """Run the API until the block ends, on another processor than the measured server."""
    command = ("-m", "benchmarks.telnyx")
    async with serving(command, dict(os.environ), cpu=OTHERS_CPU) as server:
        yield Telnyx(f"http://{server.host}/v2")


def application() -> web.Application:
    received: list[tuple[str, float]] = []

    async def send(request: web.Request) -> web.Response:
        # Linux has one monotonic clock for all processes.
        at = time.monotonic()
        body = await request.json()
        received.append((body["to"], at))
        return web.json_response({"data": payloads.outbound(body)})

    async def arrivals(_request: web.Request) -> web.Response:
        return web.json_response(received)

    app = web.Application()
    app.add_routes([web.post("/v2/messages", send), web.get("/v2/arrivals", arrivals)])
    return app


if __name__ == "__main__":
    run(application())
