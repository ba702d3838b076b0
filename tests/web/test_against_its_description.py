"""Schemathesis asks all that the description allows, and what it does not allow."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from harness.apps import FakeVerifications, make_key
from harness.serving import served

from bot.simulator.clock import TravelClock

if TYPE_CHECKING:
    from bot.store.database import Database

SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
EXAMPLES = 60
"""Requests for each operation and kind of test."""


async def schemathesis(url: str, key: str, folder: Path) -> tuple[int | None, str]:
    """Ask away; return the exit code and what was found."""
    process = await asyncio.create_subprocess_exec(
        SCHEMATHESIS,
        *("run", f"{url}/openapi.json", "--header", f"Authorization: Bearer {key}"),
        # A description cannot say which numbers are in use, so what it allows may be refused.
        *("--exclude-checks", "positive_data_acceptance"),
        *("--max-examples", str(EXAMPLES), "--continue-on-failure", "--no-color"),
        cwd=folder,
        env={"PATH": os.defpath, "HOME": str(folder), "LANG": "C.UTF-8"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    return process.returncode, out.decode()


@pytest.mark.parametrize("make_database", ["sqlite"], indirect=True)
async def test_the_api_is_as_it_describes_itself(database: Database, tmp_path: Path) -> None:
    clock = TravelClock()
    async with served(FakeVerifications(clock), database, clock) as url:
        code, found = await schemathesis(url, await make_key(database, clock), tmp_path)
    assert code == 0, found
    assert "6 selected / 6 total" in found
    assert "No issues found" in found
