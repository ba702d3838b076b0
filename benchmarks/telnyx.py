"""A pretend Telnyx API in a process of its own: it takes every text, and tells when each came."""

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

_PATIENCE = 40.0
"""Seconds without a new text until none is expected any more: a claim lasts thirty."""
_LOOK_EVERY = 0.1


@dataclass(frozen=True, slots=True)
class Telnyx:
    """The pretend API at work."""

    base_url: str

    async def arrivals(self, at_least: int = 0) -> dict[str, float]:
        """Wait for so many texts; tell when each phone's came (monotonic seconds).

        Exits where no more come before that, or a phone got two.
        """
        came, patient_until = await self._came(), time.monotonic() + _PATIENCE
        while len(came) < at_least:
            await asyncio.sleep(_LOOK_EVERY)
            before, came = came, await self._came()
            if len(came) > len(before):
                patient_until = time.monotonic() + _PATIENCE
            elif time.monotonic() > patient_until:
                sys.exit(f"{len(came)} texts came, of {at_least}")
        if len(by_phone := dict(came)) < len(came):
            sys.exit(f"{len(came)} texts came to {len(by_phone)} phones")
        return by_phone

    async def _came(self) -> list[tuple[str, float]]:
        async with ClientSession() as session, session.get(f"{self.base_url}/arrivals") as answer:
            came: list[tuple[str, float]] = await answer.json()
            return came


@asynccontextmanager
async def pretended() -> AsyncIterator[Telnyx]:
    """Run the pretend API until the block ends, beside what is measured."""
    command = ("-m", "benchmarks.telnyx")
    async with serving(command, dict(os.environ), cpu=OTHERS_CPU) as server:
        yield Telnyx(f"http://{server.host}/v2")


def application() -> web.Application:
    came: list[tuple[str, float]] = []

    async def send(request: web.Request) -> web.Response:
        # Linux has one such clock for all processes of a machine.
        at = time.monotonic()
        body = await request.json()
        came.append((body["to"], at))
        return web.json_response({"data": payloads.outbound(body)})

    async def arrivals(_request: web.Request) -> web.Response:
        return web.json_response(came)

    made = web.Application()
    made.add_routes([web.post("/v2/messages", send), web.get("/v2/arrivals", arrivals)])
    return made


if __name__ == "__main__":
    run(application())
