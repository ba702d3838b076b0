from __future__ import annotations

import asyncio
import re
import socket
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from sqlalchemy import text as sql
from sqlalchemy.engine import URL, make_url

from bot.cli.main import main
from bot.conversation import channels
from bot.conversation.state import ChannelLimits, Closing, PhoneLimits, State
from bot.conversation.verification import Origin, Status
from bot.services.clock import SystemClock
from bot.services.status import overview
from bot.services.verifications import VerificationRequest
from bot.simulator.clock import TravelClock
from bot.simulator.sandbox import BOT_NUMBER, PHONE
from bot.store import phone_limits
from bot.store.queues import app_events
from bot.store.tables import OutboxState
from tests.cli.helpers import (
    MOMENT,
    PASSWORD,
    WRONG_SETTINGS,
    assert_refused,
    code_in,
    on_postgresql,
    on_sqlite,
    opened,
    other_than,
    run_all,
)
from tests.kit.settings import as_written, environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from click.testing import Result
    from sqlalchemy import Connection

    from bot.store.engine.database import Database
    from tests.conftest import MakeSandbox
    from tests.kit.processes import Processes


@contextmanager
def port_without_a_server() -> Iterator[int]:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


async def test_unlock_lifts_the_locks_of_a_phone_and_names_what_it_opens(
    database_url: URL, processes: Processes
) -> None:
    until = SystemClock().now() + timedelta(days=3)
    locked = PhoneLimits(
        locks=3, failures=7, locked_until=until, closed=(Closing(channels.TEXT, until),)
    )
    async with opened(database_url) as database:
        await database.write(phone_limits.save, {PHONE: locked})
        await database.write(
            phone_limits.save_channels, {(PHONE, channels.FORM): ChannelLimits(failures=5)}
        )
    env = {"DATABASE_URL": as_written(database_url)}
    unlocked = await processes.run("unlock", PHONE, env=env)
    assert unlocked.out.strip() == f"{PHONE} is no longer locked. Opened: text."
    async with opened(database_url) as database:
        limits = await database.read(phone_limits.read, PHONE)
        assert not limits.locked_at(SystemClock().now())
        assert (limits.locks, limits.failures, limits.closed) == (0, 0, ())
        (of_form,) = (await database.read(phone_limits.read_channels, [PHONE])).values()
        assert of_form == ChannelLimits()
        # Without EVENTS_URL there is no app to hear of it.
        assert await database.read(app_events.counts) == {}
    assert_refused(await processes.run("unlock", "12", env=env), "PHONE")


async def test_commands_that_need_only_the_database_read_no_other_settings(
    folder: Path, processes: Processes
) -> None:
    (folder / ".env").write_text("DATABASE_URL=sqlite+aiosqlite:///from-dotenv.db\n")
    assert (await processes.run("migrate")).code == 0
    assert [file.name for file in folder.glob("*.db")] == ["from-dotenv.db"]
    assert_refused(
        await processes.run("status", env=WRONG_SETTINGS), "DATABASE_URL", "LOG_FORMAT", code=2
    )


@on_postgresql
async def test_an_old_schema_on_postgresql_is_refused_until_migrated_from_any_folder(
    empty_database_url: URL, processes: Processes
) -> None:
    env = environment(empty_database_url)
    for ended in await run_all(processes, ("serve", "work"), env):
        assert_refused(ended, "bot: the database does not have this version's schema")
        assert ended.err.endswith("; run: bot migrate\n")
    for _ in range(2):
        ended = await processes.run("migrate", env=env)
        assert (ended.code, ended.err) == (0, "")
        assert ended.out.startswith("The database has the newest schema: ")
        assert PASSWORD not in ended.out
    bot = await processes.start("serve", "--web-only", env=env)
    await bot.ready()


async def test_processes_that_migrate_at_once_all_succeed(
    empty_database_url: URL, processes: Processes
) -> None:
    env = environment(empty_database_url)
    ended = await run_all(processes, ("migrate", "migrate"), env)
    assert [(each.code, each.err) for each in ended] == [(0, "")] * 2


async def test_an_unreachable_postgresql_is_reported_in_one_line(
    processes: Processes,
) -> None:
    with port_without_a_server() as port:
        url = make_url(f"postgresql://user:{PASSWORD}@127.0.0.1:{port}/bot")
        for ended in await run_all(processes, ("serve", "migrate", "status"), environment(url)):
            assert_refused(ended, "bot: nothing listens at the host and port of DATABASE_URL")


@pytest.mark.parametrize("file", ["no such folder/bot.db", "."])
async def test_a_sqlite_file_that_cannot_be_opened_is_reported_in_one_line(
    file: str, folder: Path, processes: Processes
) -> None:
    url = make_url(f"sqlite+aiosqlite:///{folder / file}")
    for ended in await run_all(processes, ("serve", "migrate", "status"), environment(url)):
        assert_refused(ended, "bot: ", "DATABASE_URL")


async def test_status_does_not_create_a_database(folder: Path, processes: Processes) -> None:
    assert_refused(await processes.run("status"), "bot: there is no database bot.db")
    assert list(folder.iterdir()) == []


@on_sqlite
async def test_a_schema_newer_than_this_version_is_reported_in_one_line(
    database_url: URL, processes: Processes
) -> None:
    async with opened(database_url) as database:
        await database.write(rename_version)
    for ended in await run_all(processes, ("serve", "migrate"), environment(database_url)):
        assert_refused(ended, "bot: a newer version")


def rename_version(connection: Connection) -> None:
    connection.execute(sql("UPDATE alembic_version SET version_num = 'from the future'"))


async def test_status_counts_conversations_and_texts_and_shows_since_when_a_phone_is_verified(
    make_sandbox: MakeSandbox, database_url: URL, processes: Processes
) -> None:
    sandbox = await make_sandbox(clock=TravelClock())
    (sent,) = await sandbox.text(PHONE, "VERIFY")
    await sandbox.text(PHONE, code_in(sent.text))
    await sandbox.text("+13125550002", "VERIFY")
    env = {"DATABASE_URL": as_written(database_url)}
    of_all, of_phone = await asyncio.gather(
        processes.run("status", env=env), processes.run("status", PHONE, env=env)
    )
    assert (of_all.code, of_all.err, of_phone.code, of_phone.err) == (0, "", 0, "")
    assert "people:\n  verified               1\n  opted out              0\n" in of_all.out
    of_people, of_apps = of_all.out.split("verifications that apps requested:\n")
    assert re.findall(r"^  (\w+) +(\d+)$", of_apps, re.MULTILINE) == [(one, "0") for one in Status]
    of_people = of_people.partition("conversations:\n")[2]
    counts = re.findall(r"^  (\w+) +(\d+)$", of_people, re.MULTILINE)
    assert {state: int(count) for state, count in counts if count != "0"} == {
        "awaiting_code": 1,
        "verified": 1,
        "delivered": 3,
    }
    assert len(counts) == len(State) + len(OutboxState)
    assert re.fullmatch(
        rf"{re.escape(PHONE)}\n"
        rf"  verified   since {MOMENT}\n\n"
        rf"{re.escape(PHONE)} with {re.escape(BOT_NUMBER)}\n"
        r"  state      verified\n"
        rf"  last text  success, delivered, {MOMENT}\n",
        of_phone.out,
    )


async def test_status_shows_the_verifications_of_apps(
    make_sandbox: MakeSandbox, database_url: URL
) -> None:
    clock = TravelClock()
    sandbox = await make_sandbox(clock=clock)
    apps = sandbox.bot.verifications
    assert apps is not None
    await apps.begin(VerificationRequest(Origin.REFERENCE))
    await apps.begin(VerificationRequest(Origin.APP, PHONE))
    await sandbox.text(PHONE, "NOT ME")
    clock.travel(timedelta(minutes=20))
    await apps.begin(VerificationRequest(Origin.APP, "+13125550002"))
    shown = await sandbox.bot.database.read(overview, clock.now())
    counts = re.findall(r"^  (\w+) +([1-9]\d*)$", shown.partition("requested:\n")[2], re.MULTILINE)
    assert counts == [("pending", "1"), ("failed", "1"), ("expired", "1")]
    assert "events to your app" not in shown
    of_phone = (await asyncio.to_thread(status, PHONE, database_url)).stdout
    assert re.search(
        rf"^  NOT ME     no codes for apps until {MOMENT}, the web form until {MOMENT}$",
        of_phone,
        re.MULTILINE,
    )
    heading, line = of_phone.splitlines()[-2:]
    assert heading == "requested by apps, the latest first:"
    assert re.fullmatch(rf"  \w{{32}}  failed \(not_me\), app, {MOMENT}", line)


@on_sqlite
async def test_status_shows_that_app_events_were_not_delivered(
    make_sandbox: MakeSandbox, database: Database
) -> None:
    await make_sandbox()
    await database.write(app_events.disable, "https://app.example.com", SystemClock().now())
    shown = await database.read(overview, SystemClock().now())
    assert "\nevents to your app: 0 given up, or paused; see: bot events\n" in f"{shown}\n"


@on_sqlite
async def test_status_shows_a_pending_or_expired_code_a_lock_and_an_opt_out(
    make_sandbox: MakeSandbox, database_url: URL
) -> None:
    clock = TravelClock()
    sandbox = await make_sandbox(clock=clock, token_attempts=1)
    waiting, expired, locked, once_locked, out = (f"+1312555000{last}" for last in range(1, 6))
    clock.travel(-timedelta(minutes=20))
    await sandbox.text(expired, "VERIFY")
    (sent,) = await sandbox.text(once_locked, "VERIFY")
    await sandbox.text(once_locked, other_than(code_in(sent.text)))
    clock.travel(timedelta(minutes=20))
    await sandbox.text(waiting, "VERIFY")
    (sent,) = await sandbox.text(locked, "VERIFY")
    await sandbox.text(locked, other_than(code_in(sent.text)))
    await sandbox.text(out, "STOP")
    never = r"\n  last text  "
    for phone, expected in {
        waiting: rf"awaiting_code{never}code, delivered, ",
        expired: rf"awaiting_code \(the code has expired\){never}code, delivered, ",
        locked: rf"locked \(locked until {MOMENT}\){never}locked, delivered, ",
        once_locked: rf"locked \(the lock has ended\){never}locked, delivered, ",
        out: rf"opted_out{never}none$",
    }.items():
        shown = await asyncio.to_thread(status, phone, database_url)
        assert re.search(rf"^  state      {expected}", shown.stdout, re.MULTILINE), shown.stdout
        assert "\n  verified   never\n" in shown.stdout
        assert ("\n  opted out  since " in shown.stdout) is (phone == out)


async def test_status_finds_a_phone_in_either_spelling(
    make_sandbox: MakeSandbox, database_url: URL
) -> None:
    sandbox = await make_sandbox(clock=TravelClock())
    await sandbox.text("+5215512345678", "VERIFY")
    of_one, of_other = [
        await asyncio.to_thread(status, phone, database_url)
        for phone in ("+5215512345678", "+525512345678")
    ]
    assert of_one.stdout == of_other.stdout
    first, second, *_ = of_one.stdout.split("\n\n")[1].splitlines()
    assert first == f"+525512345678 with {BOT_NUMBER}"
    assert second == "  texts to   +5215512345678"


@pytest.mark.parametrize(
    ("written", "country_code", "read"),
    [
        (PHONE, "+1", PHONE),
        ("(312) 555-0001", "+1", PHONE),
        ("07400 123456", "+44", "+447400123456"),
    ],
)
@on_sqlite
def test_status_reads_a_number_as_people_write_one(
    written: str, country_code: str, read: str, database_url: URL
) -> None:
    shown = status(written, database_url, country_code)
    assert (shown.exit_code, shown.stdout) == (0, f"{read} has never texted this bot\n")


@pytest.mark.parametrize("written", ["12", "+1312555000111", "somebody", "+999 555 0001"])
@on_sqlite
def test_status_of_an_invalid_number_says_how_to_write_one(written: str, database_url: URL) -> None:
    shown = status(written, database_url)
    assert (shown.exit_code, shown.stdout) == (1, "")
    assert shown.stderr.startswith("bot: PHONE: ")
    assert shown.stderr.endswith("; write it like +13125550001\n")


def status(phone: str, url: URL, country_code: str = "+1") -> Result:
    """Run `bot status PHONE` in this process, which is quick."""
    env = {"DATABASE_URL": as_written(url), "COUNTRY_CODE": country_code}
    return CliRunner().invoke(main, ["status", phone], env=env)
