from __future__ import annotations

import asyncio
import json
import resource
import signal
import socket
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy.engine import URL, make_url

from bot.cli import serve
from bot.services.clock import SystemClock
from bot.simulator.sandbox import BOT_NUMBER, PHONE
from bot.simulator.telnyx import payloads
from bot.simulator.telnyx.faults import ApiFault
from bot.simulator.telnyx.journal import Author
from bot.simulator.telnyx.server import API_KEY, SimulatedTelnyx
from bot.store import conversations
from bot.store.tables import OutboxState
from bot.web.app import WEBHOOK_PATH
from tests.cli.helpers import (
    SUCCESS,
    assert_refused,
    code_in,
    file_of,
    on_postgresql,
    on_sqlite,
    opened,
    other_than,
    run_with_crashing_janitor,
    texts_by_state,
)
from tests.kit.persistent_texter import PersistentTexter
from tests.kit.secret_keys import SECRET
from tests.kit.settings import environment
from tests.kit.timeouts import TEST_TIMEOUT, wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from aiohttp import web

    from tests.kit.processes import BotProcess, Processes


ADVICE = "add a PostgreSQL database and set DATABASE_URL"


class PatientTelnyx(SimulatedTelnyx):
    """A Telnyx whose API answers only when allowed to, and which sends no delivery reports."""

    def __init__(self) -> None:
        super().__init__(SystemClock())
        self.asked = asyncio.Event()
        self.allowed = asyncio.Event()

    async def _respond(self, request: web.Request, raw: bytes) -> web.Response | None:
        self.asked.set()
        await self.allowed.wait()
        return await super()._respond(request, raw)

    def _report(self, payload: Mapping[str, Any], text_id: int) -> None:
        pass


async def connect(bot: BotProcess, telnyx: SimulatedTelnyx) -> None:
    telnyx.webhook_url = await bot.ready() + WEBHOOK_PATH


async def came(telnyx: SimulatedTelnyx, count: int) -> str:
    """Wait until the phone has received this many texts in total, and return the last."""
    await wait_until(lambda: len(telnyx.texts) >= count)
    assert len(telnyx.texts) == count
    last = telnyx.texts[-1]
    assert (last.phone, last.bot_number, last.author) == (PHONE, BOT_NUMBER, Author.BOT)
    return last.text


async def text(telnyx: SimulatedTelnyx, said: str) -> str:
    """Text the bot, and return its reply."""
    count = len(telnyx.texts) + 1
    assert await telnyx.text(PHONE, BOT_NUMBER, said) == 200
    return await came(telnyx, count)


async def state_of_phone(url: URL) -> str:
    async with opened(url) as database:
        (known,) = await database.read(conversations.find, PHONE)
    return known.conversation.state


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
async def test_web_only_sends_no_texts_and_is_ready(
    database_url: URL, telnyx: SimulatedTelnyx, processes: Processes
) -> None:
    bot = await processes.start("serve", "--web-only", env=environment(database_url, telnyx))
    await connect(bot, telnyx)
    assert await telnyx.text(PHONE, BOT_NUMBER, "VERIFY") == 200
    bot.send(signal.SIGINT)
    assert (await bot.end()).code == 0
    assert telnyx.requests == []
    assert await texts_by_state(database_url) == {OutboxState.QUEUED: 1}


async def test_sigterm_waits_for_texts_in_progress_but_not_without_limit(
    folder: Path, processes: Processes
) -> None:
    async def stopped_while_sending(
        name: str, *, answered: bool
    ) -> tuple[int, int, dict[OutboxState, int]]:
        url = make_url(f"sqlite+aiosqlite:///{folder / name}")
        async with PatientTelnyx().running() as telnyx:
            bot = await processes.start("serve", env=environment(url, telnyx))
            await connect(bot, telnyx)
            assert await telnyx.text(PHONE, BOT_NUMBER, "VERIFY") == 200
            await asyncio.wait_for(telnyx.asked.wait(), TEST_TIMEOUT)
            bot.send(signal.SIGTERM)
            await bot.logged("stopping")
            if answered:
                telnyx.allowed.set()
            ended = await bot.end()
        assert "Traceback" not in ended.err
        return ended.code, len(telnyx.texts), await texts_by_state(url)

    arrived, given_up = await asyncio.gather(
        stopped_while_sending("answered.db", answered=True),
        stopped_while_sending("unanswered.db", answered=False),
    )
    assert arrived == (0, 1, {OutboxState.ACCEPTED: 1})
    assert given_up == (0, 0, {OutboxState.QUEUED: 1})


@on_sqlite
@pytest.mark.parametrize("command", ["serve", "work"])
async def test_a_crashed_background_task_ends_the_process(
    command: str, database_url: URL, processes: Processes
) -> None:
    env = environment(database_url)
    bot = await processes.start(command, env=env, main=run_with_crashing_janitor)
    ended = await bot.end()
    assert ended.code == 1
    assert '"background task crashed"' in ended.err
    last = ended.err.splitlines()[-1]
    assert last == "bot: a background task crashed (see the log); restart the bot"


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
    # Read while the bot is running: its WAL would be gone afterwards.
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


@on_sqlite
async def test_on_sqlite_serve_creates_the_database(
    empty_database_url: URL, processes: Processes
) -> None:
    assert not file_of(empty_database_url).exists()
    bot = await processes.start("serve", "--web-only", env=environment(empty_database_url))
    await bot.ready()
    assert file_of(empty_database_url).exists()


@on_sqlite
async def test_a_port_in_use_is_reported_in_one_line(
    database_url: URL, processes: Processes
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        env = environment(database_url, PORT=port)
        ended = await processes.run("serve", "--web-only", env=env)
    assert_refused(ended, f"bot: cannot listen on 127.0.0.1:{port}", "PORT")


_DISKS = {
    "dyno": ({"DYNO": "web.1"}, [ADVICE]),
    "beside the volume": ({"RAILWAY_VOLUME_MOUNT_PATH": "{folder}/bo"}, [ADVICE]),
    "on the volume": ({"RAILWAY_VOLUME_MOUNT_PATH": "{folder}"}, []),
}


@pytest.mark.parametrize(("host", "advice"), _DISKS.values(), ids=_DISKS)
async def test_sqlite_on_an_ephemeral_disk_gets_a_warning(
    host: dict[str, str], advice: list[str], folder: Path, processes: Processes
) -> None:
    env = environment(make_url(f"sqlite+aiosqlite:///{folder / 'bot.db'}"))
    env |= {name: value.format(folder=folder) for name, value in host.items()}
    bot = await processes.start("serve", "--web-only", env=env)
    await bot.logged("listening")
    assert [line["advice"] for line in bot.log if line["level"] == "warning"] == advice


@on_postgresql
async def test_postgresql_on_such_a_host_gets_no_warning(
    database_url: URL, processes: Processes
) -> None:
    env = environment(database_url, DYNO="web.1")
    bot = await processes.start("serve", "--web-only", env=env)
    await bot.logged("listening")
    assert [line for line in bot.log if line["level"] == "warning"] == []


@pytest.mark.parametrize(
    ("allowed", "highest", "expected"),
    [(256, 2048, 2048), (256, 256, 256), (256, 1_000_000, 65_536), (500_000, 1_000_000, 500_000)],
)
def test_the_process_asks_for_as_many_connections_as_the_system_allows(
    allowed: int, highest: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = (allowed, highest)

    def set_limit(kind: int, new: tuple[int, int]) -> None:
        nonlocal limits
        assert kind == resource.RLIMIT_NOFILE
        limits = new

    monkeypatch.setattr(resource, "getrlimit", lambda _kind: limits)
    monkeypatch.setattr(resource, "setrlimit", set_limit)
    serve._allow_many_connections()
    assert limits == (expected, highest)


@on_sqlite
async def test_serve_raises_the_limit_of_open_files(
    database_url: URL, telnyx: SimulatedTelnyx, processes: Processes
) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert before[1] > 1024
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, before[1]))
    try:
        bot = await processes.start_cold("serve", env=environment(database_url, telnyx))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    await bot.ready()
    assert resource.prlimit(bot.pid, resource.RLIMIT_NOFILE)[0] > 1024
