"""Runs what docs/events.md shows to app developers."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
import sys
from asyncio.subprocess import PIPE
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bot.app_events.client import open_client
from bot.app_events.results import PostAccepted, PostLater
from bot.conversation.app_events import EventType
from bot.services.schemas import AppEventView
from tests.kit.event_receiver import EVENTS_SECRET, NEXT_EVENTS_SECRET
from tests.kit.ports import free_port
from tests.kit.timeouts import TEST_TIMEOUT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bot.app_events.results import PostResult

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "events.md").read_text(encoding="utf-8")
EXAMPLE = DOCS / "examples" / "receive_events.py"
(PAYLOAD,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)


class ExampleReceiver:
    """The example in docs/examples, running."""

    def __init__(self, process: asyncio.subprocess.Process, url: str) -> None:
        self._process = process
        self._url = url

    async def post(self, name: str, secret: str = EVENTS_SECRET) -> PostResult:
        async with open_client(self._url, [secret], to_private=True) as app:
            return await app.post(name=name, body=PAYLOAD, at=datetime.now(UTC))

    async def until_there(self) -> None:
        async with asyncio.timeout(TEST_TIMEOUT):
            while await self.post("msg_0", NEXT_EVENTS_SECRET) != PostLater("HTTP 400"):  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    async def end(self) -> str:
        """Terminate the example, and return its output."""
        self._process.terminate()
        output, _ = await asyncio.wait_for(self._process.communicate(), TEST_TIMEOUT)
        return output.decode()


@pytest.fixture
async def receiving() -> AsyncIterator[ExampleReceiver]:
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        EXAMPLE,
        env={"EVENTS_SECRET": EVENTS_SECRET, "PORT": str(port)},
        stdout=PIPE,
    )
    try:
        yield ExampleReceiver(process, f"http://127.0.0.1:{port}/textproof")
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def test_the_example_accepts_signed_events_and_handles_each_once(
    receiving: ExampleReceiver,
) -> None:
    await receiving.until_there()
    for name in ("msg_1", "msg_1", "msg_2"):
        assert await receiving.post(name) == PostAccepted()
    assert await receiving.post("msg_3", NEXT_EVENTS_SECRET) == PostLater("HTTP 400")
    assert await receiving.end() == "verification.verified session-42\n" * 2


def test_the_page_shows_the_example_as_it_is() -> None:
    assert f"```python\n{EXAMPLE.read_text(encoding='utf-8')}```" in PAGE


def test_the_page_shows_an_event_as_it_is() -> None:
    view = AppEventView.model_validate_json(PAYLOAD)
    assert json.loads(view.model_dump_json()) == json.loads(PAYLOAD)


def test_the_page_names_every_type_of_event() -> None:
    assert re.findall(r"^\| `([a-z_]+\.[a-z_]+)` \|", PAGE, re.MULTILINE) == list(EventType)


async def test_the_command_on_the_page_makes_a_valid_secret() -> None:
    (command,) = re.findall(r'^    python -c "(.+)"$', PAGE, re.MULTILINE)
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", command, stdout=PIPE)
    output, _ = await process.communicate()
    secret = output.decode().strip()
    assert len(base64.b64decode(secret.removeprefix("whsec_"), validate=True)) == 32
