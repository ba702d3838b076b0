from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import asynccontextmanager, closing
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NoReturn

import pytest
from aiohttp import ClientSession, web
from sqlalchemy import text

from bot import app
from bot.simulator.clock import StoppedClock
from bot.simulator.sandbox import BOT_NUMBER, LONG_DEADLINES
from bot.store.engine import migrate
from bot.store.engine.errors import BusyError, UnavailableError
from bot.store.engine.write_check import write_and_roll_back
from bot.web.health import Readiness, accepts_writes, cached
from tests.kit.settings import settings_for
from tests.kit.timeouts import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp.pytest_plugin import AiohttpClient
    from sqlalchemy import URL, Connection

    from bot.app import Bot
    from bot.carrier.client import Carrier
    from bot.settings import Settings
    from bot.simulator.sandbox import Sandbox
    from tests.conftest import MakeDatabase, MakeSandbox

Answer = tuple[int, Any]

on_postgresql = pytest.mark.parametrize("make_database", ["postgresql"], indirect=True)
on_sqlite = pytest.mark.parametrize("make_database", ["sqlite"], indirect=True)


@pytest.fixture(autouse=True)
def without_caching(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bot.web.health._CHECK_INTERVAL", 0.0)
    monkeypatch.setattr("bot.web.health._WRITE_CHECK_INTERVAL", 0.0)


async def ask(bot: Bot, path: str) -> Answer:
    async with ClientSession() as session, session.get(f"{bot.url}{path}") as answer:
        return answer.status, json.loads(await answer.text())


async def ready(bot: Bot) -> bool:
    status, _ = await ask(bot, "/readyz")
    return status == 200


async def end_task(name: str) -> None:
    (task,) = (task for task in asyncio.all_tasks() if task.get_name() == name)
    task.cancel()
    await asyncio.wait([task])


async def test_a_running_bot_is_ready_and_names_its_checks(sandbox: Sandbox) -> None:
    await wait_until(lambda: ready(sandbox.bot))
    assert await ask(sandbox.bot, "/readyz") == (
        200,
        {"database": True, "writer": True, "sender": True},
    )
    assert await ask(sandbox.bot, "/healthz") == (200, {"alive": True})


@on_sqlite
async def test_before_its_sender_can_send_a_bot_is_alive_but_not_ready(
    make_sandbox: MakeSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = asyncio.Event()
    open_carrier = app._carrier

    @asynccontextmanager
    async def slow(settings: Settings) -> AsyncIterator[Carrier]:
        await opened.wait()
        async with open_carrier(settings) as carrier:
            yield carrier

    monkeypatch.setattr(app, "_carrier", slow)
    sandbox = await make_sandbox()

    try:
        answers = [await ask(sandbox.bot, path) for path in ("/readyz", "/healthz")]
    finally:
        opened.set()

    assert answers == [
        (503, {"database": True, "writer": True, "sender": False}),
        (200, {"alive": True}),
    ]
    await wait_until(lambda: ready(sandbox.bot))


@on_sqlite
async def test_a_bot_whose_writer_has_died_is_not_ready_and_takes_no_webhook(
    sandbox: Sandbox,
) -> None:
    await wait_until(lambda: ready(sandbox.bot))
    await end_task("inbox")

    status, passed = await ask(sandbox.bot, "/readyz")
    assert (status, passed["writer"]) == (503, False)
    assert await sandbox.telnyx.text("+13125550001", BOT_NUMBER, "VERIFY") == 503
    assert await ask(sandbox.bot, "/healthz") == (200, {"alive": True})


@on_sqlite
async def test_a_bot_whose_sender_has_died_is_not_ready(sandbox: Sandbox) -> None:
    await wait_until(lambda: ready(sandbox.bot))
    await end_task("sender")

    status, passed = await ask(sandbox.bot, "/readyz")
    assert (status, passed["sender"]) == (503, False)


async def test_a_bot_whose_schema_is_not_the_newest_is_not_ready(
    sandbox: Sandbox,
) -> None:
    def age(connection: Connection) -> None:
        connection.execute(text("UPDATE alembic_version SET version_num = 'an older one'"))

    await wait_until(lambda: ready(sandbox.bot))
    await sandbox.bot.database.write(age)

    status, passed = await ask(sandbox.bot, "/readyz")
    assert (status, passed["database"]) == (503, False)


async def test_a_bot_whose_database_is_out_of_reach_is_not_ready_until_it_is_back(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def out_of_reach(*_: object) -> NoReturn:
        raise UnavailableError("gone for the test")

    await wait_until(lambda: ready(sandbox.bot))
    with monkeypatch.context() as outage:
        outage.setattr(sandbox.bot.database, "read", out_of_reach)
        status, passed = await ask(sandbox.bot, "/readyz")
        assert (status, passed["database"]) == (503, False)
        assert await ask(sandbox.bot, "/healthz") == (200, {"alive": True})
    assert await ready(sandbox.bot)


def make_read_only(connection: Connection) -> None:
    """Make the database read-only, even for administrators."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA query_only = ON")
    else:
        (name,) = connection.exec_driver_sql("SELECT current_database()").one()
        connection.exec_driver_sql(
            f'ALTER DATABASE "{name}" SET default_transaction_read_only = on'
        )


async def test_a_bot_whose_database_is_read_only_is_not_ready_and_takes_no_webhook(
    sandbox: Sandbox,
) -> None:
    await wait_until(lambda: ready(sandbox.bot))
    await sandbox.bot.database.write(make_read_only)
    if sandbox.bot.database.url.get_backend_name() == "postgresql":
        await (
            sandbox.bot.database._backend.reader.dispose()
        )  # the setting is one of new connections

    assert await ask(sandbox.bot, "/readyz") == (
        503,
        {"database": True, "writer": False, "sender": True},
    )
    assert await sandbox.telnyx.text("+13125550001", BOT_NUMBER, "VERIFY") == 503
    assert await ask(sandbox.bot, "/healthz") == (200, {"alive": True})


@on_sqlite
async def test_a_bot_whose_database_may_not_grow_is_not_ready_until_it_may(
    sandbox: Sandbox,
) -> None:
    def limit(connection: Connection, pages: int) -> None:
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")

    await wait_until(lambda: ready(sandbox.bot))
    await sandbox.bot.database.write(limit, 1)  # SQLite makes of it as many as there are
    status, passed = await ask(sandbox.bot, "/readyz")
    assert (status, passed["writer"]) == (503, False)
    await sandbox.bot.database.write(limit, 1_000_000)
    assert await ready(sandbox.bot)


@on_postgresql
async def test_a_bot_that_may_not_write_is_not_ready(sandbox: Sandbox) -> None:
    def forbid(connection: Connection) -> None:
        connection.execute(
            text(
                "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
                " $$ BEGIN RAISE insufficient_privilege; END $$"
            )
        )
        connection.execute(
            text(
                "CREATE TRIGGER refuse BEFORE INSERT ON processed_webhooks"
                " EXECUTE FUNCTION refuse()"
            )
        )

    await wait_until(lambda: ready(sandbox.bot))
    await sandbox.bot.database.write(forbid)
    status, passed = await ask(sandbox.bot, "/readyz")
    assert (status, passed["writer"]) == (503, False)


async def test_a_check_leaves_nothing_behind(sandbox: Sandbox) -> None:
    def rows(connection: Connection) -> Any:
        return connection.execute(text("SELECT count(*) FROM processed_webhooks")).scalar_one()

    def cache(connection: Connection) -> Any:
        return connection.exec_driver_sql("PRAGMA cache_size").scalar_one()

    on_sqlite = sandbox.bot.database.url.get_backend_name() == "sqlite"
    cache_before = await sandbox.bot.database.write(cache) if on_sqlite else None
    await wait_until(lambda: ready(sandbox.bot))
    assert await sandbox.bot.database.read(rows) == 0
    assert (await sandbox.bot.database.write(cache) if on_sqlite else None) == cache_before


@on_sqlite
async def test_a_short_lock_of_another_program_does_not_make_a_bot_unready(
    sandbox: Sandbox,
) -> None:
    await wait_until(lambda: ready(sandbox.bot))
    with closing(sqlite3.connect(sandbox.bot.database.url.database or "")) as other:
        other.isolation_level = None
        other.execute("BEGIN IMMEDIATE")
        asking = [asyncio.create_task(ready(sandbox.bot)) for _ in range(3)]
        await asyncio.sleep(0.3)
        texting = asyncio.create_task(sandbox.telnyx.text("+13125550001", BOT_NUMBER, "VERIFY"))
        await asyncio.sleep(0.3)
        other.execute("ROLLBACK")
        assert await asyncio.gather(*asking) == [True] * 3
        assert await texting == 200


async def test_a_long_lock_makes_a_bot_unready(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    uptime = SimpleNamespace(seconds=100.0)
    coming: list[Exception | None] = []
    monkeypatch.setattr("bot.web.health.time", SimpleNamespace(monotonic=lambda: uptime.seconds))

    async def write() -> None:
        error = coming.pop()
        if error:
            raise error

    check = accepts_writes(write)

    async def found(error: Exception | None, at: float) -> bool:
        coming.append(error)
        uptime.seconds = at
        return await check()

    assert not await found(BusyError("not once written"), 100)
    assert await found(None, 101)
    assert await found(BusyError("for a moment"), 106)
    assert await found(BusyError("still"), 115)
    assert not await found(BusyError("for too long"), 116)
    assert await found(None, 121)
    assert not await found(UnavailableError("read only"), 126)
    assert not await found(BusyError("the last write failed"), 127)


async def test_a_write_is_tried_at_most_once_in_five_seconds(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    uptime, writes = SimpleNamespace(seconds=100.0), 0
    monkeypatch.setattr("bot.web.health._WRITE_CHECK_INTERVAL", 5.0)
    monkeypatch.setattr("bot.web.health.time", SimpleNamespace(monotonic=lambda: uptime.seconds))
    write = write_and_roll_back

    def counted(connection: Connection) -> None:
        nonlocal writes
        writes += 1
        write(connection)

    monkeypatch.setattr("bot.store.engine.database.write_and_roll_back", counted)
    await wait_until(lambda: ready(sandbox.bot))
    for seconds, in_all in ((104.9, 1), (105.0, 2)):
        uptime.seconds = seconds
        assert all(await asyncio.gather(*(ready(sandbox.bot) for _ in range(20))))
        assert writes == in_all


@on_sqlite
async def test_a_bot_without_workers_is_ready_without_a_sender(
    database_url: URL,
) -> None:
    async with app.run_bot(
        settings_for(database_url),
        StoppedClock(),
        with_web=True,
        with_work=False,
        deadlines=LONG_DEADLINES,
    ) as bot:
        assert bot.sender is None
        assert await ask(bot, "/readyz") == (200, {"database": True, "writer": True})


@on_sqlite
async def test_a_bot_without_the_web_listens_nowhere(database_url: URL) -> None:
    async with app.run_bot(
        settings_for(database_url), StoppedClock(), with_web=False, with_work=True
    ) as bot:
        assert bot.url is None


async def test_probes_at_the_same_time_share_one_check(
    aiohttp_client: AiohttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    uptime, checks = SimpleNamespace(seconds=0.0), 0

    async def check() -> bool:
        nonlocal checks
        checks += 1
        await asyncio.sleep(0)
        return checks == 1

    monkeypatch.setattr("bot.web.health._CHECK_INTERVAL", 1.0)
    monkeypatch.setattr("bot.web.health.time", SimpleNamespace(monotonic=lambda: uptime.seconds))
    application = web.Application()
    application.add_routes([web.get("/readyz", Readiness({"it": cached(check)}).handle)])
    client = await aiohttp_client(application)

    async def rush() -> set[int]:
        answers = await asyncio.gather(*(client.get("/readyz") for _ in range(10)))
        return {answer.status for answer in answers}

    assert (await rush(), checks) == ({200}, 1)
    uptime.seconds = 0.9
    assert (await rush(), checks) == ({200}, 1)
    uptime.seconds = 1.0
    assert (await rush(), checks) == ({503}, 2)


@on_sqlite
async def test_a_crashed_task_is_reported_at_once_while_the_database_check_is_cached(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    await wait_until(lambda: ready(sandbox.bot))
    monkeypatch.setattr("bot.web.health._CHECK_INTERVAL", 60.0)
    assert await ready(sandbox.bot)

    await end_task("sender")

    assert not await ready(sandbox.bot)


@pytest.fixture
def empty_database_url(make_database: MakeDatabase) -> URL:
    return make_database(migrated=False)


async def test_a_database_without_a_schema_is_migrated_on_sqlite_and_refused_on_postgresql(
    empty_database_url: URL,
) -> None:
    starting = app.run_bot(
        settings_for(empty_database_url),
        StoppedClock(),
        with_web=True,
        with_work=False,
        deadlines=LONG_DEADLINES,
    )
    if empty_database_url.get_backend_name() == "sqlite":
        async with starting as bot:
            assert await ready(bot)
    else:
        with pytest.raises(migrate.SchemaError):
            await starting.__aenter__()
