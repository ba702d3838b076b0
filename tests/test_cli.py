from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from sqlalchemy import text as sql
from sqlalchemy.engine import URL, make_url

from bot import __version__
from bot.__main__ import main
from bot.conversation.state import State
from bot.conversation.verification import Origin, Status
from bot.services.clock import SystemClock
from bot.services.status import overview
from bot.services.verifications import VerificationRequest
from bot.settings import Settings
from bot.simulator.clock import TravelClock
from bot.simulator.sandbox import BOT_NUMBER, PHONE
from bot.simulator.telnyx import payloads
from bot.simulator.telnyx.faults import ApiFault
from bot.simulator.telnyx.journal import Author
from bot.simulator.telnyx.server import API_KEY, SimulatedTelnyx
from bot.store import api_keys, conversations
from bot.store.queues import app_events, outbox
from bot.store.tables import OutboxState
from bot.web.app import WEBHOOK_PATH
from tests.kit.persistent_texter import PersistentTexter
from tests.kit.settings import SECRET, as_written, environment
from tests.kit.timeouts import TEST_TIMEOUT, slow_database, wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator, Mapping

    from aiohttp import web
    from click.testing import Result
    from sqlalchemy import Connection

    from bot.store.engine.database import Database
    from tests.conftest import MakeDatabase, MakeSandbox
    from tests.kit.processes import BotProcess, Ended, Processes

PASSWORD = "hunter2"
CODE = re.compile(r"Textproof code: ([0-9]+)\.")
MOMENT = r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC"
SUCCESS = "Textproof: thank you, this number is verified. There is nothing more to do."
ADVICE = "add a PostgreSQL database and set DATABASE_URL"

on_postgresql = pytest.mark.parametrize("make_database", ["postgresql"], indirect=True)
on_sqlite = pytest.mark.parametrize("make_database", ["sqlite"], indirect=True)


class PatientTelnyx(SimulatedTelnyx):
    """A Telnyx whose API answers only once it is let, and which reports nothing."""

    def __init__(self) -> None:
        super().__init__(SystemClock())
        self.asked = asyncio.Event()
        self.let = asyncio.Event()

    async def _respond(self, request: web.Request, raw: bytes) -> web.Response | None:
        self.asked.set()
        await self.let.wait()
        return await super()._respond(request, raw)

    def _report(self, payload: Mapping[str, Any], text_id: int) -> None:
        pass


@pytest.fixture
async def telnyx() -> AsyncIterator[SimulatedTelnyx]:
    async with SimulatedTelnyx(SystemClock()).running() as telnyx:
        yield telnyx


@pytest.fixture
def empty_database_url(make_database: MakeDatabase) -> URL:
    return make_database(migrated=False)


async def connect(bot: BotProcess, telnyx: SimulatedTelnyx) -> None:
    telnyx.webhook_url = await bot.ready() + WEBHOOK_PATH


async def came(telnyx: SimulatedTelnyx, count: int) -> str:
    """Wait until this many texts have come to the phone in all, and return the last."""
    await wait_until(lambda: len(telnyx.texts) >= count)
    assert len(telnyx.texts) == count
    last = telnyx.texts[-1]
    assert (last.phone, last.bot_number, last.author) == (PHONE, BOT_NUMBER, Author.BOT)
    return last.text


async def text(telnyx: SimulatedTelnyx, said: str) -> str:
    """Text the bot, and return what it answers."""
    count = len(telnyx.texts) + 1
    assert await telnyx.text(PHONE, BOT_NUMBER, said) == 200
    return await came(telnyx, count)


def code_in(text: str) -> str:
    found = CODE.search(text)
    assert found, text
    return found[1]


def other_than(code: str) -> str:
    return code[:-1] + str((int(code[-1]) + 1) % 10)


@asynccontextmanager
async def opened(url: URL) -> AsyncIterator[Database]:
    database = slow_database(url)
    try:
        yield database
    finally:
        await database.close()


async def state_of_phone(url: URL) -> str:
    async with opened(url) as database:
        (known,) = await database.read(conversations.find, PHONE)
    return known.conversation.state


async def texts_by_state(url: URL) -> dict[OutboxState, int]:
    async with opened(url) as database:
        return await database.read(outbox.counts)


@contextmanager
def port_without_a_server() -> Iterator[int]:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


async def run_all(
    processes: Processes, commands: Iterable[str], env: Mapping[str, str]
) -> list[Ended]:
    """Run commands all at once, each until it has ended by itself."""
    return await asyncio.gather(*(processes.run(command, env=env) for command in commands))


def assert_refused(ended: Ended, *expected: str, code: int = 1) -> None:
    assert ended.code == code, ended.err
    assert "Traceback" not in ended.err, ended.err
    assert PASSWORD not in ended.out + ended.err
    for part in expected:
        assert part in ended.err


# A conversation with a bot that is a process.


@on_sqlite
async def test_a_signed_verify_leads_to_one_request_with_the_code_and_the_code_verifies(
    database_url: URL, telnyx: SimulatedTelnyx, processes: Processes
) -> None:
    bot = await processes.start_cold("serve", env=environment(database_url, telnyx))
    await connect(bot, telnyx)
    texter, payload = PersistentTexter(telnyx), payloads.inbound(PHONE, BOT_NUMBER, "VERIFY")
    await texter.post(payload)
    await texter.post(payload)  # Telnyx repeats itself
    code = code_in(await came(telnyx, 1))
    await texter.text(PHONE, code)
    assert await came(telnyx, 2) == SUCCESS
    assert [request.body for request in telnyx.requests] == [
        {"from": BOT_NUMBER, "to": PHONE, "text": telnyx.texts[0].text},
        {"from": BOT_NUMBER, "to": PHONE, "text": SUCCESS},
    ]
    assert code in telnyx.requests[0].body["text"]
    assert await state_of_phone(database_url) == "verified"


@on_sqlite
async def test_a_power_cut_between_verify_and_the_code_does_not_stop_a_verification(
    database_url: URL, telnyx: SimulatedTelnyx, processes: Processes
) -> None:
    env = environment(database_url, telnyx)
    first = await processes.start("serve", env=env)
    await connect(first, telnyx)
    code = code_in(await text(telnyx, "VERIFY"))
    await telnyx.wait_until_reported()
    assert (await first.kill()).code == -signal.SIGKILL

    second = await processes.start("serve", env=env)
    await connect(second, telnyx)
    assert await text(telnyx, code) == SUCCESS
    assert len(telnyx.requests) == 2


@on_postgresql
async def test_web_and_work_as_two_processes_verify_together_and_survive_a_power_cut(
    database_url: URL, telnyx: SimulatedTelnyx, processes: Processes
) -> None:
    env = environment(database_url, telnyx)
    web_process = await processes.start("serve", "--web-only", env=env)
    await connect(web_process, telnyx)
    assert await telnyx.text(PHONE, BOT_NUMBER, "VERIFY") == 200
    await web_process.kill()

    web_process = await processes.start("serve", "--web-only", env=env)
    await connect(web_process, telnyx)
    work_process = await processes.start("work", env=env)
    code = code_in(await came(telnyx, 1))
    assert await text(telnyx, code) == SUCCESS
    assert len(telnyx.requests) == 2
    async with asyncio.timeout(TEST_TIMEOUT):
        # The report may have come before the sender has noted that the text is accepted.
        while await texts_by_state(database_url) != {OutboxState.DELIVERED: 2}:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    web_process.send(signal.SIGTERM)
    work_process.send(signal.SIGTERM)
    assert [(await process.end()).code for process in (web_process, work_process)] == [0, 0]


@on_sqlite
async def test_web_only_sends_nothing_by_itself_and_says_that_it_is_ready(
    database_url: URL, telnyx: SimulatedTelnyx, processes: Processes
) -> None:
    bot = await processes.start("serve", "--web-only", env=environment(database_url, telnyx))
    await connect(bot, telnyx)
    assert await telnyx.text(PHONE, BOT_NUMBER, "VERIFY") == 200
    bot.send(signal.SIGINT)
    assert (await bot.end()).code == 0
    assert telnyx.requests == []
    assert await texts_by_state(database_url) == {OutboxState.QUEUED: 1}


# The end.


async def test_the_process_ends_when_what_is_on_its_way_has_arrived_or_has_had_its_time(
    folder: Path, processes: Processes
) -> None:
    async def told_to_stop(name: str, *, answered: bool) -> tuple[int, int, dict[OutboxState, int]]:
        url = make_url(f"sqlite+aiosqlite:///{folder / name}")
        async with PatientTelnyx().running() as telnyx:
            bot = await processes.start("serve", env=environment(url, telnyx))
            await connect(bot, telnyx)
            assert await telnyx.text(PHONE, BOT_NUMBER, "VERIFY") == 200
            await asyncio.wait_for(telnyx.asked.wait(), TEST_TIMEOUT)
            bot.send(signal.SIGTERM)
            await bot.logged("stopping")
            if answered:
                telnyx.let.set()
            ended = await bot.end()
        assert "Traceback" not in ended.err
        return ended.code, len(telnyx.texts), await texts_by_state(url)

    arrived, given_up = await asyncio.gather(
        told_to_stop("answered.db", answered=True),
        told_to_stop("unanswered.db", answered=False),
    )
    assert arrived == (0, 1, {OutboxState.ACCEPTED: 1})
    assert given_up == (0, 0, {OutboxState.QUEUED: 1})


# What never leaves: codes, numbers, secrets.


@on_sqlite
async def test_no_code_is_stored_or_logged_and_no_number_is_logged_even_when_debugging(
    database_url: URL, telnyx: SimulatedTelnyx, processes: Processes
) -> None:
    env = environment(database_url, telnyx, LOG_LEVEL="debug", TOKEN_LENGTH="10")
    bot = await processes.start("serve", env=env)
    await connect(bot, telnyx)
    code = code_in(await text(telnyx, "VERIFY"))
    assert len(code) == 10
    await text(telnyx, other_than(code))
    await text(telnyx, f"my code is {code}0")
    telnyx.faults.append(
        ApiFault(400, json.dumps(quoting_error(code)), {"Content-Type": "text/json"})
    )
    assert await telnyx.text(PHONE, BOT_NUMBER, "STATUS") == 200
    await bot.logged("text given up")
    assert await text(telnyx, code) == SUCCESS
    assert await telnyx.text(PHONE, BOT_NUMBER, code) == 200
    telnyx.webhook_url += "?code=" + code
    assert await telnyx.post(b"no JSON") == 400
    assert await telnyx.post_event("message.unheard_of", {"text": code}) == 200
    await telnyx.wait_until_reported()
    file = file_of(database_url)
    # Read while the bot is at work: its WAL would be gone afterwards.
    stored = file.read_bytes() + file.with_name(f"{file.name}-wal").read_bytes()
    ended = await bot.kill()

    assert PHONE.encode() in stored
    assert code.encode() not in stored
    assert len(bot.log) == len(ended.err.splitlines())
    assert any(line["level"] == "debug" for line in bot.log)
    for secret in (code, PHONE[1:], BOT_NUMBER[1:], PHONE[2:], API_KEY, SECRET):
        assert secret not in ended.out + ended.err


def quoting_error(code: str) -> dict[str, Any]:
    detail = f"The text '{code}' cannot be sent to {PHONE}"
    return {"errors": [{"code": "40310", "title": "Invalid 'to' address", "detail": detail}]}


def file_of(url: URL) -> Path:
    assert url.database is not None
    return Path(url.database)


# Settings.

_WRONG = {
    "TELNYX_API_KEY": "",
    "TELNYX_PUBLIC_KEY": f"{PASSWORD}==",
    "TELNYX_BASE_URL": f"ftp://user:{PASSWORD}@127.0.0.1",
    "FROM_NUMBER": "555-0100",
    "SECRET_KEY": PASSWORD,
    "DATABASE_URL": f"mysql://user:{PASSWORD}@127.0.0.1/bot",
    "PORT": "http",
    "COUNTRY_CODE": "+999",
    "TOKEN_LENGTH": "65",
    "TOKEN_ALPHABET": "klingon",
    "TOKEN_TTL": "0",
    "TOKEN_ATTEMPTS": "0",
    "RESEND_COOLDOWN": "-1",
    "CODES_PER_HOUR": "0",
    "CODES_PER_DAY": "many",
    "APP_NAME": "An emoji costs more 💸",
    "SUPPORT_CONTACT": "x" * 41,
    "SEND_RATE_ACCOUNT": "-1",
    "SEND_RATE_PER_NUMBER": "-1",
    "TEST_NUMBERS": "+15005550006",
    "PUBLIC_URL": f"https://user:{PASSWORD}@127.0.0.1",
    "WEB_FORM": "perhaps",
    "WEB_CODES_PER_DAY": "-1",
    "ALLOWED_COUNTRIES": "Atlantis",
    "TRUSTED_PROXIES": "proxy",
    "EVENTS_URL": f"ftp://user:{PASSWORD}@127.0.0.1",
    "EVENTS_SECRET": f"whsec_{PASSWORD}",
    "EVENTS_TO_PRIVATE": "maybe",
    "LOG_LEVEL": "loud",
    "LOG_FORMAT": "xml",
}
_NEVER_WRONG = {"HOST"}


async def test_all_settings_that_are_wrong_are_told_at_once_and_no_secret_with_them(
    processes: Processes,
) -> None:
    assert _WRONG.keys() | _NEVER_WRONG == {name.upper() for name in Settings.model_fields}
    ended = await processes.run("serve", env=_WRONG)
    assert_refused(ended, code=2)
    lines = [line for line in ended.err.splitlines() if "expected" in line]
    assert sorted(line.split()[0] for line in lines) == sorted(_WRONG)
    assert "TELNYX_API_KEY is missing; expected an API key from the Telnyx portal" in lines
    assert "TOKEN_TTL is wrong; expected 1 to 3600 seconds" in lines


async def test_commands_that_need_the_database_alone_ask_for_no_more(
    folder: Path, processes: Processes
) -> None:
    (folder / ".env").write_text("DATABASE_URL=sqlite+aiosqlite:///from-dotenv.db\n")
    assert (await processes.run("migrate")).code == 0
    assert [file.name for file in folder.glob("*.db")] == ["from-dotenv.db"]
    assert_refused(await processes.run("status", env=_WRONG), "DATABASE_URL", "LOG_FORMAT", code=2)


# The database.


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


@on_sqlite
async def test_on_sqlite_serve_makes_the_database_by_itself(
    empty_database_url: URL, processes: Processes
) -> None:
    assert not file_of(empty_database_url).exists()
    bot = await processes.start("serve", "--web-only", env=environment(empty_database_url))
    await bot.ready()
    assert file_of(empty_database_url).exists()


async def test_processes_that_migrate_at_once_all_succeed(
    empty_database_url: URL, processes: Processes
) -> None:
    env = environment(empty_database_url)
    ended = await run_all(processes, ("migrate", "migrate"), env)
    assert [(each.code, each.err) for each in ended] == [(0, "")] * 2


async def test_a_postgresql_that_cannot_be_reached_is_told_in_a_sentence(
    processes: Processes,
) -> None:
    with port_without_a_server() as port:
        url = make_url(f"postgresql://user:{PASSWORD}@127.0.0.1:{port}/bot")
        for ended in await run_all(processes, ("serve", "migrate", "status"), environment(url)):
            assert_refused(ended, "bot: nothing listens at the host and port of DATABASE_URL")


@pytest.mark.parametrize("file", ["no such folder/bot.db", "."])
async def test_a_sqlite_file_that_cannot_be_opened_is_told_in_a_sentence(
    file: str, folder: Path, processes: Processes
) -> None:
    url = make_url(f"sqlite+aiosqlite:///{folder / file}")
    for ended in await run_all(processes, ("serve", "migrate", "status"), environment(url)):
        assert_refused(ended, "bot: ", "DATABASE_URL")


async def test_status_makes_no_database_where_there_is_none(
    folder: Path, processes: Processes
) -> None:
    assert_refused(await processes.run("status"), "bot: there is no database bot.db")
    assert list(folder.iterdir()) == []


@on_sqlite
async def test_a_schema_newer_than_this_version_is_told_in_a_sentence(
    database_url: URL, processes: Processes
) -> None:
    async with opened(database_url) as database:
        await database.write(rename_version)
    for ended in await run_all(processes, ("serve", "migrate"), environment(database_url)):
        assert_refused(ended, "bot: a newer version")


def rename_version(connection: Connection) -> None:
    connection.execute(sql("UPDATE alembic_version SET version_num = 'from the future'"))


@on_sqlite
async def test_a_port_in_use_is_told_in_a_sentence(database_url: URL, processes: Processes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        env = environment(database_url, PORT=port)
        ended = await processes.run("serve", "--web-only", env=env)
    assert_refused(ended, f"bot: cannot listen on 127.0.0.1:{port}", "PORT")


# Disks that hosts throw away.

_DISKS = {
    "dyno": ({"DYNO": "web.1"}, [ADVICE]),
    "beside the volume": ({"RAILWAY_VOLUME_MOUNT_PATH": "{folder}/bo"}, [ADVICE]),
    "on the volume": ({"RAILWAY_VOLUME_MOUNT_PATH": "{folder}"}, []),
}


@pytest.mark.parametrize(("host", "advice"), _DISKS.values(), ids=_DISKS)
async def test_sqlite_on_a_disk_that_is_thrown_away_is_warned_of(
    host: dict[str, str], advice: list[str], folder: Path, processes: Processes
) -> None:
    env = environment(make_url(f"sqlite+aiosqlite:///{folder / 'bot.db'}"))
    env |= {name: value.format(folder=folder) for name, value in host.items()}
    bot = await processes.start("serve", "--web-only", env=env)
    await bot.logged("listening")
    assert [line["advice"] for line in bot.log if line["level"] == "warning"] == advice


@on_postgresql
async def test_postgresql_on_such_a_host_is_fine(database_url: URL, processes: Processes) -> None:
    env = environment(database_url, DYNO="web.1")
    bot = await processes.start("serve", "--web-only", env=env)
    await bot.logged("listening")
    assert [line for line in bot.log if line["level"] == "warning"] == []


# `bot status`


async def test_status_counts_people_and_texts_and_tells_since_when_a_phone_is_verified(
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
    assert "verified at some time: 1\n" in of_all.out
    of_people, of_apps = of_all.out.split("verifications that apps asked for:\n")
    assert re.findall(r"^  (\w+) +(\d+)$", of_apps, re.MULTILINE) == [(one, "0") for one in Status]
    counts = re.findall(r"^  (\w+) +(\d+)$", of_people, re.MULTILINE)
    assert {state: int(count) for state, count in counts if count != "0"} == {
        "awaiting_code": 1,
        "verified": 1,
        "delivered": 3,
    }
    assert len(counts) == len(State) + len(OutboxState)
    assert re.fullmatch(
        rf"{re.escape(PHONE)} with {re.escape(BOT_NUMBER)}\n"
        r"  state      verified\n"
        rf"  verified   since {MOMENT}\n"
        rf"  last text  success, delivered, {MOMENT}\n",
        of_phone.out,
    )


async def test_status_tells_of_what_apps_asked(
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
    told = await sandbox.bot.database.read(overview, clock.now())
    counts = re.findall(r"^  (\w+) +([1-9]\d*)$", told.partition("asked for:\n")[2], re.MULTILINE)
    assert counts == [("pending", "1"), ("failed", "1"), ("expired", "1")]
    assert "events to your app" not in told
    told_of_one = (await asyncio.to_thread(status, PHONE, database_url)).stdout
    heading, line = told_of_one.splitlines()[-2:]
    assert heading == "asked for by apps, the latest first:"
    assert re.fullmatch(rf"  \w{{32}}  failed \(not_me\), app, {MOMENT}", line)


@on_sqlite
async def test_status_says_that_an_app_was_not_told(
    make_sandbox: MakeSandbox, database: Database
) -> None:
    await make_sandbox()
    await database.write(app_events.disable, "https://app.example.com", SystemClock().now())
    told = await database.read(overview, SystemClock().now())
    assert "\nevents to your app: 0 given up, or paused; see: bot events\n" in f"{told}\n"


@on_sqlite
async def test_status_tells_of_a_code_that_waits_or_has_expired_a_lock_and_an_opt_out(
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
    never = r"\n  verified   never\n  last text  "
    for phone, expected in {
        waiting: rf"awaiting_code{never}code, delivered, ",
        expired: rf"awaiting_code \(the code has expired\){never}code, delivered, ",
        locked: rf"locked \(locked until {MOMENT}\){never}locked, delivered, ",
        once_locked: rf"locked \(the lock has ended\){never}locked, delivered, ",
        out: rf"opted_out{never}none$",
    }.items():
        told = await asyncio.to_thread(status, phone, database_url)
        assert re.search(rf"^  state      {expected}", told.stdout, re.MULTILINE), told.stdout


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
    told = status(written, database_url, country_code)
    assert (told.exit_code, told.stdout) == (0, f"{read} has never texted this bot\n")


@pytest.mark.parametrize("written", ["12", "+1312555000111", "somebody", "+999 555 0001"])
@on_sqlite
def test_status_of_what_is_no_number_says_how_to_write_one(written: str, database_url: URL) -> None:
    told = status(written, database_url)
    assert (told.exit_code, told.stdout) == (1, "")
    assert told.stderr.startswith("bot: PHONE: ")
    assert told.stderr.endswith("; write it like +13125550001\n")


def status(phone: str, url: URL, country_code: str = "+1") -> Result:
    """Run `bot status PHONE` in this process, which is quick."""
    env = {"DATABASE_URL": as_written(url), "COUNTRY_CODE": country_code}
    return CliRunner().invoke(main, ["status", phone], env=env)


# `bot keys`


def run_keys(url: URL, *arguments: str) -> Result:
    """Run `bot keys …` in this process, which is quick."""
    return CliRunner().invoke(main, ["keys", *arguments], env={"DATABASE_URL": as_written(url)})


async def test_a_key_is_shown_once_listed_without_its_secret_and_revoked_once(
    database_url: URL,
) -> None:
    def run(*arguments: str) -> Awaitable[Result]:
        return asyncio.to_thread(run_keys, database_url, *arguments)

    assert (await run("list")).stdout.startswith("There are no keys yet; make one: ")
    made = await run("create", " web shop ", "--scope", "verifications:read", "--per-minute", "9")
    assert (made.exit_code, made.stderr) == (
        0,
        "Keep this key in your app's secrets: it is never shown again.\n",
    )
    (name, secret) = api_keys.split(made.stdout.strip()) or ("", "")
    assert (await run("create", "other")).exit_code == 0

    listed = (await run("list")).stdout.splitlines()
    assert re.fullmatch(
        rf"{name}  web shop: verifications:read, 9 a minute, since {MOMENT}", listed[0]
    )
    assert "  other: verifications:read, verifications:write, 600 a minute, since " in listed[1]
    assert secret not in "".join(listed)

    revoked, again = await run("revoke", name), await run("revoke", name)
    assert (revoked.exit_code, revoked.stdout) == (
        0,
        "The key is revoked: it is refused from now on.\n",
    )
    assert (again.exit_code, again.stdout) == (1, "")
    assert again.stderr.endswith("run: bot keys list\n")
    assert re.search(
        rf"since {MOMENT}, revoked {MOMENT}$", (await run("list")).stdout, re.MULTILINE
    )


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("create", " "), "bot: NAME: write 1 to 64 printable characters"),
        (("create", "x" * 65), "bot: NAME: write 1 to 64 printable characters"),
        (("create", "a", "--scope", "all"), "'verifications:read', 'verifications:write'"),
        (("create", "a", "--per-minute", "0"), "1<=x<=1000000"),
        (("revoke", "nobody"), "bot: no key that holds has this ID"),
    ],
)
@on_sqlite
def test_what_is_wrong_about_a_key_is_told_in_a_sentence(
    arguments: tuple[str, ...], expected: str, database_url: URL
) -> None:
    told = run_keys(database_url, *arguments)
    assert told.exit_code != 0
    assert told.stdout == ""
    assert expected in told.stderr
    assert (api_keys.PER_MINUTE, api_keys.MAX_PER_MINUTE, api_keys.MAX_TITLE_LENGTH) == (
        600,
        1_000_000,
        64,
    )
    assert {scope.value for scope in api_keys.Scope} == {
        "verifications:read",
        "verifications:write",
    }


def test_a_key_needs_a_database_that_is_there(tmp_path: Path) -> None:
    told = run_keys(make_url(f"sqlite+aiosqlite:///{tmp_path / 'none.db'}"), "create", "a")
    assert (told.exit_code, told.stdout) == (1, "")
    assert "run: bot migrate" in told.stderr
    assert list(tmp_path.iterdir()) == []


# `bot demo` and help


async def test_demo_once_prints_a_verified_conversation_heeds_no_settings_and_leaves_nothing_behind(
    folder: Path, tmp_path: Path, processes: Processes
) -> None:
    ended = await processes.run_cold("demo", "--once", env=_WRONG | {"TMPDIR": str(tmp_path)})
    assert (ended.code, ended.err) == (0, "")
    chat = [line.strip() for line in ended.out.splitlines() if line.startswith("   ")]
    code = code_in(ended.out)
    assert chat == [
        "you  VERIFY",
        f"bot  Textproof code: {code}. Reply with it within 10 minutes. Not you? Reply NOT ME.",
        f"you  {code}",
        f"bot  {SUCCESS}",
    ]
    assert list(folder.iterdir()) == []
    assert list(tmp_path.iterdir()) == [folder]


async def test_demo_lets_a_person_text_the_bot_from_the_terminal(processes: Processes) -> None:
    bot = await processes.start_cold("demo", "--port", "0", stdin=True)

    async def type_and_read(line: str, expected: str) -> str:
        """Type a line, and return what is printed up to where it matches what is expected."""
        before = len(bot.out)
        bot.write_line(line)
        await wait_until(lambda: re.search(expected, bot.out[before:]) is not None)
        return bot.out[before:]

    await wait_until(lambda: "/help lists the commands" in bot.out)
    code = code_in(await type_and_read("verify please", CODE.pattern))
    await type_and_read(code, re.escape(SUCCESS))
    await type_and_read(code, r"\(no reply\)")
    await type_and_read("HELP", "Telnyx  Help: ")
    await type_and_read("/phone 312 555 0002", r"You now text from \+13125550002\.")
    code = code_in(await type_and_read("VERIFY", CODE.pattern))
    await type_and_read("/later 11m", "moved ahead by 11m")
    await type_and_read(code, "code has expired")
    await type_and_read("/phone 12", "no phone number has this many digits")
    await type_and_read("/later soon", "a duration is like")
    await type_and_read("/dance", "Unknown command /dance")
    await type_and_read("/help", "/quit")
    bot.write_line("/quit")
    ended = await bot.end()
    assert (ended.code, ended.err) == (0, "")


async def test_help_and_version_name_what_there_is(processes: Processes) -> None:
    shown, version = await asyncio.gather(
        processes.run_cold("--help"), processes.run_cold("--version")
    )
    assert (shown.code, shown.err) == (0, "")
    assert shown.out.startswith("Usage: bot ")
    assert re.findall(r"^  ([a-z]+)  ", shown.out.partition("Commands:")[2], re.MULTILINE) == [
        "demo",
        "events",
        "keys",
        "migrate",
        "serve",
        "status",
        "work",
    ]
    assert __version__ in version.out
