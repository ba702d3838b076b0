"""The examples of the API's guide, run as a reader would run them."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from harness.apps import CODE, REFERENCE, FakeVerifications, make_key
from harness.serving import served

from bot.conversation.verification import Status
from bot.simulator.clock import TravelClock
from bot.simulator.stage import BOT_NUMBER, PHONE

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator

    from bot.store.database import Database

DOCS = Path(__file__).parents[1] / "docs"
EXAMPLES = DOCS / "examples"
PATIENCE = 30.0

pytestmark = pytest.mark.parametrize("make_database", ["sqlite"], indirect=True)


class Reader:
    """Somebody who has a key and tries the examples."""

    def __init__(self, url: str, key: str, bot: FakeVerifications) -> None:
        self.bot = bot
        self._env = {"PATH": os.defpath, "TEXTPROOF_URL": url, "TEXTPROOF_KEY": key}

    async def start(self, *command: str) -> Process:
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(
            *command, env=self._env, stdin=pipe, stdout=pipe, stderr=pipe
        )

    async def run(self, *command: str, typing: str = "") -> tuple[int | None, str, str]:
        process = await self.start(*command)
        async with asyncio.timeout(PATIENCE):
            out, err = await process.communicate(typing.encode())
        return process.returncode, out.decode(), err.decode()


@pytest.fixture
async def reader(database: Database) -> AsyncIterator[Reader]:
    clock = TravelClock()
    bot = FakeVerifications(clock)
    key = await make_key(database, clock)
    async with served(bot, database, clock) as url:
        yield Reader(url, key, bot)


async def test_a_number_is_proven_with_curl(reader: Reader) -> None:
    if not shutil.which("curl", path=os.defpath):
        pytest.skip("there is no curl")
    code, out, err = await reader.run(str(EXAMPLES / "verify.sh"), PHONE, typing=f"{CODE}\n")
    assert (code, err) == (0, "")
    assert '{"valid":true,' in out
    code, out, err = await reader.run(str(EXAMPLES / "verify.sh"), BOT_NUMBER)
    assert code != 0
    assert "422" in err


async def test_a_number_is_proven_in_python_after_a_wrong_code(reader: Reader) -> None:
    command = (sys.executable, str(EXAMPLES / "verify.py"))
    code, out, err = await reader.run(*command, PHONE, typing=f"000000\n{CODE}\n")
    assert (code, err) == (0, "")
    assert "That is not it; 4 tries are left." in out
    assert out.endswith("verified\n")
    code, out, err = await reader.run(*command, "+442079460000")
    assert (code, out) == (1, "")
    assert err.endswith(": to: a landline cannot be texted\n")


async def test_somebody_is_proven_by_texting_a_reference(reader: Reader) -> None:
    process = await reader.start(sys.executable, str(EXAMPLES / "text_in.py"))
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE):
        assert (await process.stdout.readline()).decode() == (
            f"Text VERIFY {REFERENCE} to +1 312-555-0100\n"
        )
        (begun,) = reader.bot.kept.values()
        verified = replace(begun, phone=PHONE, status=Status.VERIFIED)
        reader.bot.kept[begun.id] = verified
        out, err = await process.communicate()
    assert (process.returncode, err) == (0, b"")
    assert out.decode().endswith(f"verified {PHONE}\n")
