"""Whatever moment the process dies at, nothing acknowledged is lost and nothing is doubled."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from harness.crashing import POINTS
from harness.processes import BotProcess, Processes, environment
from harness.witness import Witness, check, drained, free_port

from bot.services.clock import SystemClock
from bot.simulator.telnyx import SimulatedTelnyx
from bot.store.database import Database
from bot.web.routes import WEBHOOK_PATH

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy import URL

TESTS = Path(__file__).parents[1]
PHONES = [f"+1312555{number:04}" for number in range(3)]


@pytest.fixture
async def telnyx() -> AsyncIterator[SimulatedTelnyx]:
    async with SimulatedTelnyx(SystemClock()).running() as telnyx:
        telnyx.webhook_url = f"http://127.0.0.1:{free_port()}{WEBHOOK_PATH}"
        yield telnyx


async def serve(
    processes: Processes, url: URL, telnyx: SimulatedTelnyx, point: str, nth: int
) -> BotProcess:
    port = telnyx.webhook_url.split(":")[2].partition("/")[0]
    env = environment(url, telnyx, PORT=port, PYTHONPATH=str(TESTS))
    arguments = (point, str(nth), "serve")
    return await processes.start(*arguments, env=env, module="harness.crashing")


@pytest.mark.parametrize("point", POINTS)
async def test_a_crash_loses_nothing_and_doubles_nothing(
    point: str, database_url: URL, telnyx: SimulatedTelnyx, processes: Processes
) -> None:
    witness = Witness(telnyx)
    nth = 1 if database_url.get_backend_name() == "sqlite" else 3
    bot = await serve(processes, database_url, telnyx, point, nth)
    texting = asyncio.gather(*(person(witness, phone) for phone in PHONES))
    ended = await bot.end()
    assert ended.code == -9, ended.err
    await serve(processes, database_url, telnyx, point, 0)
    await texting
    database = Database(database_url)
    try:
        await drained(database)
        await check(database, witness)
    finally:
        await database.close()


async def person(witness: Witness, phone: str) -> None:
    await witness.say(phone, "VERIFY")
    await witness.say(phone, await witness.code_of(phone))
