"""The process dies at any moment: nothing acknowledged is lost and nothing is doubled."""

from __future__ import annotations

import asyncio
import itertools
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from bot.services.clock import SystemClock
from bot.simulator.telnyx.server import SimulatedTelnyx
from bot.web.app import WEBHOOK_PATH
from tests.kit.crash_points import POINTS, run_until_crash
from tests.kit.persistent_texter import PersistentTexter, check, wait_until_drained
from tests.kit.ports import free_port
from tests.kit.processes import BotProcess, Processes
from tests.kit.seeds import seeded, soak_rounds
from tests.kit.settings import environment
from tests.kit.timeouts import slow_database

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator
    from pathlib import Path

    from sqlalchemy import URL

    from tests.conftest import MakeDatabase

PHONES = [f"+1312555{number:04}" for number in range(3)]


@asynccontextmanager
async def carrier() -> AsyncIterator[SimulatedTelnyx]:
    async with SimulatedTelnyx(SystemClock()).running() as telnyx:
        telnyx.webhook_url = f"http://127.0.0.1:{free_port()}{WEBHOOK_PATH}"
        yield telnyx


@pytest.fixture
async def telnyx() -> AsyncIterator[SimulatedTelnyx]:
    async with carrier() as telnyx:
        yield telnyx


async def serve(
    processes: Processes, url: URL, telnyx: SimulatedTelnyx, point: str, nth: int
) -> BotProcess:
    port = telnyx.webhook_url.split(":")[2].partition("/")[0]
    env = environment(url, telnyx, PORT=port)
    arguments = (point, str(nth), "serve")
    return await processes.start(*arguments, env=env, main=run_until_crash)


@pytest.mark.parametrize(
    ("make_database", "point"),
    # Each point once, on one of the databases; the soak has all points on both.
    list(zip(itertools.cycle(["sqlite", "postgresql"]), POINTS, strict=False)),
    indirect=["make_database"],
)
async def test_a_crash_loses_nothing_and_duplicates_nothing(
    point: str, database_url: URL, telnyx: SimulatedTelnyx, processes: Processes
) -> None:
    with seeded(point) as rng:
        await crash(point, database_url, telnyx, processes, rng)


async def test_a_crash_at_any_moment_loses_nothing_and_duplicates_nothing(
    database_url: URL, telnyx: SimulatedTelnyx, processes: Processes
) -> None:
    with seeded("any moment") as rng:
        await crash(None, database_url, telnyx, processes, rng)


@pytest.mark.soak
async def test_hundreds_of_crashes_lose_nothing_and_duplicate_nothing(
    make_database: MakeDatabase, folder: Path, request: pytest.FixtureRequest
) -> None:
    """Half of the crashes are at the named points, half at random; 500 on each database."""
    named = list(POINTS)
    for number, rng in soak_rounds(request.node.name, 500):
        point = named[number // 2 % len(named)] if number % 2 else None
        async with carrier() as telnyx, Processes(folder) as processes:
            await crash(point, make_database(), telnyx, processes, rng)


async def crash(
    point: str | None,
    url: URL,
    telnyx: SimulatedTelnyx,
    processes: Processes,
    rng: random.Random,
) -> None:
    """Let three people verify their numbers while the process dies once, and check."""
    texter = PersistentTexter(telnyx)
    nth = 0 if point is None else rng.randint(1, 3)
    bot = await serve(processes, url, telnyx, point or "after settling", nth)
    if point is None:
        await bot.ready()
    texting = asyncio.gather(*(verify(texter, phone) for phone in PHONES))
    if point is None:
        await asyncio.sleep(rng.uniform(0, 0.3))
        bot.send(signal.SIGKILL)
    ended = await bot.end()
    assert ended.code == -9, ended.err
    await serve(processes, url, telnyx, point or "after settling", 0)
    await texting
    database = slow_database(url)
    try:
        await wait_until_drained(database)
        await check(database, texter)
    finally:
        await database.close()


async def verify(texter: PersistentTexter, phone: str) -> None:
    await texter.text(phone, "VERIFY")
    await texter.text(phone, await texter.code_of(phone))
