from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click
import pytest
from structlog.testing import capture_logs

from bot.simulator.clock import NOON, parse_duration
from bot.simulator.phone_status import record_changes
from bot.simulator.phones.terminal import Printer, Terminal, sanitize
from bot.simulator.sandbox import BOT_NUMBER, PHONE
from bot.simulator.stories.transcript import code_in
from bot.simulator.telnyx.faults import NAMED_FAULTS, ReportFault
from bot.simulator.telnyx.journal import Arrival, Author, FaultTriggered, PhoneStatus, PhoneText
from tests.kit.timeouts import TEST_TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bot.conversation.state import State
    from bot.simulator.sandbox import Sandbox
    from bot.simulator.telnyx.journal import Entry

on_sqlite = pytest.mark.parametrize("make_database", ["sqlite"], indirect=True)

OTHER_PHONE = "+13125550002"
FAILED = "        (the text did not reach the phone)\n"
NO_REPLY = "        (no reply)\n"


def text(number: int, body: str, author: Author = Author.BOT, **more: Any) -> PhoneText:
    return replace(PhoneText(number, NOON, author, PHONE, BOT_NUMBER, body), **more)


@pytest.fixture
def terminal(sandbox: Sandbox) -> Iterator[Terminal]:
    """Run a terminal without the bot's log."""
    terminal = Terminal(sandbox)
    sandbox.telnyx.journal.watchers.append(terminal._printer)
    with capture_logs():
        yield terminal


async def output_of(terminal: Terminal, line: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Execute a line and return the output."""
    capsys.readouterr()
    await terminal._execute(line)
    return click.unstyle(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("entries", "printed"),
    [
        ([text(1, "VERIFY", Author.PERSON)], "   you  VERIFY\n"),
        ([text(1, "A code")], "   bot  A code\n"),
        ([text(1, "Help", Author.CARRIER)], "Telnyx  Help\n"),
        ([text(1, "A code", phone=OTHER_PHONE)], f"   bot  [{OTHER_PHONE}] A code\n"),
        (
            [text(1, "VERIFY", Author.PERSON, phone=OTHER_PHONE)],
            f"   you  [{OTHER_PHONE}] VERIFY\n",
        ),
        (
            [text(1, "A"), text(1, "A", arrival=Arrival.DELIVERED), text(2, "A")],
            "   bot  A\n   bot  A\n",
        ),
        (
            [text(1, "A"), text(1, "A", arrival=Arrival.FAILED)],
            f"   bot  A\n{FAILED}",
        ),
        ([FaultTriggered(NOON, ReportFault.LATE)], ""),
        ([text(1, "\x1b[31mred\r\n\u202eback")], "   bot  \ufffd[31mred\ufffd\n\ufffdback\n"),
    ],
)
def test_each_text_is_printed_once_with_its_author_and_with_the_number_of_another_phone(
    entries: list[Entry], printed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    printer = Printer()
    for entry in entries:
        printer(entry)
    assert click.unstyle(capsys.readouterr().out) == printed


def test_a_typed_text_is_not_printed_again_but_others_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    printer = Printer()
    printer.muted_phone = PHONE
    printer(text(1, "VERIFY", Author.PERSON))
    printer(text(2, "A code"))
    printer(text(3, "VERIFY", Author.PERSON, phone=OTHER_PHONE))
    printer(text(1, "VERIFY", Author.PERSON, arrival=Arrival.FAILED))
    assert click.unstyle(capsys.readouterr().out) == (
        f"   bot  A code\n   you  [{OTHER_PHONE}] VERIFY\n{FAILED}"
    )


def test_a_text_that_arrives_during_typing_is_printed_above_the_prompt(
    capsys: pytest.CaptureFixture[str],
) -> None:
    printer = Printer()
    printer.prompt = "> "
    printer(text(1, "A code"))
    assert click.unstyle(capsys.readouterr().out) == "\r   bot  A code\n> "


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("grüße 👍 “ok”\nbye", "grüße 👍 “ok”\nbye"),
        ("\x1b]0;\x07\x00\x9b", "\ufffd]0;" + "\ufffd" * 3),
    ],
)
def test_a_text_cannot_control_the_terminal(text: str, shown: str) -> None:
    assert sanitize(text) == shown


@on_sqlite
async def test_a_line_is_texted_from_the_phone_and_the_reply_is_printed(
    sandbox: Sandbox, terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = await output_of(terminal, "VERIFY", capsys)
    (sent,) = sandbox.telnyx.texts
    assert code_in(sent.text)
    assert printed == f"   you  VERIFY\n   bot  {sent.text}\n"
    assert await output_of(terminal, "", capsys) == ""
    assert await output_of(terminal, "thanks", capsys) == f"   you  thanks\n{NO_REPLY}"


@on_sqlite
async def test_a_reply_that_waits_for_its_next_attempt_is_mentioned(
    terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await output_of(terminal, "/fault 500", capsys) == "Next time, Telnyx answers 500.\n"
    waits = "        (a reply waits for its next attempt)\n"
    assert await output_of(terminal, "VERIFY", capsys) == f"   you  VERIFY\n{waits}"
    printed = await output_of(terminal, "/later 1s", capsys)
    assert printed.startswith("   bot  Textproof code: ")
    assert printed.endswith("\nThe clock moved ahead by 1s.\n")


@on_sqlite
async def test_a_failed_text_is_mentioned(
    terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    await terminal._execute("/fault failed")
    printed = await output_of(terminal, "VERIFY", capsys)
    assert printed.startswith("   you  VERIFY\n   bot  Textproof code: ")
    assert printed.endswith(f".\n{FAILED}{NO_REPLY}")


@on_sqlite
async def test_after_a_switch_the_first_phones_texts_are_printed_with_its_number(
    sandbox: Sandbox, terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = await output_of(terminal, "/phone (312) 555-0002", capsys)
    assert printed == f"You now text from {OTHER_PHONE}.\n"
    assert (await output_of(terminal, "thanks", capsys)).startswith("   you  thanks\n")
    await sandbox.text(PHONE, "hello there")
    printed = click.unstyle(capsys.readouterr().out)
    assert printed.startswith(f"   you  [{PHONE}] hello there\n   bot  [{PHONE}] Hi, ")
    assert f"(this one is {OTHER_PHONE})" in await output_of(terminal, "/help", capsys)


@on_sqlite
@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("/phone twelve", "this is not a phone number"),
        ("/phone 31255500021234", "no phone number has this many digits"),
        ("/later soon", "write a duration like 30s, 11m, 2h or 1d"),
        ("/later 4000d", "the clock cannot be more than ten years ahead"),
        ("/fault flood", "unknown fault 'flood', not one of 429"),
        ("/save", "name the file: /save FILE"),
    ],
)
async def test_a_wrong_argument_is_refused_with_a_hint(
    sandbox: Sandbox, terminal: Terminal, line: str, error: str
) -> None:
    with pytest.raises(ValueError, match=f"^{error}"):
        await terminal._execute(line)
    assert sandbox.clock.now() == NOON
    assert sandbox.telnyx.journal.entries == []


@on_sqlite
async def test_an_unknown_command_is_never_texted(
    sandbox: Sandbox, terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = await output_of(terminal, "/VERIFY me", capsys)
    assert printed == "Unknown command /VERIFY; /help lists the commands.\n"
    assert sandbox.telnyx.journal.entries == []


@on_sqlite
async def test_the_help_lists_every_command(
    terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = await output_of(terminal, "/help", capsys)
    assert [command for command in (*terminal._commands, "/quit") if command not in printed] == []


@on_sqlite
async def test_every_fault_is_listed_by_its_name(
    terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = (await output_of(terminal, "/fault", capsys)).splitlines()
    assert [line.split()[:2] for line in listed] == [["/fault", name] for name in NAMED_FAULTS]
    for name, named in NAMED_FAULTS.items():
        assert await output_of(terminal, f"/fault {name}", capsys) == f"Next time, {named.title}.\n"


@on_sqlite
async def test_pictures_and_group_messages_are_texted_as_such(
    sandbox: Sandbox, terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (await output_of(terminal, "/mms look", capsys)).startswith("   you  look\n   bot  ")
    assert await output_of(terminal, "/group look", capsys) == f"   you  look\n{NO_REPLY}"
    shapes = {
        entry.shape for entry in sandbox.telnyx.journal.entries if isinstance(entry, PhoneText)
    }
    assert shapes == {"plain", "media", "group"}


@on_sqlite
async def test_the_state_command_shows_the_status_of_this_phone(
    sandbox: Sandbox, terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await output_of(terminal, "/state", capsys) == f"{PHONE} has never texted the bot.\n"
    recording = asyncio.create_task(record_changes(sandbox))
    await terminal._execute("VERIFY")
    await sandbox.text(OTHER_PHONE, "STOP")
    journal = sandbox.telnyx.journal

    def states_of(phone: str) -> list[State]:
        found = [entry for entry in journal.entries if isinstance(entry, PhoneStatus)]
        return [entry.state for entry in found if entry.phone == phone]

    async with asyncio.timeout(TEST_TIMEOUT):
        while not (states_of(PHONE) and states_of(OTHER_PHONE)):
            await journal.wait_for_more_than(len(journal.entries))
    sandbox.clock.travel(parse_duration("4m"))
    printed = await output_of(terminal, "/state", capsys)
    assert printed == f"{PHONE}: awaiting_code, 5 tries left\n  the code ends in 360 s\n"
    sandbox.clock.travel(parse_duration("6m"))
    printed = await output_of(terminal, "/state", capsys)
    assert printed == f"{PHONE}: awaiting_code, 5 tries left\n"
    recording.cancel()


@on_sqlite
async def test_the_wire_command_shows_the_last_requests_with_their_responses(
    sandbox: Sandbox, terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await output_of(terminal, "/wire", capsys) == ""
    await terminal._execute("VERIFY")
    printed = (await output_of(terminal, "/wire", capsys)).splitlines()
    starts = [line for line in printed if line.startswith(("POST ", "HTTP/1.1 "))]
    assert starts == [
        "POST /webhooks/telnyx HTTP/1.1",
        "HTTP/1.1 200 OK",
        "POST /v2/messages HTTP/1.1",
        "HTTP/1.1 200 OK",
        *("POST /webhooks/telnyx HTTP/1.1", "HTTP/1.1 200 OK") * 2,
    ]
    (sent,) = sandbox.telnyx.texts
    bodies = [json.loads(line) for line in printed if line.startswith("{")]
    assert sent.text in [body.get("text") for body in bodies]
    assert any(line.startswith("telnyx-signature-ed25519: ") for line in printed)


@on_sqlite
async def test_the_wire_command_shows_no_response_if_the_connection_was_dropped(
    terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    await terminal._execute("/fault drop")
    await terminal._execute("VERIFY")
    printed = (await output_of(terminal, "/wire", capsys)).splitlines()
    assert sum(line.startswith("POST ") for line in printed) == 4
    assert sum(line.startswith("HTTP/1.1 ") for line in printed) == 3


@on_sqlite
async def test_a_session_is_saved_as_a_story(
    terminal: Terminal, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "session.story"
    for line in ("/fault 429", "/later 2h", "STOP"):
        await terminal._execute(line)
    printed = await output_of(terminal, f"/save {file}", capsys)
    assert printed == f"Saved. Play it again with: bot demo --play {file}\n"
    assert file.read_text(encoding="utf-8").splitlines() == [
        f"# at {NOON.isoformat()}",
        "/fault 429",
        "/later 2h",
        "> STOP",
        "* You are unsubscribed and get no more texts. Reply START to come back.",
    ]


@on_sqlite
async def test_a_file_that_cannot_be_written_raises_an_error(
    terminal: Terminal, tmp_path: Path
) -> None:
    with pytest.raises(OSError, match="Is a directory"):
        await terminal._execute(f"/save {tmp_path}")
