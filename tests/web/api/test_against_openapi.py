"""Schemathesis asks all that the description allows, and what it does not allow."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.kit.apps import make_key

if TYPE_CHECKING:
    from bot.simulator.sandbox import Sandbox

SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
EXAMPLES = 25
"""Requests for each operation and kind of test."""


async def schemathesis(url: str, key: str, folder: Path) -> tuple[int | None, str]:
    """Ask away; return the exit code and what was found."""
    process = await asyncio.create_subprocess_exec(
        SCHEMATHESIS,
        *("run", f"{url}/openapi.json", "--header", f"Authorization: Bearer {key}"),
        # A description cannot say which numbers are in use, so what it allows may be refused.
        *("--exclude-checks", "positive_data_acceptance"),
        *(
            "--max-examples",
            str(EXAMPLES),
            "--continue-on-failure",
            "--no-color",
            "--warnings",
            "off",
        ),
        cwd=folder,
        env={"PATH": os.defpath, "HOME": str(folder), "LANG": "C.UTF-8"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    return process.returncode, out.decode()


async def test_the_api_is_as_it_describes_itself(sandbox: Sandbox, tmp_path: Path) -> None:
    key = await make_key(sandbox.bot.database, sandbox.clock)
    code, found = await schemathesis(sandbox.bot.url or "", key, tmp_path)
    assert code == 0, found
    assert "6 selected / 6 total" in found
    assert "No issues found" in found
