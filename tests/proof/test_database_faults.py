"""The database fails: webhooks are refused in time, and no refused webhook is stored."""

from __future__ import annotations

import asyncio
import resource
import sqlite3
import statistics
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import asyncpg
import pytest
from aiohttp import ClientSession
from sqlalchemy import select
from sqlalchemy.engine import make_url

from bot.services.clock import SystemClock
from bot.simulator.sandbox import BOT_NUMBER
from bot.simulator.telnyx import payloads
from bot.simulator.telnyx.server import SimulatedTelnyx
from bot.store.engine import migrate
from bot.store.tables import ProcessedWebhookRow
from bot.web.app import WEBHOOK_PATH
from tests.kit import postgresql
from tests.kit.processes import Processes, run_bot_with_its_own_deadlines
from tests.kit.settings import as_written, environment
from tests.kit.timeouts import TEST_TIMEOUT, slow_database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from sqlalchemy import URL

PROCESSED = ProcessedWebhookRow.__table__
TELNYX_TIMEOUT = 2.0
"""Seconds that Telnyx waits for a response."""

on_sqlite = pytest.mark.parametrize("make_database", ["sqlite"], indirect=True)
on_postgresql = pytest.mark.parametrize("make_database", ["postgresql"], indirect=True)


@dataclass(slots=True)
class WebhookClient:
    """Posts VERIFY from one phone after another, and records the status of each response."""

    telnyx: SimulatedTelnyx
    url: URL
    answers: dict[str, int] = field(default_factory=dict)
    took: list[float] = field(default_factory=list)

    async def post(self, times: int = 5) -> set[int]:
        """Post several webhooks at once, and return the set of statuses."""
        began = time.monotonic()
        statuses = set(await asyncio.gather(*(self._post_one() for _ in range(times))))
        self.took.append(time.monotonic() - began)
        return statuses

    async def wait_until_recovered(self) -> None:
        """Post until all are answered 200: the bot must recover by itself."""
        async with asyncio.timeout(TEST_TIMEOUT):
            while await self.post() != {200}:  # noqa: ASYNC110 - there is no event to wait for
                await asyncio.sleep(0.1)

    async def wait_until_ready(self, status: int) -> None:
        """Request `/readyz` until it has this status; it caches its result for some seconds."""
        readyz = self.telnyx.webhook_url.removesuffix(WEBHOOK_PATH) + "/readyz"
        async with asyncio.timeout(TEST_TIMEOUT), ClientSession() as session:
            while True:
                async with session.get(readyz) as answer:
                    if answer.status == status:
                        return
                await asyncio.sleep(0.2)

    async def check(self) -> None:
        """Check that every acknowledged webhook is stored, and no refused one."""
        database = slow_database(self.url)
        try:
            stored = set(await database.read(lambda c: c.scalars(select(PROCESSED.c.key)).all()))
        finally:
            await database.close()
        assert stored == {key for key, status in self.answers.items() if status == 200}

    async def _post_one(self) -> int:
        message = payloads.inbound(f"+1312{len(self.answers):07}", BOT_NUMBER, "VERIFY")
        key = f"message:{message['id']}"
        self.answers[key] = 0
        self.answers[key] = await self.telnyx.post_event("message.received", message)
        return self.answers[key]


@asynccontextmanager
async def serving(url: URL, processes: Processes) -> AsyncIterator[tuple[WebhookClient, int]]:
    """Start `bot serve --web-only`; yield a client and the process id."""
    async with SimulatedTelnyx(SystemClock()).running() as telnyx:
        bot = await processes.start(
            *("serve", "--web-only"),
            env=environment(url, telnyx),
            main=run_bot_with_its_own_deadlines,
        )
        telnyx.webhook_url = await bot.ready() + WEBHOOK_PATH
        client = WebhookClient(telnyx, url)
        await client.wait_until_recovered()
        yield client, bot.pid
        await client.check()


@on_sqlite
@pytest.mark.parametrize("seconds", [3, pytest.param(15, marks=pytest.mark.soak)])
async def test_a_locked_sqlite_database(
    database_url: URL, processes: Processes, seconds: int, request: pytest.FixtureRequest
) -> None:
    async with serving(database_url, processes) as (client, _):
        with sqlite3.connect(str(database_url.database), isolation_level=None) as other:
            other.execute("BEGIN IMMEDIATE")
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                assert await client.post() == {503}
            other.execute("ROLLBACK")
        other.close()
        await client.wait_until_recovered()
        # Only the soak has the machine to itself.
        if request.node.get_closest_marker("soak"):
            assert statistics.median(client.took) < TELNYX_TIMEOUT


@on_sqlite
async def test_a_full_disk(database_url: URL, processes: Processes) -> None:
    async with serving(database_url, processes) as (client, pid):
        _, most = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, most))
        assert await client.post() == {503}
        assert await client.post() == {503}
        await client.wait_until_ready(503)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (most, most))
        await client.wait_until_ready(200)
        await client.wait_until_recovered()


@on_postgresql
async def test_a_postgresql_that_drops_connections_repeatedly(
    database_url: URL, processes: Processes
) -> None:
    cut = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    async with (
        serving(database_url, processes) as (client, _),
        administrator_of(database_url) as administrator,
    ):
        for _ in range(10):
            posting = asyncio.create_task(client.post(20))
            await asyncio.sleep(0.005)
            await administrator.execute(cut)
            assert await posting <= {200, 503}
        await client.wait_until_recovered()


@on_postgresql
async def test_a_read_only_postgresql(database_url: URL, processes: Processes) -> None:
    name = database_url.database
    async with (
        serving(database_url, processes) as (client, _),
        administrator_of(database_url) as administrator,
    ):
        for read_only in ("on", "off"):
            await administrator.execute(
                f'ALTER DATABASE "{name}" SET default_transaction_read_only = {read_only}'
            )
            await administrator.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            await client.post()
            if read_only == "on":
                assert await client.post() == {503}
                await client.wait_until_ready(503)
        await client.wait_until_ready(200)
        await client.wait_until_recovered()


@asynccontextmanager
async def administrator_of(url: URL) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(as_written(url))
    await connection.execute("SET default_transaction_read_only = off")
    try:
        yield connection
    finally:
        await connection.close()


@pytest.fixture
def own_postgresql() -> Iterator[postgresql.Cluster]:
    with postgresql.binaries() as programs:
        if programs is None:
            pytest.skip(postgresql.HOW_TO_GET_ONE)
        with postgresql.cluster(programs) as own:
            own.start()
            yield own


async def test_a_restarted_postgresql(
    own_postgresql: postgresql.Cluster, processes: Processes
) -> None:
    url = make_url(own_postgresql.url).set(drivername="postgresql+asyncpg")
    await migrate.migrate(url)
    async with serving(url, processes) as (client, _):
        posting = asyncio.create_task(client.post(20))
        await asyncio.to_thread(own_postgresql.stop)
        assert await posting <= {200, 503}
        assert await client.post() == {503}
        await asyncio.to_thread(own_postgresql.start)
        await client.wait_until_recovered()
