"""The examples of docs/api.md, run against a running bot."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bot.simulator.clock import TravelClock
from bot.simulator.sandbox import BOT_NUMBER, PHONE
from bot.simulator.stories.transcript import code_in
from tests.kit.apps import make_key

if TYPE_CHECKING:
    from asyncio.subprocess import Process

    from bot.simulator.sandbox import Sandbox
    from tests.conftest import MakeSandbox

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"
TEST_NUMBER, TEST_CODE = "+15005550006", "123456"
EXAMPLE_TIMEOUT = 30.0
"""Seconds an example may run."""

pytestmark = pytest.mark.parametrize("make_database", ["sqlite"], indirect=True)


class ExampleRunner:
    """Runs examples with a key and the address of a sandbox."""

    def __init__(self, sandbox: Sandbox, key: str) -> None:
        self.sandbox = sandbox
        url = sandbox.bot.url or ""
        self._env = {"PATH": os.defpath, "TEXTPROOF_URL": url, "TEXTPROOF_KEY": key}

    async def start(self, *command: str) -> Process:
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(
            *command, env=self._env, stdin=pipe, stdout=pipe, stderr=pipe
        )

    async def run(self, *command: str, typing: str = "") -> tuple[int | None, str, str]:
        process = await self.start(*command)
        async with asyncio.timeout(EXAMPLE_TIMEOUT):
            out, err = await process.communicate(typing.encode())
        return process.returncode, out.decode(), err.decode()


@pytest.fixture
async def examples(make_sandbox: MakeSandbox) -> ExampleRunner:
    sandbox = await make_sandbox(clock=TravelClock(), test_numbers={TEST_NUMBER: TEST_CODE})
    return ExampleRunner(sandbox, await make_key(sandbox.bot.database, sandbox.clock))


async def test_the_curl_example_verifies_a_number(examples: ExampleRunner) -> None:
    if not shutil.which("curl", path=os.defpath):
        pytest.skip("curl is not installed")
    command = str(EXAMPLES / "verify.sh")
    code, out, err = await examples.run(command, TEST_NUMBER, typing=f"{TEST_CODE}\n")
    assert (code, err) == (0, "")
    assert '{"valid":true,' in out
    code, _, err = await examples.run(command, BOT_NUMBER)
    assert code != 0
    assert "422" in err


async def test_the_python_example_accepts_a_code_after_a_wrong_one(
    examples: ExampleRunner,
) -> None:
    command = (sys.executable, str(EXAMPLES / "verify.py"))
    code, out, err = await examples.run(*command, TEST_NUMBER, typing=f"000000\n{TEST_CODE}\n")
    assert (code, err) == (0, "")
    assert "Wrong code, 4 tries left." in out
    assert out.endswith("verified\n")
    code, out, err = await examples.run(*command, "+442079460000")
    assert (code, out) == (1, "")
    assert ": to: this is a landline" in err


async def test_the_reference_example_verifies_the_texting_phone(
    examples: ExampleRunner,
) -> None:
    process = await examples.start(sys.executable, str(EXAMPLES / "text_in.py"))
    assert process.stdout is not None
    async with asyncio.timeout(EXAMPLE_TIMEOUT):
        instruction = (await process.stdout.readline()).decode()
        assert instruction.endswith(" to +1 312-555-0100\n")
        to_text = instruction.removeprefix("Text ").partition(" to ")[0]
        (sent,) = await examples.sandbox.text(PHONE, to_text)
        await examples.sandbox.text(PHONE, code_in(sent.text) or "")
        out, err = await process.communicate()
    assert (process.returncode, err) == (0, b"")
    assert out.decode().endswith(f"texted from {PHONE}: is this yours?\nverified {PHONE}\n")
