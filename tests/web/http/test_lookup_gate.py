from __future__ import annotations

import asyncio

import pytest

from bot.store.engine.errors import UnavailableError
from bot.web.http.lookup_gate import MAX_LOOKUPS, LookupGate


async def test_at_most_the_allowed_number_of_lookups_run_at_once() -> None:
    gate, done = LookupGate(timeout=0.01), asyncio.Event()

    async def look_up() -> None:
        async with gate.enter():
            await done.wait()

    running = [asyncio.create_task(look_up()) for _ in range(MAX_LOOKUPS)]
    await asyncio.sleep(0)
    with pytest.raises(UnavailableError):
        await look_up()
    done.set()
    await asyncio.gather(*running)
    await look_up()
