"""A sender that runs on a database and sends to a fake carrier."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from msgspec.structs import replace

from bot.carrier.errors import SendAccepted, SendResult
from bot.services.delivery.queue_worker import (
    POLL_INTERVAL,
    SETTLE_RETRY_DELAYS,
    BatchSettler,
    QueueWorker,
)
from bot.services.delivery.sender import Sender, TextDelivery
from bot.services.delivery.throttle import SendRates
from bot.services.intake.inbox import apply
from tests.kit.samples import BOT_NUMBER, PHONE, RULES, text
from tests.kit.stored import outbox_rows
from tests.kit.timeouts import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from datetime import timedelta
    from typing import Any

    from sqlalchemy import Row

    from bot.services.intake.unit_of_work import Rules
    from bot.simulator.clock import StoppedClock
    from bot.store.engine.database import Database
    from bot.store.tables import OutboxState

OTHERS = [f"+1312555{number:04}" for number in range(200, 230)]


@dataclass(frozen=True, slots=True)
class Sent:
    key: str
    phone: str
    text: str
    retried: bool


@dataclass(slots=True)
class FakeClient:
    """Records the texts sent, and returns the given results, then success."""

    outcomes: list[SendResult] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    gate: asyncio.Event | None = None

    async def send(
        self, *, key: str, bot_number: str, phone: str, text: str, retried: bool
    ) -> SendResult:
        del bot_number
        self.sent.append(Sent(key, phone, text, retried))
        if self.gate:
            await self.gate.wait()
        return self.outcomes.pop(0) if self.outcomes else SendAccepted(f"id-{len(self.sent)}")


@dataclass(slots=True)
class RunningSender:
    database: Database
    clock: StoppedClock
    client: FakeClient
    delivery: TextDelivery
    sender: Sender

    async def text(self, said: str, phone: str = PHONE, bot_number: str = BOT_NUMBER) -> None:
        events = [replace(text(said, phone=phone), bot_number=bot_number)]
        await self.database.write(apply, events, self.clock.now(), RULES)
        self.sender.wake()

    async def travel(self, length: timedelta) -> None:
        self.clock.travel(length)
        self.sender.wake()

    async def rows(self) -> list[Row[Any]]:
        return await outbox_rows(self.database)

    async def until(self, reached: Callable[[list[Row[Any]]], bool]) -> list[Row[Any]]:
        rows: list[Row[Any]] = []

        async def is_reached() -> bool:
            nonlocal rows
            return reached(rows := await self.rows()) and self.sender.idle

        await wait_until(is_reached)
        return rows

    async def until_sending(self, count: int) -> None:
        await wait_until(lambda: len(self.client.sent) >= count)

    async def until_state(self, *states: OutboxState) -> list[Row[Any]]:
        return await self.until(lambda rows: [row.state for row in rows] == list(states))

    async def until_sent(self, count: int) -> None:
        await self.until(lambda _: len(self.client.sent) >= count)


@asynccontextmanager
async def running_sender(  # noqa: PLR0913 - each is one thing that a test varies
    database: Database,
    clock: StoppedClock,
    *outcomes: SendResult,
    rules: Rules = RULES,
    gate: asyncio.Event | None = None,
    rate: float = 0,
    per_number: float = 0,
    poll_interval: float = POLL_INTERVAL,
    settle_retry_delays: Sequence[float] = SETTLE_RETRY_DELAYS,
) -> AsyncIterator[RunningSender]:
    client = FakeClient(list(outcomes), gate=gate)

    @asynccontextmanager
    async def opening() -> AsyncIterator[FakeClient]:
        yield client

    delivery = TextDelivery(
        database,
        rules,
        clock,
        rates=SendRates(rate, per_number),
        make_settler=partial(BatchSettler, retry_delays=settle_retry_delays),
    )
    sender = QueueWorker(delivery, opening, poll_interval=poll_interval)
    task = asyncio.create_task(sender.run())
    try:
        yield RunningSender(database, clock, client, delivery, sender)
    finally:
        sender.stop()
        await task
