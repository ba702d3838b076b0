from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.cli.helpers import (
    CODE,
    SUCCESS,
    WRONG_SETTINGS,
    code_in,
)
from tests.kit.timeouts import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kit.processes import Processes


async def test_demo_once_prints_a_conversation_reads_no_settings_and_leaves_no_files(
    folder: Path, tmp_path: Path, processes: Processes
) -> None:
    ended = await processes.run_cold(
        "demo", "--once", env=WRONG_SETTINGS | {"TMPDIR": str(tmp_path)}
    )
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
        """Type a line, and return the output up to the expected match."""
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
    await type_and_read("/later soon", "write a duration like")
    await type_and_read("/dance", "Unknown command /dance")
    await type_and_read("/help", "/quit")
    bot.write_line("/quit")
    ended = await bot.end()
    assert (ended.code, ended.err) == (0, "")
