from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from bot.conversation.inputs import Shape
from bot.simulator.clock import NOON, parse_duration
from bot.simulator.sandbox import PHONE
from bot.simulator.stories.player import Player, StoryError, settings_of, start_time_of
from bot.simulator.stories.transcript import code_in
from bot.simulator.telnyx.faults import find_fault
from bot.simulator.telnyx.journal import Author, ClockMoved, FaultArmed, PhoneText

if TYPE_CHECKING:
    from bot.simulator.sandbox import Sandbox
    from tests.conftest import MakeSandbox

on_sqlite = pytest.mark.parametrize("make_database", ["sqlite"], indirect=True)

OTHER_PHONE = "+13125550002"
CODE = "Textproof code: {code}. Reply with it within 10 minutes. Not you? Reply NOT ME."
SUCCESS = "Textproof: thank you, this number is verified. There is nothing more to do."
WRONG = (
    "That code is not right, 4 tries left. Please check it and reply again,"
    " or text RESEND to get it once more."
)
NO_CODE = "No code is waiting for you here. Text VERIFY to get one."
HELP = "Help: ask whoever gave you this number. Reply STOP to unsubscribe."


def texts_by(sandbox: Sandbox, author: Author = Author.PERSON) -> list[tuple[str, str]]:
    """Return the texts of an author in order, with their phones."""
    entries = sandbox.telnyx.journal.entries
    texts = {entry.id: entry for entry in entries if isinstance(entry, PhoneText)}
    return [(text.phone, text.text) for text in texts.values() if text.author is author]


@on_sqlite
async def test_a_label_that_no_app_could_send_is_refused(sandbox: Sandbox) -> None:
    with pytest.raises(StoryError, match=r"must be 1 to 24 letters"):
        await Player(sandbox).play("/ask reference evil.example")


@on_sqlite
async def test_a_story_is_played_line_by_line(sandbox: Sandbox) -> None:
    await Player(sandbox).play(f"""
        # one phone, and then another

        > VERIFY
        < {CODE}
        = awaiting_code
        /later 1.5m
        /fault 429
        /phone {OTHER_PHONE}
        /group hello
        /mms look at this
        /later 2s
        < Hi, this is Textproof. Text VERIFY to confirm your number, or HELP for help.
        = idle
        > help
        * {HELP}
        """)
    texts = [(PHONE, "VERIFY"), (OTHER_PHONE, "hello"), (OTHER_PHONE, "look at this")]
    assert texts_by(sandbox) == [*texts, (OTHER_PHONE, "help")]
    entries = sandbox.telnyx.journal.entries
    shapes = {entry.id: entry.shape for entry in entries if isinstance(entry, PhoneText)}
    assert set(shapes.values()) == set(Shape)
    assert sandbox.clock.now() == NOON + parse_duration("92s")
    moves = [entry.duration for entry in entries if isinstance(entry, ClockMoved)]
    assert moves == [parse_duration("90s"), parse_duration("2s")]
    armed = [entry.fault for entry in entries if isinstance(entry, FaultArmed)]
    assert armed == [find_fault("429")]


@on_sqlite
@pytest.mark.parametrize(
    ("script", "line", "error"),
    [
        ("VERIFY", "VERIFY", "a line begins with one of: # > < * = @ /later /fault"),
        (">VERIFY", ">VERIFY", "a line begins with one of"),
        ("/laugh 5m", "/laugh 5m", "a line begins with one of"),
        ("/fault flood", "/fault flood", "unknown fault 'flood', not one of 429, 500, 40300"),
        ("/fault", "/fault", "unknown fault '', not one of"),
        ("/later soon", "/later soon", "write a duration like 30s, 11m, 2h or 1d"),
        ("/later", "/later", "write a duration like"),
        ("/later 4000d", "/later 4000d", "the clock cannot be more than ten years ahead"),
        ("/phone 5550002", "/phone 5550002", "write a phone number like +13125550002"),
        ("/phone", "/phone", "write a phone number like"),
        ("< Hello", "< Hello", "expected this, and got nothing"),
        (f"> STATUS\n> {{code:9}}\n< {SUCCESS}", "> {code:9}", "expected nothing more, and"),
        ("> my code is {code:9}", "> my code is {code:9}", "only 0 codes have been sent so far"),
        (f"> VERIFY\n< {CODE}\n> {{code:2}}", "> {code:2}", "only 1 codes have been sent so far"),
        (f"> VERIFY\n< {CODE}\n> {{code:0}}", "> {code:0}", "only 1 codes have been sent so far"),
        ("> VERIFY\n< Hello", "< Hello", "expected this, and got: Textproof code: "),
        (f"> VERIFY\n< {CODE} ?", f"< {CODE} ?", "expected this, and got: Textproof code: "),
        ("> VERIFY\n< Textproof", "< Textproof", "expected this, and got: Textproof code: "),
        (f"> HELP\n< {HELP}", f"< {HELP}", f"expected this, and got: {HELP}"),
        (f"> VERIFY\n* {CODE}", f"* {CODE}", "expected this, and got: Textproof code: "),
        (
            f"> VERIFY\n/phone {OTHER_PHONE}\n< {CODE}",
            f"< {CODE}",
            "expected this, and got nothing",
        ),
        ("> VERIFY\n> STATUS", "> STATUS", f"expected nothing more, and {PHONE} got: Textproof"),
        ("> VERIFY\n= awaiting_code", "= awaiting_code", f"expected nothing more, and {PHONE}"),
        ("> VERIFY\n/fault 500", "/fault 500", f"expected nothing more, and {PHONE} got"),
        ("= idle", "= idle", "expected this state, and got: none"),
        (f"> HELP\n* {HELP}\n= verified", "= verified", "expected this state, and got: idle"),
    ],
)
async def test_a_line_that_fails_is_named_in_the_error(
    sandbox: Sandbox, script: str, line: str, error: str
) -> None:
    with pytest.raises(StoryError) as caught:
        await Player(sandbox).play(f"# a comment\n\n{script}")
    number = script.splitlines().index(line) + 3
    assert str(caught.value).startswith(f"line {number}: {line}\n{error}")


@on_sqlite
async def test_a_text_after_the_last_line_is_an_error(sandbox: Sandbox) -> None:
    with pytest.raises(StoryError, match=rf"expected nothing more, and \{PHONE} got: Textproof"):
        await Player(sandbox).play("> VERIFY")


@on_sqlite
async def test_a_text_after_a_final_wait_is_an_error_too(
    sandbox: Sandbox,
) -> None:
    with pytest.raises(StoryError, match=rf"expected nothing more, and \{PHONE} got: Textproof"):
        await Player(sandbox).play("/fault 500\n> VERIFY\n/later 1s\n/later 1s")


@on_sqlite
async def test_no_line_is_played_after_one_that_fails(sandbox: Sandbox) -> None:
    with pytest.raises(StoryError, match=r"^line 2: "):
        await Player(sandbox).play("> thanks\n< You are welcome.\n> HELP")
    assert texts_by(sandbox) == [(PHONE, "thanks")]


@on_sqlite
async def test_code_is_the_latest_code_and_a_number_selects_an_earlier_one(
    sandbox: Sandbox,
) -> None:
    await Player(sandbox).play(
        f"> VERIFY\n< {CODE}\n/phone {OTHER_PHONE}\n> VERIFY\n< {CODE}\n"
        f"> it's {{code}}\n< {SUCCESS}\n/phone {PHONE}\n> {{code:2}}\n< {WRONG}\n"
        f"> {{code:1}}\n< {SUCCESS}"
    )
    first, second = filter(None, (code_in(text.text) for text in sandbox.telnyx.texts))
    assert texts_by(sandbox) == [
        (PHONE, "VERIFY"),
        (OTHER_PHONE, "VERIFY"),
        (OTHER_PHONE, f"it's {second}"),
        (PHONE, second),
        (PHONE, first),
    ]


@on_sqlite
async def test_a_code_that_is_sent_again_keeps_its_number_and_is_the_latest(
    sandbox: Sandbox,
) -> None:
    again = CODE.replace("10 minutes", "9 minutes")
    await Player(sandbox).play(
        f"> VERIFY\n< {CODE}\n/phone {OTHER_PHONE}\n> VERIFY\n< {CODE}\n/later 1m\n"
        f"/phone {PHONE}\n> RESEND\n< {again}\n> {{code}}\n< {SUCCESS}\n"
        f"/phone +13125550003\n> VERIFY\n< {CODE}\n> {{code:3}}\n< {SUCCESS}\n"
        f"/phone {OTHER_PHONE}\n> {{code:2}}\n< {SUCCESS}"
    )


@on_sqlite
@pytest.mark.parametrize("settings", [{}, {"token_alphabet": "hex", "token_length": "64"}])
async def test_a_wrong_code_looks_like_the_latest_and_was_not_sent(
    make_sandbox: MakeSandbox, settings: dict[str, str]
) -> None:
    sandbox = await make_sandbox(clock=None, **settings)
    player = Player(sandbox)
    await player.play(f"> VERIFY\n< {CODE}\n> {{wrong}}\n< {WRONG}")
    (code,) = filter(None, (code_in(text.text) for text in sandbox.telnyx.texts))
    (_, wrong) = texts_by(sandbox)[-1]
    assert len(wrong) == len(code)
    assert wrong[:-1] == code[:-1]
    assert wrong != code


@on_sqlite
@pytest.mark.parametrize("other", "0123456789")
async def test_a_wrong_code_was_not_sent_even_if_the_codes_differ_by_one_digit(
    sandbox: Sandbox, other: str
) -> None:
    player = Player(sandbox)
    for digit in "0123456789".replace(other, ""):
        player._record_code(f"12345{digit}")
    assert player._fill_in("{wrong} {code} {code:1} {CODE}").split()[0] == f"12345{other}"


def test_the_settings_of_a_script_are_read_from_any_line() -> None:
    script = "# with TOKEN_ATTEMPTS=3\n> VERIFY\n#with X=1\n# within X=1\n# with  app_name = A=B  "
    assert settings_of(script) == {"token_attempts": "3", "app_name": "A=B"}
    assert settings_of("> VERIFY") == {}


@pytest.mark.parametrize(
    "name", ["DATABASE_URL", "TELNYX_BASE_URL", "TELNYX_API_KEY", "HOST", "SECRET_KEY", "NONE"]
)
def test_a_story_cannot_change_addresses_or_secrets(name: str) -> None:
    with pytest.raises(StoryError, match=rf"^# with {name}=x\na story can set NAME=VALUE for: "):
        settings_of(f"# with {name}=x")


def test_a_setting_without_a_value_is_an_error() -> None:
    with pytest.raises(StoryError, match=r"^# with TOKEN_ATTEMPTS\na story can set NAME"):
        settings_of("# with RESEND_COOLDOWN=0\n# with TOKEN_ATTEMPTS")


@on_sqlite
async def test_a_story_is_played_with_its_settings(make_sandbox: MakeSandbox) -> None:
    script = f"# with APP_NAME=Harbor\n> VERIFY\n< {CODE.replace('Textproof', 'Harbor')}"
    await Player(await make_sandbox(clock=None, **settings_of(script))).play(script)


@pytest.mark.parametrize(
    ("script", "start"),
    [
        ("> VERIFY", NOON),
        ("# at 2026-03-01T08:30:00+02:00", datetime(2026, 3, 1, 6, 30, tzinfo=UTC)),
        ("# at 2026-03-01T08:30", datetime(2026, 3, 1, 8, 30, tzinfo=UTC)),
        ("# a story\n# at 2026-03-01T08:30:00.25Z ", datetime(2026, 3, 1, 8, 30, 0, 250_000, UTC)),
        ("# at 2026-03-01\n# at 2027-03-01", datetime(2026, 3, 1, tzinfo=UTC)),
    ],
)
def test_a_script_starts_at_its_own_time_in_utc_or_at_noon(script: str, start: datetime) -> None:
    assert start_time_of(script) == start
    assert start_time_of(script).tzinfo is UTC


def test_a_malformed_start_time_is_an_error() -> None:
    expected = f"# at the end\nwrite a time like {NOON.isoformat()}"
    with pytest.raises(StoryError, match=f"^{re.escape(expected)}$"):
        start_time_of("# at the end")
