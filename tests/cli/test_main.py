from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

from bot import __version__
from bot.settings import Settings
from tests.cli.helpers import (
    WRONG_SETTINGS,
    assert_refused,
)

if TYPE_CHECKING:
    from tests.kit.processes import Processes

NEVER_WRONG = {"HOST"}


async def test_all_wrong_settings_are_reported_together_without_secrets(
    processes: Processes,
) -> None:
    assert WRONG_SETTINGS.keys() | NEVER_WRONG == {name.upper() for name in Settings.model_fields}
    ended = await processes.run("serve", env=WRONG_SETTINGS)
    assert_refused(ended, code=2)
    lines = [line for line in ended.err.splitlines() if "expected" in line]
    assert sorted(line.split()[0] for line in lines) == sorted(WRONG_SETTINGS)
    assert "TELNYX_API_KEY is missing; expected an API key from the Telnyx portal" in lines
    assert "TOKEN_TTL is wrong; expected 1 to 3600 seconds" in lines


async def test_help_lists_the_commands_and_version_the_version(processes: Processes) -> None:
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
        "security",
        "serve",
        "status",
        "unlock",
        "work",
    ]
    assert __version__ in version.out
