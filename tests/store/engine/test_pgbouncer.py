"""The bot behind a real PgBouncer, without prepared statements and session settings."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from bot.conversation.state import State
from bot.simulator.clock import StoppedClock
from bot.simulator.sandbox import BOT_NUMBER, PHONE, open_sandbox
from bot.store import conversations, verifications
from bot.store.engine import migrate
from bot.store.engine.database import Database
from bot.store.tables import ConversationRow
from tests.kit import pgbouncer
from tests.kit.pgbouncer import pooling
from tests.kit.settings import environment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import URL, Connection

    from bot.simulator.sandbox import Sandbox
    from tests.conftest import MakeDatabase
    from tests.kit.processes import Processes

CODE = re.compile(r"code: ([0-9]+)\.")
SETTINGS = ("statement_timeout", "idle_in_transaction_session_timeout")
WITHIN, LIMITS = 61.5, ["61500ms", "10s"]
"""Seconds a transaction may take, more than a busy machine needs, and the server's notation."""
FEW = "2"
"""Connections to the server: fewer than the bot has to the pooler, so that they are shared."""
PHONES = [f"+1312555{number:04}" for number in range(40)]

pytestmark = [
    pytest.mark.skipif(pgbouncer.program() is None, reason=pgbouncer.HOW_TO_GET_ONE),
    pytest.mark.parametrize("make_database", ["postgresql"], indirect=True),
]
in_both_modes = pytest.mark.parametrize("mode", ["session", "transaction"])


@pytest.fixture
def pooled_url(database_url: URL, mode: pgbouncer.Mode) -> Iterator[URL]:
    """Return the URL of a pooler; in session mode it needs a connection for each of the bot's."""
    size = FEW if mode == "transaction" else "20"
    with pooling(database_url, mode, default_pool_size=size) as url:
        yield url


async def run(url: URL, work: Any, *, times: int = 1) -> list[Any]:
    database = Database(url, WITHIN)
    try:
        return await asyncio.gather(*(database.write(work) for _ in range(times)))
    finally:
        await database.close()


def limits(connection: Connection) -> list[str]:
    return [str(connection.exec_driver_sql(f"SHOW {name}").scalar()) for name in SETTINGS]


def count_prepared(connection: Connection) -> int:
    for number in range(3):
        connection.exec_driver_sql(f"SELECT {number}")
    return int(
        connection.exec_driver_sql("SELECT count(*) FROM pg_prepared_statements").scalar_one()
    )


async def verify(sandbox: Sandbox, phone: str) -> None:
    assert await sandbox.telnyx.text(phone, BOT_NUMBER, "VERIFY") == 200


@in_both_modes
async def test_a_person_is_verified_through_a_pooler(pooled_url: URL) -> None:
    async with open_sandbox(pooled_url, StoppedClock()) as sandbox:
        (sent,) = await sandbox.text(PHONE, "VERIFY")
        found = CODE.search(sent.text)
        assert found
        await sandbox.text(PHONE, found[1])
        (known,) = await sandbox.bot.database.read(conversations.find, PHONE)
    assert known.conversation.state is State.VERIFIED


@in_both_modes
async def test_concurrent_batches_share_the_few_connections_of_a_pooler(pooled_url: URL) -> None:
    def states(connection: Connection) -> list[State]:
        return list(connection.scalars(select(ConversationRow.__table__.c.state)))

    async with open_sandbox(pooled_url, StoppedClock()) as sandbox:
        await asyncio.gather(*(verify(sandbox, phone) for phone in PHONES))
        await sandbox.quiet()
        codes = {text.phone: CODE.search(text.text) for text in sandbox.telnyx.texts}
        assert codes.keys() == set(PHONES)
        statuses = await asyncio.gather(
            *(
                sandbox.telnyx.text(phone, BOT_NUMBER, found[1])
                for phone, found in codes.items()
                if found
            )
        )
        assert statuses == [200] * len(PHONES)
        await sandbox.quiet()
        assert await sandbox.bot.database.read(states) == [State.VERIFIED] * len(PHONES)


@in_both_modes
async def test_a_transaction_through_a_pooler_has_timeouts_and_leaves_no_statement_prepared(
    pooled_url: URL,
) -> None:
    assert await run(pooled_url, limits, times=5) == [LIMITS] * 5
    assert await run(pooled_url, count_prepared, times=5) == [0] * 5


@in_both_modes
async def test_a_pooler_that_silently_ignores_settings_is_detected(
    database_url: URL, mode: pgbouncer.Mode
) -> None:
    ignored = ", ".join((*SETTINGS, "extra_float_digits"))
    with pooling(database_url, mode, ignore_startup_parameters=ignored) as url:
        assert await run(url, limits) == [LIMITS]
        assert await run(url, count_prepared) == [0]


async def test_a_direct_connection_keeps_prepared_statements(database_url: URL) -> None:
    assert await run(database_url, limits) == [LIMITS]
    (prepared,) = await run(database_url, count_prepared)
    assert prepared >= 3


@in_both_modes
async def test_migrations_run_through_a_pooler_and_wait_for_each_other(
    make_database: MakeDatabase, mode: pgbouncer.Mode, processes: Processes
) -> None:
    with pooling(make_database(migrated=False), mode) as url:
        env = environment(url)
        ended = await asyncio.gather(*(processes.run("migrate", env=env) for _ in range(2)))
        assert [(each.code, each.err) for each in ended] == [(0, "")] * 2
        assert await run(url, migrate.is_current) == [True]
        status = await processes.run("status", env=env)
        assert (status.code, status.err) == (0, "")


@in_both_modes
async def test_all_clients_of_a_pooler_share_the_lock_of_the_form(pooled_url: URL) -> None:
    inside, most, held = 0, 0, 0

    def hold(connection: Connection) -> None:
        nonlocal inside, most, held
        if not verifications.try_lock_form(connection):
            return
        held += 1
        inside += 1
        most = max(most, inside)
        connection.exec_driver_sql("SELECT pg_sleep(0.05)")
        inside -= 1

    await run(pooled_url, hold, times=5)
    assert (inside, most) == (0, 1)
    assert held
