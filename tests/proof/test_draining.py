"""SIGTERM during work: the process ends in time and loses nothing."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import ClientError
from sqlalchemy import select

from bot.services.clock import SystemClock
from bot.simulator.sandbox import BOT_NUMBER
from bot.simulator.telnyx import payloads
from bot.simulator.telnyx.server import SimulatedTelnyx
from bot.store.tables import ProcessedWebhookRow
from bot.web.app import WEBHOOK_PATH
from tests.kit.persistent_texter import codes_to, wait_until_drained
from tests.kit.seeds import seeded, soak_rounds
from tests.kit.settings import environment
from tests.kit.timeouts import slow_database, wait_until

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping

    from aiohttp import web
    from sqlalchemy import URL

    from bot.services.clock import Clock
    from tests.conftest import MakeDatabase
    from tests.kit.processes import Processes

SHUTDOWN_TIMEOUT = 8.0
"""Seconds; hosting providers kill a process after ten. Only the soak, which has the machine to
itself, checks the time."""
SENDS, WEBHOOKS = 20, 50


class SlowTelnyx(SimulatedTelnyx):
    """Holds each request until `released` is set, and then `delay` seconds longer."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.delay = 1.0
        self.request_count = 0
        self.released = asyncio.Event()

    async def _respond(self, request: web.Request, raw: bytes) -> web.Response | None:
        self.request_count += 1
        await self.released.wait()
        await asyncio.sleep(self.delay)
        return await super()._respond(request, raw)


def verify_text(number: int) -> dict[str, Any]:
    return payloads.inbound(f"+1312{number:07}", BOT_NUMBER, "VERIFY")


async def drain(url: URL, processes: Processes, rng: random.Random) -> float:
    """Stop a bot during work, check, and return how long the shutdown took (seconds)."""
    telnyx = SlowTelnyx(SystemClock())
    telnyx.delay = rng.uniform(1, 4)
    async with telnyx.running():
        env = environment(url, telnyx)
        bot = await processes.start("serve", env=env)
        telnyx.webhook_url = await bot.ready() + WEBHOOK_PATH
        first = [verify_text(number) for number in range(SENDS)]
        second = [verify_text(SENDS + number) for number in range(WEBHOOKS)]
        sent = await asyncio.gather(*(post(telnyx, message) for message in first))
        await wait_until(lambda: telnyx.request_count >= sent.count(200))
        posting = [asyncio.create_task(post(telnyx, message)) for message in second]
        await asyncio.sleep(rng.uniform(0, 0.05))
        began = time.monotonic()
        bot.send(signal.SIGTERM)
        telnyx.released.set()
        ended = await bot.end()
        took = time.monotonic() - began
        answers = await asyncio.gather(*posting)
        assert ended.code == 0, ended.err
        telnyx.delay = 0.0
        again = await processes.start("serve", env=env)
        telnyx.webhook_url = await again.ready() + WEBHOOK_PATH
        await check(url, telnyx, [*first, *second], [*sent, *answers])
        await again.kill()
    return took


async def post(telnyx: SimulatedTelnyx, message: Mapping[str, Any]) -> int | None:
    try:
        return await telnyx.post_event("message.received", message)
    except ClientError:
        return None


async def check(
    url: URL,
    telnyx: SimulatedTelnyx,
    messages: list[dict[str, Any]],
    answers: list[int | None],
) -> None:
    database = slow_database(url)
    try:
        await wait_until_drained(database)
        keys = set(
            await database.read(
                lambda c: c.scalars(select(ProcessedWebhookRow.__table__.c.key)).all()
            )
        )
    finally:
        await database.close()
    for message, answer in zip(messages, answers, strict=True):
        stored = f"message:{message['id']}" in keys
        assert stored or answer != 200, "acknowledged, and lost"
        assert not stored or answer != 503, "refused, and stored"
        codes = codes_to(telnyx, message["from"]["phone_number"])
        assert len(codes) == stored


async def test_a_terminated_process_loses_nothing(database_url: URL, processes: Processes) -> None:
    with seeded("drain") as rng:
        await drain(database_url, processes, rng)


@pytest.mark.soak
async def test_twenty_terminated_processes_lose_nothing(
    make_database: MakeDatabase, processes: Processes, request: pytest.FixtureRequest
) -> None:
    for _, rng in soak_rounds(request.node.name, 20):
        assert await drain(make_database(), processes, rng) < SHUTDOWN_TIMEOUT
