"""`bot demo` as people start and stop it, and `bot serve` without any of it."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import subprocess
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from aiohttp import ClientSession

from bot.simulator.demo import play
from bot.simulator.sandbox import PHONE
from bot.simulator.telnyx.server import SimulatedTelnyx
from tests.kit.timeouts import TEST_TIMEOUT, wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.kit.processes import BotProcess, Processes


STORY = """\
# with TOKEN_ATTEMPTS=1
# at 2026-03-01T08:30:00+00:00
> VERIFY
< Textproof code: {code}. Reply with it within 10 minutes. Not you? Reply NOT ME.
> {wrong}
< Too many wrong codes. Please wait 15 minutes, then text VERIFY for a new code.
= locked
"""


async def test_playing_a_story_prints_its_texts(processes: Processes, tmp_path: Path) -> None:
    file = tmp_path / "saved.story"
    file.write_text(STORY, encoding="utf-8")
    ended = await processes.run("demo", "--play", str(file))
    assert (ended.code, ended.err) == (0, "")
    assert [line.split()[0] for line in ended.out.splitlines()] == ["you", "bot", "you", "bot"]
    file.write_bytes(b"> VERIFY \xff\n")
    ended = await processes.run("demo", "--play", str(file))
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == f"bot: {file} is not a transcript: it is not a text file in UTF-8\n"


@pytest.mark.parametrize(
    ("original", "changed", "error"),
    [
        ("= locked", "= verified", "line 7: = verified\nexpected this state, and got: locked\n"),
        ("15 minutes", "16 minutes", "expected this, and got: Too many wrong codes."),
        ("ATTEMPTS=1", "ATTEMPTS=none", "wrong value for TOKEN_ATTEMPTS"),
        ("TOKEN_ATTEMPTS=1", "DATABASE_URL=x", "a story can set NAME=VALUE for: APP_NAME"),
        ("2026-03-01", "yesterday", "# at yesterdayT08:30:00+00:00\nwrite a time like 2026"),
        ("# with", "/dance with", "a line begins with one of"),
    ],
)
async def test_a_story_that_does_not_go_as_written_exits_with_1_and_names_the_line(
    original: str, changed: str, error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await play(STORY.replace(original, changed)) == 1
    assert error in capsys.readouterr().err


@pytest.mark.parametrize("line", ["> \x1b[2J", "\x1b]0;title\x07"])
async def test_a_story_cannot_control_the_terminal(
    line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await play(line) == 1
    printed = capsys.readouterr()
    assert "\N{REPLACEMENT CHARACTER}" in printed.out + printed.err
    assert "\x1b" not in (printed.out + printed.err).replace("\x1b[31m", "").replace("\x1b[0m", "")


async def test_a_port_that_is_taken_is_reported_in_one_line(processes: Processes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = await processes.run("demo", "--port", port)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == (
        f"bot: cannot listen on 127.0.0.1:{port} (Address already in use); try another --port\n"
    )


@asynccontextmanager
async def demo(processes: Processes, tmp_path: Path) -> AsyncIterator[tuple[BotProcess, str]]:
    """Start the demo without a terminal, as a script does."""
    bot = await processes.start_cold("demo", "--port", "0", env={"TMPDIR": str(tmp_path)})
    await wait_until(lambda: "web form" in bot.out)
    yield bot, re.findall(r"http://\S+", bot.out)[0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_without_a_terminal_it_runs_until_a_signal_and_leaves_nothing_behind(
    number: int, processes: Processes, tmp_path: Path
) -> None:
    before = set(tmp_path.iterdir())
    async with demo(processes, tmp_path) as (bot, url), ClientSession(url) as session:
        async with session.get("/") as answer:
            assert answer.status == 200
        async with session.get("/simulator/events"):
            bot.send(number)
            ended = await bot.end()
    assert (ended.code, ended.err) == (0, "")
    assert set(tmp_path.iterdir()) == before


async def test_the_printed_key_can_call_the_api(processes: Processes, tmp_path: Path) -> None:
    async with demo(processes, tmp_path) as (bot, _):
        await wait_until(lambda: bool(re.search(r"TEXTPROOF_KEY=\S+\n", bot.out)))
        printed = dict(re.findall(r"(TEXTPROOF_\w+)=(\S+)", bot.out))
        authorization = {"Authorization": f"Bearer {printed['TEXTPROOF_KEY']}"}
        async with (
            ClientSession(printed["TEXTPROOF_URL"], headers=authorization) as session,
            session.post("/v1/verifications", json={"to": PHONE}) as answer,
        ):
            assert answer.status == 201
        await wait_until(lambda: f"receives verification.delivered, {PHONE}" in bot.out)
    assert "Textproof code: " in bot.out


async def test_it_ends_while_telnyx_delays_a_response(processes: Processes, tmp_path: Path) -> None:
    async with demo(processes, tmp_path) as (bot, url), ClientSession(url) as session:
        await session.post("/simulator/faults", json={"fault": "hang"})
        await session.post("/simulator/texts", json={"from": PHONE, "text": "VERIFY"})
        async with session.get("/simulator/events") as events:
            async with asyncio.timeout(TEST_TIMEOUT):
                while b'"wire": "api"' not in await events.content.readline():
                    pass
        bot.send(signal.SIGTERM)
        ended = await bot.end()
    assert ended.code == 0


def test_bot_serve_does_not_import_the_simulator() -> None:
    script = (
        "import sys, bot.cli.main, bot.app, bot.web.app, bot.settings, bot.logs;"
        "print([name for name in sys.modules if name.startswith('bot.simulator')])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        timeout=TEST_TIMEOUT,
    )
    assert ended.stdout == "[]\n"
    assert SimulatedTelnyx.__module__.startswith("bot.simulator")
