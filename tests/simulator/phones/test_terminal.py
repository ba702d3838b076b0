from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click
import pytest
from structlog.testing import capture_logs

from bot.simulator.clock import NOON, to_length
from bot.simulator.phone_status import keep_updated
from bot.simulator.phones.terminal import Printer, Terminal, harmless
from bot.simulator.sandbox import BOT_NUMBER, PHONE
from bot.simulator.stories.transcript import code_in
from bot.simulator.telnyx.faults import MENU, ReportFault
from bot.simulator.telnyx.journal import Arrival, Author, FaultMet, PhoneStatus, PhoneText
from tests.kit.timeouts import TEST_TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bot.conversation.state import State
    from bot.simulator.sandbox import Sandbox
    from bot.simulator.telnyx.journal import Entry

on_sqlite = pytest.mark.parametrize("make_database", ["sqlite"], indirect=True)

OTHER_PHONE = "+13125550002"
FAILED = "        (it did not reach the phone)\n"
SILENT = "        (the bot stays silent)\n"


def text(number: int, said: str, author: Author = Author.BOT, **more: Any) -> PhoneText:
    return replace(PhoneText(number, NOON, author, PHONE, BOT_NUMBER, said), **more)


@pytest.fixture
def terminal(sandbox: Sandbox) -> Iterator[Terminal]:
    """Run a terminal that the bot does not log to."""
    terminal = Terminal(sandbox)
    sandbox.telnyx.journal.watchers.append(terminal._printer)
    with capture_logs():
        yield terminal


async def answers(terminal: Terminal, line: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Type a line and return all that is printed then."""
    capsys.readouterr()
    await terminal._obey(line)
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
            [text(1, "A"), text(1, "A", progress=Arrival.DELIVERED), text(2, "A")],
            "   bot  A\n   bot  A\n",
        ),
        (
            [text(1, "A"), text(1, "A", progress=Arrival.FAILED)],
            f"   bot  A\n{FAILED}",
        ),
        ([FaultMet(NOON, ReportFault.LATE)], ""),
        ([text(1, "\x1b[31mred\r\n\u202eback")], "   bot  \ufffd[31mred\ufffd\n\ufffdback\n"),
    ],
)
def test_each_text_is_printed_once_with_who_wrote_it_and_on_another_phone_with_its_number(
    entries: list[Entry], printed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    printer = Printer()
    for entry in entries:
        printer(entry)
    assert click.unstyle(capsys.readouterr().out) == printed


def test_what_was_typed_is_not_printed_again_but_all_else_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    printer = Printer()
    printer.quiet_about = PHONE
    printer(text(1, "VERIFY", Author.PERSON))
    printer(text(2, "A code"))
    printer(text(3, "VERIFY", Author.PERSON, phone=OTHER_PHONE))
    printer(text(1, "VERIFY", Author.PERSON, progress=Arrival.FAILED))
    assert click.unstyle(capsys.readouterr().out) == (
        f"   bot  A code\n   you  [{OTHER_PHONE}] VERIFY\n{FAILED}"
    )


def test_a_text_that_comes_while_somebody_types_stands_above_the_prompt(
    capsys: pytest.CaptureFixture[str],
) -> None:
    printer = Printer()
    printer.prompt = "> "
    printer(text(1, "A code"))
    assert click.unstyle(capsys.readouterr().out) == "\r   bot  A code\n> "


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("grüße 👍 “ok”\nbye", "grüße 👍 “ok”\nbye"),
        ("\x1b]0;\x07\x00\x9b", "\ufffd]0;" + "\ufffd" * 3),
    ],
)
def test_what_is_shown_cannot_command_the_terminal(said: str, shown: str) -> None:
    assert harmless(said) == shown


@on_sqlite
async def test_a_line_is_texted_from_the_phone_and_what_comes_is_printed(
    sandbox: Sandbox, terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = await answers(terminal, "VERIFY", capsys)
    (sent,) = sandbox.telnyx.texts
    assert code_in(sent.text)
    assert printed == f"   you  VERIFY\n   bot  {sent.text}\n"
    assert await answers(terminal, "", capsys) == ""
    assert await answers(terminal, "thanks", capsys) == f"   you  thanks\n{SILENT}"


@on_sqlite
async def test_silence_while_a_text_waits_for_its_next_try_is_told_as_such(
    terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await answers(terminal, "/fault 500", capsys) == "Next time, Telnyx answers 500.\n"
    waits = "        (an answer waits for its next try)\n"
    assert await answers(terminal, "VERIFY", capsys) == f"   you  VERIFY\n{waits}"
    printed = await answers(terminal, "/later 1s", capsys)
    assert printed.startswith("   bot  Textproof code: ")
    assert printed.endswith("\nIt is 1s later now.\n")


@on_sqlite
async def test_a_text_that_fails_on_its_way_is_told_as_such(
    terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    await terminal._obey("/fault failed")
    printed = await answers(terminal, "VERIFY", capsys)
    assert printed.startswith("   you  VERIFY\n   bot  Textproof code: ")
    assert printed.endswith(f".\n{FAILED}{SILENT}")


@on_sqlite
async def test_another_phone_texts_and_the_first_is_then_the_one_with_a_number(
    sandbox: Sandbox, terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    turned = await answers(terminal, "/phone (312) 555-0002", capsys)
    assert turned == f"This is {OTHER_PHONE} now.\n"
    assert (await answers(terminal, "thanks", capsys)).startswith("   you  thanks\n")
    await sandbox.text(PHONE, "hello there")
    printed = click.unstyle(capsys.readouterr().out)
    assert printed.startswith(f"   you  [{PHONE}] hello there\n   bot  [{PHONE}] Hi, ")
    assert f"(this one is {OTHER_PHONE})" in await answers(terminal, "/help", capsys)


@on_sqlite
@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("/phone twelve", "this is not a phone number"),
        ("/phone 31255500021234", "no phone number has this many digits"),
        ("/later soon", "a length is like 30s, 11m, 2h or 1d"),
        ("/later 4000d", "that is further ahead than this clock goes"),
        ("/fault flood", "there is no fault 'flood', but 429"),
        ("/save", "say where to: /save FILE"),
    ],
)
async def test_a_command_that_is_wrong_says_what_it_expects(
    sandbox: Sandbox, terminal: Terminal, line: str, complaint: str
) -> None:
    with pytest.raises(ValueError, match=f"^{complaint}"):
        await terminal._obey(line)
    assert sandbox.clock.now() == NOON
    assert sandbox.telnyx.journal.entries == []


@on_sqlite
async def test_a_command_that_there_is_not_is_never_texted(
    sandbox: Sandbox, terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = await answers(terminal, "/VERIFY me", capsys)
    assert printed == "There is no /VERIFY; /help says what there is.\n"
    assert sandbox.telnyx.journal.entries == []


@on_sqlite
async def test_the_help_names_every_command(
    terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = await answers(terminal, "/help", capsys)
    assert [command for command in (*terminal._commands, "/quit") if command not in printed] == []


@on_sqlite
async def test_every_fault_is_offered_by_its_name(
    terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    offered = (await answers(terminal, "/fault", capsys)).splitlines()
    assert [line.split()[:2] for line in offered] == [["/fault", name] for name in MENU]
    for name, choice in MENU.items():
        assert await answers(terminal, f"/fault {name}", capsys) == f"Next time, {choice.title}.\n"


@on_sqlite
async def test_pictures_and_group_messages_are_texted_as_such(
    sandbox: Sandbox, terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (await answers(terminal, "/mms look", capsys)).startswith("   you  look\n   bot  ")
    assert await answers(terminal, "/group look", capsys) == f"   you  look\n{SILENT}"
    said = {entry.shape for entry in sandbox.telnyx.journal.entries if isinstance(entry, PhoneText)}
    assert said == {"plain", "media", "group"}


@on_sqlite
async def test_the_state_is_where_this_phone_stands_now(
    sandbox: Sandbox, terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await answers(terminal, "/state", capsys) == f"{PHONE} has never texted the bot.\n"
    telling = asyncio.create_task(keep_updated(sandbox))
    await terminal._obey("VERIFY")
    await sandbox.text(OTHER_PHONE, "STOP")
    journal = sandbox.telnyx.journal

    def stands(phone: str) -> list[State]:
        known = [entry for entry in journal.entries if isinstance(entry, PhoneStatus)]
        return [entry.state for entry in known if entry.phone == phone]

    async with asyncio.timeout(TEST_TIMEOUT):
        while not (stands(PHONE) and stands(OTHER_PHONE)):
            await journal.longer_than(len(journal.entries))
    sandbox.clock.travel(to_length("4m"))
    printed = await answers(terminal, "/state", capsys)
    assert printed == f"{PHONE}: awaiting_code, 5 tries left\n  the code ends in 360 s\n"
    sandbox.clock.travel(to_length("6m"))
    printed = await answers(terminal, "/state", capsys)
    assert printed == f"{PHONE}: awaiting_code, 5 tries left\n"
    telling.cancel()


@on_sqlite
async def test_the_wire_shows_the_last_requests_with_their_answers(
    sandbox: Sandbox, terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await answers(terminal, "/wire", capsys) == ""
    await terminal._obey("VERIFY")
    printed = (await answers(terminal, "/wire", capsys)).splitlines()
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
async def test_the_wire_shows_no_answer_where_the_connection_was_dropped(
    terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    await terminal._obey("/fault drop")
    await terminal._obey("VERIFY")
    printed = (await answers(terminal, "/wire", capsys)).splitlines()
    assert sum(line.startswith("POST ") for line in printed) == 4
    assert sum(line.startswith("HTTP/1.1 ") for line in printed) == 3


@on_sqlite
async def test_a_session_is_saved_as_a_story(
    terminal: Terminal, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "session.story"
    for line in ("/fault 429", "/later 2h", "STOP"):
        await terminal._obey(line)
    printed = await answers(terminal, f"/save {file}", capsys)
    assert printed == f"Saved. Play it again with: bot demo --play {file}\n"
    assert file.read_text(encoding="utf-8").splitlines() == [
        f"# at {NOON.isoformat()}",
        "/fault 429",
        "/later 2h",
        "> STOP",
        "* You are unsubscribed and get no more texts. Reply START to come back.",
    ]


@on_sqlite
async def test_a_file_that_cannot_be_written_is_told(terminal: Terminal, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="Is a directory"):
        await terminal._obey(f"/save {tmp_path}")
