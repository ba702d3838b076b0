"""Apps call the API and receive events while the process dies: nothing is lost or doubled.

The app is outside of the process that dies, and verifies events with the library of Standard
Webhooks.
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
from tests.kit.apps import App, app_with, make_key, post_until_answered
from tests.kit.crash_points import EVENT_POINTS, POINTS, run_until_crash
from tests.kit.event_receiver import EVENTS_SECRET, EventReceiver
from tests.kit.persistent_texter import PersistentTexter, codes_to, wait_until_drained
from tests.kit.ports import free_port
from tests.kit.processes import BotProcess, Processes
from tests.kit.seeds import seeded, soak_rounds
from tests.kit.settings import environment
from tests.kit.stored import other_than
from tests.kit.timeouts import slow_database, wait_until

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator
    from pathlib import Path

    from sqlalchemy import URL

    from tests.conftest import MakeDatabase

TYPES, REPLIES, TEXTS_FIRST = (f"+1312555{number:04}" for number in range(3))
"""Phones of three people: one types the code, one replies with it, one texts a reference first."""
EVENT_ORDER = ["pending", "sent", "delivered", "verified"]
"""The app events of a successful verification, in order."""
CRASHES = (
    *("before the inbox commits", "after the inbox has committed", "before settling"),
    *("event answered", "before settling an event", None),
)
"""Points at which a process dies in the short programme; None is any moment."""


@asynccontextmanager
async def telnyx_and_app() -> AsyncIterator[tuple[SimulatedTelnyx, EventReceiver]]:
    """Run a Telnyx with a webhook address that outlives the process, and an app."""
    async with (
        SimulatedTelnyx(SystemClock()).running() as telnyx,
        EventReceiver().running() as receiver,
    ):
        telnyx.webhook_url = f"http://127.0.0.1:{free_port()}{WEBHOOK_PATH}"
        yield telnyx, receiver


@pytest.mark.parametrize(
    ("make_database", "point"),
    list(zip(itertools.cycle(["sqlite", "postgresql"]), CRASHES, strict=False)),
    indirect=["make_database"],
)
async def test_a_crash_loses_and_duplicates_no_request_and_no_event_of_apps(
    point: str | None, database_url: URL, processes: Processes
) -> None:
    with seeded(f"apps, {point}") as rng:
        await crash(point, database_url, processes, rng)


@pytest.mark.soak
async def test_hundreds_of_crashes_lose_and_duplicate_no_request_and_no_event_of_apps(
    make_database: MakeDatabase, folder: Path, request: pytest.FixtureRequest
) -> None:
    """Half of the crashes are at the named points, half at random."""
    named = list(POINTS | EVENT_POINTS)
    for number, rng in soak_rounds(request.node.name, 200):
        point = named[number // 2 % len(named)] if number % 2 else None
        async with Processes(folder) as processes:
            await crash(point, make_database(), processes, rng)


async def crash(point: str | None, url: URL, processes: Processes, rng: random.Random) -> None:
    """Verify three people for an app while the process dies once, and check."""
    nth = 0 if point is None else rng.randint(1, 3)
    database = slow_database(url)
    try:
        key = await make_key(database, SystemClock())
        async with telnyx_and_app() as (telnyx, receiver):
            url_of_bot = telnyx.webhook_url.removesuffix(WEBHOOK_PATH)
            env = event_environment(url, telnyx, receiver)
            bot = await serve(processes, env, point, nth)
            if point is None:
                await bot.ready()
            async with app_with(url_of_bot, key) as app:
                verifying = asyncio.gather(*verify_all(app, PersistentTexter(telnyx)))
                if point is None:
                    await asyncio.sleep(rng.uniform(0, 0.3))
                    bot.send(signal.SIGKILL)
                ended = await bot.end()
                assert ended.code == -9, ended.err
                again = await serve(processes, env, point, 0)
                verified = dict(await verifying)
                await wait_until_drained(database)
                await again.ready()
                await wait_until(lambda: ids_of_events(receiver, "verified") == verified.keys())
                shown = (await app.get("verifications")).body["data"]
        check(receiver, telnyx, verified, shown)
        for phone in verified.values():
            by_text = await database.read(phone_limits.read, phone)
            elsewhere = await database.read(phone_limits.read_channels, [phone])
            # Each wrong guess was counted once, and taken back by the right one.
            wrong = [each.wrong_guesses for each in (by_text, *elsewhere.values())]
            assert not any(wrong)
            assert len(by_text.code_times) + len(by_text.key_code_times) == 1
    finally:
        await database.close()


def event_environment(url: URL, telnyx: SimulatedTelnyx, receiver: EventReceiver) -> dict[str, str]:
    """Return the environment of a bot at the webhook address that sends events to this app."""
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
    return await processes.start(*arguments, env=env, main=run_until_crash)


def verify_all(app: App, texter: PersistentTexter) -> list[Any]:
    return [type_code(app, texter), reply(app, texter), text_first(app, texter)]


async def type_code(app: App, texter: PersistentTexter) -> tuple[str, str]:
    """Type a wrong code into the app, then the right one."""
    name = await begin(app, {"to": TYPES})
    code = await texter.code_of(TYPES)
    wrong = await post_until_answered(
        app, f"verifications/{name}/check", {"code": other_than(code)}, once="wrong"
    )
    assert (wrong.status, wrong.body["valid"], wrong.body["tries_left"]) == (200, False, 4)
    right = await post_until_answered(
        app, f"verifications/{name}/check", {"code": code}, once="right"
    )
    assert (right.status, right.body["valid"]) == (200, True)
    return name, TYPES


async def reply(app: App, texter: PersistentTexter) -> tuple[str, str]:
    """Reply to the text with the code and the letters that the app shows."""
    body = {"to": REPLIES, "complete": "reply"}
    answer = await post_until_answered(app, "verifications", body, once=REPLIES)
    assert answer.status == 201
    await texter.text(REPLIES, f"{await texter.code_of(REPLIES)} {answer.body['reply_with']}")
    return answer.body["id"], REPLIES


async def text_first(app: App, texter: PersistentTexter) -> tuple[str, str]:
    """Text the reference that the app shows, and then the code."""
    answer = await post_until_answered(app, "verifications", {}, once="a-reference")
    assert answer.status == 201
    await texter.text(TEXTS_FIRST, f"VERIFY {answer.body['reference']}")
    await texter.text(TEXTS_FIRST, await texter.code_of(TEXTS_FIRST))
    return answer.body["id"], TEXTS_FIRST


async def begin(app: App, body: dict[str, str]) -> str:
    answer = await post_until_answered(app, "verifications", body, once=body["to"])
    assert answer.status == 201
    return str(answer.body["id"])


def ids_of_events(receiver: EventReceiver, event_type: str) -> set[str]:
    return {
        received.event["data"]["id"]
        for received in receiver.received
        if received.event["type"] == f"verification.{event_type}"
    }


def check(
    receiver: EventReceiver, telnyx: SimulatedTelnyx, verified: dict[str, str], shown: list[Any]
) -> None:
    """Check the results: `verified` has the phones by verification, `shown` is the API's list."""
    assert {it["id"]: (it["to"], it["status"]) for it in shown} == {
        name: (phone, "verified") for name, phone in verified.items()
    }
    codes = {phone: len(codes_to(telnyx, phone)) for phone in verified.values()}
    assert codes == dict.fromkeys(verified.values(), 1)
    assert receiver.refused == []
    bodies: dict[str, set[bytes]] = {}
    for received in receiver.received:
        bodies.setdefault(received.id, set()).add(received.body)
    assert [event_id for event_id, sent in bodies.items() if len(sent) != 1] == []
    for name, phone in verified.items():
        events = {it.id: it.event for it in receiver.received if it.event["data"]["id"] == name}
        types = [event["type"].removeprefix("verification.") for event in events.values()]
        # Each once, in order; no event follows the end.
        assert types == [event_type for event_type in EVENT_ORDER if event_type in types]
        assert (types[0], types[-1]) == ("pending", "verified")
        assert list(events.values())[-1]["data"]["to"] == phone
