from __future__ import annotations

import asyncio
import io
import itertools
import json
import logging
import re
from contextlib import contextmanager, redirect_stderr
from datetime import timedelta
from typing import TYPE_CHECKING, NoReturn

import pytest
import structlog
from aiohttp import ClientSession

from bot import app, logs
from bot.carrier.client import Carrier
from bot.services.upkeep.janitor import Janitor
from bot.simulator.clock import StoppedClock
from bot.simulator.sandbox import BOT_NUMBER, PHONE
from bot.simulator.telnyx.faults import ApiFault
from bot.simulator.telnyx.server import API_KEY, SimulatedTelnyx
from tests.kit.settings import settings_for
from tests.kit.timeouts import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import URL

    from bot.simulator.sandbox import Sandbox
    from tests.conftest import MakeSandbox

LEVELS = ["debug", "info", "warning", "error"]
STYLES = ["console", "json"]
LIBRARIES = [
    *("aiosqlite", "aiohttp.access", "aiohttp.client", "alembic", "asyncio"),
    *("asyncpg", "httpcore", "httpx", "sqlalchemy.engine", "sqlalchemy.pool", "telnyx"),
]
SECRET = "canary-of-the-secret-key-that-signs-codes"
CHATTER = "canarychatter is what my cat is called"
OTHER_PHONE = "+13125550177"
ODD_SENDER = "CANARYSHOP"
REPLY = "Reply with it within"
CODE = re.compile(r"\b\d{10}\b")


@contextmanager
def logged(level: str, style: str) -> Iterator[io.StringIO]:
    """Log as the bot does, to the stream that is yielded; restore logging at the end."""
    root, ours = logging.getLogger(), logging.getLogger("bot")
    before = root.handlers[:], root.level, ours.level
    with redirect_stderr(io.StringIO()) as written:
        logs.configure(level, style)
        try:
            yield written
        finally:
            logging.captureWarnings(capture=False)
            structlog.reset_defaults()
            root.handlers[:] = before[0]
            root.setLevel(before[1])
            ours.setLevel(before[2])


@contextmanager
def debug_logging(*libraries: str) -> Iterator[None]:
    """Let libraries log at DEBUG, as the SDK does by itself if TELNYX_LOG says so."""
    before = {name: logging.getLogger(name).level for name in libraries}
    for name in libraries:
        logging.getLogger(name).setLevel(logging.DEBUG)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


def leaks(written: io.StringIO, *secrets: str) -> list[str]:
    """Return the lines that contain anything that must never be logged."""
    numbers = [PHONE, OTHER_PHONE, BOT_NUMBER]
    national = [number.removeprefix("+1") for number in numbers]
    canaries = [API_KEY, SECRET, CHATTER, "canary", ODD_SENDER, REPLY, *numbers, *national]
    lines = written.getvalue().splitlines()
    return [line for line in lines if any(secret in line for secret in (*canaries, *secrets))]


def code_in(text: str) -> str:
    found = CODE.search(text)
    assert found is not None
    return found[0]


async def converse(sandbox: Sandbox) -> str:
    """Play a whole conversation in which much goes wrong; return its code."""
    (came,) = await sandbox.text(PHONE, "VERIFY")
    code = code_in(came.text)
    await sandbox.text(PHONE, CHATTER)
    await sandbox.text(PHONE, code[:-1] + ("1" if code[-1] != "1" else "2"))
    await sandbox.text(ODD_SENDER, CHATTER)
    await sandbox.text(PHONE, None)
    await sandbox.telnyx.post(json.dumps({"data": CHATTER}).encode())
    await text_as_a_stranger(sandbox)
    await meet_faults(sandbox)
    await sandbox.text(PHONE, "RESEND")
    (last,) = await sandbox.text(PHONE, code)
    assert "is verified" in last.text
    await sandbox.text(PHONE, "STOP")
    return code


async def text_as_a_stranger(sandbox: Sandbox) -> None:
    body = json.dumps({"data": {"text": CHATTER, "from": PHONE}}).encode()
    headers = SimulatedTelnyx(sandbox.clock).signed(body)
    async with (
        ClientSession() as session,
        session.post(sandbox.telnyx.webhook_url, data=body, headers=headers) as answer,
    ):
        assert answer.status == 401


async def meet_faults(sandbox: Sandbox) -> None:
    """Send texts that the API answers with one fault of each kind."""
    sender = sandbox.bot.sender
    assert sender is not None
    html = {"Content-Type": "text/html"}
    sandbox.telnyx.faults += [
        ApiFault.error(500, "10007"),
        ApiFault(200, f"<html>{CHATTER}</html>", html),
        ApiFault(400, json.dumps({"errors": [{"code": "40333", "detail": CHATTER}]})),
    ]
    await sandbox.text(PHONE, "STATUS")
    await sandbox.travel(PHONE, timedelta(seconds=2))
    sandbox.clock.travel(timedelta(seconds=5))
    sender.wake()
    await wait_until(lambda: not sandbox.telnyx.faults and sender.idle)
    await sandbox.travel(PHONE, timedelta(seconds=61))
    sandbox.telnyx.faults.append(ApiFault.error(400, "40300"))
    await sandbox.text(OTHER_PHONE, "VERIFY")
    assert not sandbox.telnyx.faults


@pytest.mark.parametrize(
    ("make_database", "level", "style"),
    [
        *itertools.product(["sqlite"], LEVELS, STYLES),
        *itertools.product(["postgresql"], ["debug"], STYLES),
    ],
    indirect=["make_database"],
)
async def test_no_log_line_of_a_conversation_holds_a_secret_number_or_text(
    make_sandbox: MakeSandbox, level: str, style: str
) -> None:
    with logged(level, style) as written:
        sandbox = await make_sandbox(secret_key=SECRET, token_length=10)
        code = await converse(sandbox)

    lines = written.getvalue()
    assert leaks(written, code) == []
    assert "40333" in lines
    assert ("40300" in lines) is (level != "error")
    assert ("text accepted" in lines) is (level in ("debug", "info"))
    assert ("webhook ignored" in lines) is (level == "debug")


async def test_no_log_line_holds_one_when_libraries_log_at_debug(make_sandbox: MakeSandbox) -> None:
    with logged("debug", "json") as written, debug_logging(*LIBRARIES):
        sandbox = await make_sandbox(secret_key=SECRET, token_length=10)
        code = await converse(sandbox)
    assert leaks(written, code) == []


@pytest.mark.parametrize("make_database", ["sqlite"], indirect=True)
async def test_log_lines_distinguish_two_people(
    make_sandbox: MakeSandbox,
) -> None:
    with logged("info", "console") as written:
        sandbox = await make_sandbox(secret_key=SECRET)
        await sandbox.text(PHONE, "VERIFY")
        await sandbox.text(OTHER_PHONE, "VERIFY")

    assert [("…0001" in line, "…0177" in line) for line in written.getvalue().splitlines()] == [
        (True, False),
        (False, True),
    ]


class OddError(Exception):
    """Its message must not be logged."""


def fail(*_: object, **__: object) -> NoReturn:
    try:
        int(f"{CHATTER} from {PHONE}")
    except ValueError as error:
        raise OddError(f"{SECRET} {API_KEY}") from error
    raise AssertionError("int() must fail")


async def fail_later(*_: object, **__: object) -> NoReturn:
    fail()


@pytest.mark.parametrize("style", STYLES)
async def test_failures_are_logged_with_their_type_and_place_but_without_their_message(
    make_sandbox: MakeSandbox, monkeypatch: pytest.MonkeyPatch, style: str
) -> None:
    with logged("debug", style) as written:
        sandbox = await make_sandbox(secret_key=SECRET, token_length=10)
        (came,) = await sandbox.text(PHONE, "VERIFY")
        with monkeypatch.context() as broken:
            broken.setattr(Carrier, "send", fail_later)
            await sandbox.text(PHONE, "STATUS")
        with monkeypatch.context() as broken:
            broken.setattr("bot.services.intake.inbox.apply", fail)
            assert await sandbox.telnyx.text(PHONE, BOT_NUMBER, CHATTER) == 503
        with monkeypatch.context() as broken:
            broken.setattr("bot.web.telnyx.parse", fail)
            assert await sandbox.telnyx.text(PHONE, BOT_NUMBER, CHATTER) == 503

    assert leaks(written, code_in(came.text)) == []
    lines = written.getvalue()
    for failure in ("delivering texts failed", "inbox item failed", "request failed"):
        assert failure in lines
    assert lines.count("OddError") >= 3
    assert lines.count("ValueError") >= 3
    assert lines.count(__file__) >= 6


@pytest.mark.parametrize("make_database", ["sqlite"], indirect=True)
@pytest.mark.parametrize("style", STYLES)
async def test_a_crashed_background_task_ends_the_bot_and_is_logged_without_its_message(
    database_url: URL, monkeypatch: pytest.MonkeyPatch, style: str
) -> None:
    monkeypatch.setattr(Janitor, "run", fail_later)
    with logged("debug", style) as written, pytest.raises(app.CrashedError, match="restart"):
        async with app.run_bot(
            settings_for(database_url), StoppedClock(), with_web=True, with_work=True, warm=False
        ):
            await asyncio.Event().wait()

    lines = written.getvalue()
    assert leaks(written) == []
    assert "background task crashed" in lines
    assert "janitor" in lines
    assert "OddError" in lines


def raise_chain() -> NoReturn:
    try:
        int("canary of the cause")
    except ValueError as error:
        raise KeyError("canary of the error") from error
    raise AssertionError("it was to fail")


@pytest.mark.parametrize("style", STYLES)
def test_an_exception_in_a_record_of_a_library_is_logged_without_its_message(style: str) -> None:
    with logged("debug", style) as written:
        try:
            raise_chain()
        except KeyError as error:
            library = logging.getLogger("library")
            library.exception("it failed")
            library.error("it failed", exc_info=error)
            library.warning("it failed", exc_info=(KeyError, error, error.__traceback__))

    lines = written.getvalue()
    assert leaks(written) == []
    assert lines.count("it failed") == 3
    assert lines.count("KeyError") == lines.count("ValueError") == 3
    assert lines.count("raise_chain") == 6


@pytest.mark.parametrize("style", STYLES)
def test_an_exception_in_our_own_record_is_logged_without_its_message(style: str) -> None:
    with logged("debug", style) as written:
        ours = structlog.get_logger("bot.of_the_tests")
        try:
            raise_chain()
        except KeyError as error:
            ours.exception("it failed")
            ours.error("it failed", exc_info=True)
            ours.error("it failed", exc_info=error)
            ours.warning("it failed", exc_info=(KeyError, error, error.__traceback__))

    lines = written.getvalue()
    assert leaks(written) == []
    assert lines.count("it failed") == 4
    assert lines.count("KeyError") == lines.count("ValueError") == 4


@pytest.mark.parametrize("style", STYLES)
def test_a_record_with_exc_info_but_no_exception_is_still_written(style: str) -> None:
    with logged("debug", style) as written:
        logging.getLogger("library").error("nothing raised", exc_info=True)  # noqa: LOG014
        structlog.get_logger("bot.of_the_tests").error("nothing raised", exc_info=True)
    assert written.getvalue().count("nothing raised") == 2


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("level", LEVELS)
def test_libraries_are_logged_from_warning_on_at_every_level(level: str, style: str) -> None:
    with logged(level, style) as written, debug_logging(*LIBRARIES[::2]):
        for name in LIBRARIES:
            logging.getLogger(name).debug("canary parameters")
            logging.getLogger(name).info("canary parameters")
            logging.getLogger(name).warning("attention, says %s", name)

    assert leaks(written) == []
    assert [name for name in LIBRARIES if f"says {name}" not in written.getvalue()] == []


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("level", LEVELS)
def test_our_own_lines_are_written_from_the_level_on(level: str, style: str) -> None:
    with logged(level, style) as written:
        for each in LEVELS:
            structlog.get_logger("bot.of_the_tests").log(
                logging.getLevelName(each.upper()), f"a line at {each}"
            )

    heard = [each for each in LEVELS if f"a line at {each}" in written.getvalue()]
    assert heard == LEVELS[LEVELS.index(level) :]


def test_in_json_every_line_is_an_object_with_a_time_and_a_level() -> None:
    with logged("info", "json") as written:
        structlog.get_logger("bot.of_the_tests").info("ours", count=1, odd=object())
        logging.getLogger("library").warning("theirs\nin two lines")

    ours, theirs = (json.loads(line) for line in written.getvalue().splitlines())
    assert (ours["event"], ours["level"], ours["count"]) == ("ours", "info", 1)
    assert (theirs["event"], theirs["level"]) == ("theirs\nin two lines", "warning")
    assert ours["timestamp"].endswith("Z")
    assert theirs["timestamp"].endswith("Z")


def test_a_cycle_of_causes_is_logged_once() -> None:
    first, second = ValueError(CHATTER), KeyError(CHATTER)
    first.__cause__, second.__cause__ = second, first
    with logged("info", "console") as written:
        structlog.get_logger("bot").error("odd", exc_info=first)
    assert written.getvalue().count("ValueError") == 1
    assert CHATTER not in written.getvalue()
