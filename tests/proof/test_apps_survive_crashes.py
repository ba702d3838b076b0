"""Apps ask, people answer and an app is told, while the process dies: nothing lost or doubled.

The API is called and events are received outside of the process that dies, by its addresses alone:
what is believed is what the public library of Standard Webhooks verifies.
"""

from __future__ import annotations

import asyncio
import itertools
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from bot.services.clock import SystemClock
from bot.simulator.telnyx.server import SimulatedTelnyx
from bot.store import phone_limits
from bot.web.app import WEBHOOK_PATH
from tests.kit.apps import App, app_with, make_key, persist
from tests.kit.crash_points import EVENT_POINTS, POINTS, run_until_struck
from tests.kit.event_receiver import EVENTS_SECRET, EventReceiver
from tests.kit.persistent_texter import PersistentTexter, codes_to, drained, free_port
from tests.kit.processes import BotProcess, Processes, environment
from tests.kit.seeds import seeded, soak_rounds
from tests.kit.timeouts import slow_database, wait_until

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator
    from pathlib import Path

    from sqlalchemy import URL

    from tests.conftest import MakeDatabase

TYPES, REPLIES, TEXTS_FIRST = (f"+1312555{number:04}" for number in range(3))
"""Phones of three people: by the code's way back, and one who begins with a reference."""
TOLD = ["pending", "sent", "delivered", "verified"]
"""What an app is told of a verification that turns out well, in order."""
CRASHES = (
    *("before the inbox commits", "after the inbox has committed", "before settling"),
    *("event answered", "before settling an event", None),
)
"""Points at which a process dies in the short programme; None is any moment."""


@asynccontextmanager
async def world() -> AsyncIterator[tuple[SimulatedTelnyx, EventReceiver]]:
    """Be a Telnyx that calls one door however often it is opened anew, and an app that listens."""
    async with (
        SimulatedTelnyx(SystemClock()).running() as telnyx,
        EventReceiver().listening() as told,
    ):
        telnyx.webhook_url = f"http://127.0.0.1:{free_port()}{WEBHOOK_PATH}"
        yield telnyx, told


@pytest.mark.parametrize(
    ("make_database", "point"),
    list(zip(itertools.cycle(["sqlite", "postgresql"]), CRASHES, strict=False)),
    indirect=["make_database"],
)
async def test_a_crash_loses_and_doubles_nothing_of_what_apps_ask_and_are_told(
    point: str | None, database_url: URL, processes: Processes
) -> None:
    with seeded(f"apps, {point}") as chance:
        await crash(point, database_url, processes, chance)


@pytest.mark.soak
async def test_hundreds_of_crashes_lose_and_double_nothing_of_what_apps_ask(
    make_database: MakeDatabase, folder: Path, request: pytest.FixtureRequest
) -> None:
    """Half of them at the named points, half at random."""
    named = list(POINTS | EVENT_POINTS)
    for number, chance in soak_rounds(request.node.name, 200):
        point = named[number // 2 % len(named)] if number % 2 else None
        async with Processes(folder) as processes:
            await crash(point, make_database(), processes, chance)


async def crash(point: str | None, url: URL, processes: Processes, chance: random.Random) -> None:
    """Have three people proven to an app while the process dies once, and check."""
    nth = 0 if point is None else chance.randint(1, 3)
    database = slow_database(url)
    try:
        key = await make_key(database, SystemClock())
        async with world() as (telnyx, receiver):
            door = telnyx.webhook_url.removesuffix(WEBHOOK_PATH)
            env = telling(url, telnyx, receiver)
            bot = await serve(processes, env, point, nth)
            if point is None:
                await bot.ready()
            async with app_with(door, key) as app:
                proving = asyncio.gather(*prove_all(app, PersistentTexter(telnyx)))
                if point is None:
                    await asyncio.sleep(chance.uniform(0, 0.3))
                    bot.send(signal.SIGKILL)
                ended = await bot.end()
                assert ended.code == -9, ended.err
                again = await serve(processes, env, point, 0)
                proven = dict(await proving)
                await drained(database)
                await again.ready()
                await wait_until(lambda: told_of(receiver, "verified") == proven.keys())
                shown = (await app.get("verifications")).body["data"]
        check(receiver, telnyx, proven, shown)
        for phone in proven.values():
            by_text = await database.read(phone_limits.read, phone)
            by_others = await database.read(phone_limits.read, phone, phone_limits.WEB_LIMITS)
            # Each wrong guess was counted once, and taken back by the right one.
            assert (by_text.wrong_guesses, by_others.wrong_guesses) == (0, 0)
            assert len(by_text.code_times) + len(by_others.code_times) == 1
    finally:
        await database.close()


def telling(url: URL, telnyx: SimulatedTelnyx, receiver: EventReceiver) -> dict[str, str]:
    """Make the settings of a bot that has this door, and tells this app of events."""
    return environment(
        url,
        telnyx,
        PORT=telnyx.webhook_url.split(":")[2].partition("/")[0],
        EVENTS_URL=receiver.url,
        EVENTS_SECRET=EVENTS_SECRET,
        EVENTS_TO_PRIVATE="on",
    )


async def serve(
    processes: Processes, env: dict[str, str], point: str | None, nth: int
) -> BotProcess:
    arguments = (point or "after settling", str(nth), "serve")
    return await processes.start(*arguments, env=env, main=run_until_struck)


def prove_all(app: App, texter: PersistentTexter) -> list[Any]:
    return [types(app, texter), replies(app, texter), texts_first(app, texter)]


async def types(app: App, texter: PersistentTexter) -> tuple[str, str]:
    """Type a wrong code into the app, then the right one."""
    name = await begun(app, {"to": TYPES})
    code = await texter.code_of(TYPES)
    wrong = await persist(app, f"verifications/{name}/check", {"code": other(code)}, once="wrong")
    assert (wrong.status, wrong.body["valid"], wrong.body["tries_left"]) == (200, False, 4)
    right = await persist(app, f"verifications/{name}/check", {"code": code}, once="right")
    assert (right.status, right.body["valid"]) == (200, True)
    return name, TYPES


async def replies(app: App, texter: PersistentTexter) -> tuple[str, str]:
    """Reply to the text."""
    name = await begun(app, {"to": REPLIES})
    await texter.say(REPLIES, await texter.code_of(REPLIES))
    return name, REPLIES


async def texts_first(app: App, texter: PersistentTexter) -> tuple[str, str]:
    """Text the reference that the app shows, and the code that comes."""
    answer = await persist(app, "verifications", {}, once="a-reference")
    assert answer.status == 201
    await texter.say(TEXTS_FIRST, f"VERIFY {answer.body['reference']}")
    await texter.say(TEXTS_FIRST, await texter.code_of(TEXTS_FIRST))
    return answer.body["id"], TEXTS_FIRST


async def begun(app: App, body: dict[str, str]) -> str:
    answer = await persist(app, "verifications", body, once=body["to"])
    assert answer.status == 201
    return str(answer.body["id"])


def other(code: str) -> str:
    return code[:-1] + str((int(code[-1]) + 1) % 10)


def told_of(receiver: EventReceiver, what: str) -> set[str]:
    return {
        heard.event["data"]["id"]
        for heard in receiver.heard
        if heard.event["type"] == f"verification.{what}"
    }


def check(
    receiver: EventReceiver, telnyx: SimulatedTelnyx, proven: dict[str, str], shown: list[Any]
) -> None:
    """Check what must hold: `proven` are the phones by verification, `shown` what the API lists."""
    assert {it["id"]: (it["to"], it["status"]) for it in shown} == {
        name: (phone, "verified") for name, phone in proven.items()
    }
    codes = {phone: len(codes_to(telnyx, phone)) for phone in proven.values()}
    assert codes == dict.fromkeys(proven.values(), 1)
    assert receiver.refused == []
    bodies: dict[str, set[bytes]] = {}
    for heard in receiver.heard:
        bodies.setdefault(heard.name, set()).add(heard.body)
    assert [name for name, said in bodies.items() if len(said) != 1] == []
    for name, phone in proven.items():
        events = {h.name: h.event for h in receiver.heard if h.event["data"]["id"] == name}
        told = [event["type"].removeprefix("verification.") for event in events.values()]
        # Each once, in order; what a text met after the end is told no more.
        assert told == [what for what in TOLD if what in told]
        assert (told[0], told[-1]) == ("pending", "verified")
        assert list(events.values())[-1]["data"]["to"] == phone
