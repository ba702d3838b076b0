from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from bot.simulator.clock import NOON
from bot.store.queues import app_events
from bot.store.queues.app_events import NewAppEvent
from bot.store.tables import AppEventState
from tests.kit.samples import PHONE
from tests.kit.settings import environment

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import URL

    from bot.store.engine.database import Database
    from tests.kit.processes import Ended, Processes

VERIFICATION = "0123456789abcdef0123456789abcdef"
URL_WITH_A_SECRET = "https://app.example/textproof?token=hunter2"


async def give_up(database: Database) -> list[str]:
    """Store two events that were given up and one that waits; return the ids of the two."""
    drafts = [
        NewAppEvent(PHONE, "number.opted_out", "{}"),
        NewAppEvent(VERIFICATION, "verification.verified", "{}"),
    ]
    await database.write(app_events.add, drafts, NOON)
    given_up = await database.write(app_events.claim, URL_WITH_A_SECRET, 2, NOON)
    for claimed, fault in zip(given_up, ("HTTP 500", "address refused"), strict=True):
        await database.write(app_events.settle_dead, claimed, fault)
    await database.write(app_events.add, [NewAppEvent("waits", "verification.sent", "{}")], NOON)
    return [claimed.public_id for claimed in given_up]


async def run(processes: Processes, url: URL, *arguments: str) -> Ended:
    """Run `bot events …` with no setting but the database."""
    env = {"DATABASE_URL": environment(url)["DATABASE_URL"]}
    ended = await processes.run("events", *arguments, env=env)
    assert "Traceback" not in ended.err, ended.err
    return ended


def assert_refused(ended: Ended, *expected: str) -> None:
    assert (ended.code, ended.out) == (1, "")
    for part in expected:
        assert part in ended.err


@pytest.mark.parametrize("arguments", [[], ["list"]])
async def test_events_are_counted_and_those_given_up_are_named(
    arguments: list[str], database: Database, database_url: URL, processes: Processes
) -> None:
    first, second = await give_up(database)
    ended = await run(processes, database_url, *arguments)
    assert (ended.code, ended.err) == (0, "")
    assert [line.split() for line in ended.out.splitlines()[:4]] == [
        ["events:"],
        ["queued", "1"],
        ["delivered", "0"],
        ["dead", "2"],
    ]
    assert ended.out.index(second) < ended.out.index(first)
    assert f"{first}  number.opted_out of …{PHONE[-4:]}, 2026-01-15 12:00:00 UTC" in ended.out
    assert f"verification.verified of {VERIFICATION}" in ended.out
    assert "HTTP 500: look into your app's log" in ended.out
    assert "address refused: set EVENTS_TO_PRIVATE=on" in ended.out
    assert "bot events replay" in ended.out
    assert "paused" not in ended.out
    assert PHONE[1:] not in ended.out


async def test_without_events_given_up_no_replay_is_suggested(
    database_url: URL, processes: Processes
) -> None:
    ended = await run(processes, database_url)
    assert (ended.code, re.findall(r"\d+", ended.out)) == (0, ["0", "0", "0"])
    assert "replay" not in ended.out


async def test_an_event_that_was_given_up_can_be_queued_again(
    database: Database, database_url: URL, processes: Processes
) -> None:
    first, second = await give_up(database)
    ended = await run(processes, database_url, "replay", second)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("Queued again: 1.")
    (left,) = await database.read(app_events.list_dead, 10)
    assert left.public_id == first
    assert_refused(
        await run(processes, database_url, "replay", first, second, "msg_unknown"),
        "queued 1 of 3 again; bot events lists",
    )


async def test_all_events_that_were_given_up_can_be_queued_again(
    database: Database, database_url: URL, processes: Processes
) -> None:
    await give_up(database)
    ended = await run(processes, database_url, "replay", "--all")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("Queued again: 2.")
    assert await database.read(app_events.counts) == {AppEventState.QUEUED: 3}
    assert (await run(processes, database_url, "replay", "--all")).out.startswith(
        "Queued again: 0."
    )


@pytest.mark.parametrize("arguments", [[], ["--all", "msg_1"]])
async def test_replay_needs_ids_or_all_but_not_both(
    arguments: list[str], folder: Path, processes: Processes
) -> None:
    ended = await processes.run("events", "replay", *arguments)
    assert_refused(ended, "bot events replay ID, or --all")
    assert list(folder.iterdir()) == []


async def test_resume_sends_events_again_to_an_app_that_was_gone(
    database: Database, database_url: URL, processes: Processes
) -> None:
    await database.write(app_events.disable, URL_WITH_A_SECRET, NOON)
    assert "paused, since the app answered 410" in (await run(processes, database_url)).out
    ended = await run(processes, database_url, "resume")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("Resumed.")
    assert not await database.read(app_events.is_disabled, URL_WITH_A_SECRET)
    assert (await run(processes, database_url, "resume")).out == "Nothing was paused.\n"


@pytest.mark.parametrize("arguments", [[], ["replay", "--all"], ["resume"]])
async def test_events_does_not_create_a_database(
    arguments: list[str], folder: Path, processes: Processes
) -> None:
    ended = await processes.run("events", *arguments)
    assert_refused(ended, "there is no database bot.db yet; run: bot migrate")
    assert list(folder.iterdir()) == []
