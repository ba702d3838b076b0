"""Several processes on one database: no text is sent twice, and every guess is counted."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from bot.conversation.state import State
from bot.services.clock import SystemClock
from bot.simulator.sandbox import PHONE
from bot.simulator.telnyx.server import SimulatedTelnyx
from bot.store import conversations, phone_limits
from bot.store.tables import TokenRow
from bot.web.app import WEBHOOK_PATH
from tests.kit.apps import app_with, make_key, post_until_answered
from tests.kit.persistent_texter import PersistentTexter, check, codes_to, wait_until_drained
from tests.kit.settings import environment
from tests.kit.stored import person_of
from tests.kit.timeouts import slow_database, wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy import URL, Connection

    from bot.store.engine.database import Database
    from tests.kit.apps import App
    from tests.kit.processes import Processes

GUESSES = 200
TRIES = 5
PHONES = [f"+1312555{number:04}" for number in range(20)]


@pytest.fixture
async def carriers() -> AsyncIterator[list[SimulatedTelnyx]]:
    """Two with one key, one for each process's webhooks; both processes use the first's API."""
    async with SimulatedTelnyx(SystemClock()).running() as one:
        other = SimulatedTelnyx(SystemClock())
        other._key = one._key
        async with other.running():
            yield [one, other]


@pytest.fixture
async def database(database_url: URL) -> AsyncIterator[Database]:
    database = slow_database(database_url)
    yield database
    await database.close()


async def serve_twice(
    carriers: list[SimulatedTelnyx], processes: Processes, url: URL, *arguments: str
) -> list[PersistentTexter]:
    """Start two processes, and return a texter for each."""
    env = environment(url, carriers[0])
    bots = [await processes.start("serve", *arguments, env=env) for _ in carriers]
    for bot, carrier in zip(bots, carriers, strict=True):
        carrier.webhook_url = await bot.ready() + WEBHOOK_PATH
    return [PersistentTexter(carrier) for carrier in carriers]


async def test_guesses_in_parallel_at_two_processes_are_all_counted(
    database_url: URL,
    database: Database,
    carriers: list[SimulatedTelnyx],
    processes: Processes,
) -> None:
    one, other = await serve_twice(carriers, processes, database_url)
    await one.text(PHONE, "VERIFY")
    code = await one.code_of(PHONE)
    wrong = [f"{number:06}" for number in range(GUESSES + 1) if f"{number:06}" != code][:GUESSES]
    texters = [one, other] * (GUESSES // 2)
    await asyncio.gather(
        *(texter.text(PHONE, guess) for texter, guess in zip(texters, wrong, strict=True))
    )
    await other.text(PHONE, code)
    (stored,) = await database.read(conversations.find, PHONE)
    limits = await database.read(phone_limits.read, PHONE)
    assert stored.conversation.state is State.LOCKED
    assert (await person_of(database, PHONE)).verified_at is None
    assert (limits.locks, limits.wrong_guesses) == (1, 0)
    assert await database.read(guesses_of_all_tokens) == [TRIES]
    await wait_until_drained(database)
    sent = [text.text for text in carriers[0].texts]
    assert sum("Too many wrong codes" in text for text in sent) == 1


async def test_guesses_typed_in_parallel_at_two_processes_cost_the_person_nothing(
    database_url: URL,
    database: Database,
    carriers: list[SimulatedTelnyx],
    processes: Processes,
) -> None:
    one, other = await serve_twice(carriers, processes, database_url)
    key = await make_key(database, SystemClock())
    async with app_with(url_of(one), key) as here, app_with(url_of(other), key) as there:
        begun = await here.begin(to=PHONE)
        code = await one.code_of(PHONE)
        wrong = [f"{number:06}" for number in range(GUESSES + 1) if f"{number:06}" != code]
        apps = [here, there] * (GUESSES // 2)
        results = await asyncio.gather(
            *(type_code(app, begun["id"], guess) for app, guess in zip(apps, wrong, strict=False))
        )
        assert Counter(results) == {"wrong": TRIES, "not_pending": GUESSES - TRIES}
        assert await type_code(there, begun["id"], code) == "not_pending"
        ended = (await there.get(f"verifications/{begun['id']}")).body
        assert (ended["status"], ended["reason"]) == ("failed", "too_many_guesses")
    assert await database.read(guesses_of_all_tokens) == [TRIES]
    (elsewhere,) = (await database.read(phone_limits.read_channels, [PHONE])).values()
    assert (elsewhere.locks, elsewhere.wrong_guesses, elsewhere.failures) == (1, 0, TRIES)
    # The person still has all tries by text, and gets a code of their own.
    by_text = await database.read(phone_limits.read, PHONE)
    assert (by_text.locks, by_text.wrong_guesses, by_text.code_times) == (0, 0, ())
    await other.text(PHONE, "VERIFY")
    await wait_until(lambda: len(codes_to(carriers[0], PHONE)) > 1)
    await one.text(PHONE, codes_to(carriers[0], PHONE)[-1])
    (stored,) = await database.read(conversations.find, PHONE)
    assert stored.conversation.state is State.VERIFIED


def url_of(texter: PersistentTexter) -> str:
    return texter.telnyx.webhook_url.removesuffix(WEBHOOK_PATH)


async def type_code(app: App, name: str, code: str) -> str:
    """Type a code until the bot answers; return the result."""
    answer = await post_until_answered(
        app, f"verifications/{name}/check", {"code": code}, once=code
    )
    if answer.status == 200:
        return "right" if answer.body["valid"] else "wrong"
    return str(answer.body["code"])


async def test_two_workers_and_two_web_processes_text_each_person_once(
    database_url: URL,
    database: Database,
    carriers: list[SimulatedTelnyx],
    processes: Processes,
) -> None:
    one, other = await serve_twice(carriers, processes, database_url, "--web-only")
    workers = environment(database_url, carriers[0])
    for _ in range(2):
        await processes.start("work", env=workers)
    texters = [one, other] * (len(PHONES) // 2)
    await asyncio.gather(
        *(texter.text(phone, "VERIFY") for texter, phone in zip(texters, PHONES, strict=True))
    )
    await wait_until(lambda: len(carriers[0].texts) >= len(PHONES))
    codes = {phone: await one.code_of(phone) for phone in PHONES}
    await asyncio.gather(
        *(
            texter.text(phone, codes[phone])
            for texter, phone in zip(reversed(texters), PHONES, strict=True)
        )
    )
    await wait_until_drained(database)
    one.accepted += other.accepted
    await check(database, one)


def guesses_of_all_tokens(connection: Connection) -> list[int]:
    return list(connection.scalars(select(TokenRow.__table__.c.guesses)))
