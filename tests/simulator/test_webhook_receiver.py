"""The simulated app of `bot demo`: it calls the API with a key and receives app events."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import click
import pytest
from aiohttp import ClientSession

from bot.simulator.phones.terminal import Printer
from bot.simulator.sandbox import PHONE
from bot.simulator.stories.transcript import code_in
from bot.simulator.telnyx.journal import Exchange, Wire
from tests.kit.apps import app_with
from tests.kit.timeouts import wait_until

if TYPE_CHECKING:
    from bot.simulator.sandbox import Sandbox
    from tests.conftest import MakeSandbox

pytestmark = pytest.mark.parametrize("make_database", ["sqlite"], indirect=True)


@pytest.fixture
async def sandbox(make_sandbox: MakeSandbox) -> Sandbox:
    return await make_sandbox(with_app=True)


def received(sandbox: Sandbox) -> list[Exchange]:
    entries = sandbox.telnyx.journal.entries
    return [e for e in entries if isinstance(e, Exchange) and e.wire is Wire.EVENT]


def event_types(sandbox: Sandbox) -> list[str]:
    return [json.loads(exchange.request.body)["type"] for exchange in received(sandbox)]


async def test_it_receives_the_events_of_its_verification_and_the_terminal_prints_them(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    sandbox.telnyx.journal.watchers.append(Printer())
    async with app_with(sandbox.bot.url or "", sandbox.key) as app:
        begun = await app.begin(to=PHONE, complete="reply")
    await sandbox.quiet()
    code = code_in(sandbox.telnyx.texts[-1].text)
    await sandbox.text(PHONE, f"{code} {begun['reply_with']}")
    await wait_until(lambda: "verification.verified" in event_types(sandbox))
    assert event_types(sandbox)[0] == "verification.pending"
    assert {e.response.start for e in received(sandbox) if e.response} == {
        "HTTP/1.1 204 No Content"
    }
    printed = click.unstyle(capsys.readouterr().out)
    assert f"   app  receives verification.verified, {PHONE}\n" in printed


async def test_it_refuses_requests_without_a_valid_signature(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    sandbox.telnyx.journal.watchers.append(Printer())
    async with app_with(sandbox.bot.url or "", sandbox.key) as app:
        await app.begin(to=PHONE)
    await wait_until(lambda: bool(received(sandbox)))
    headers_of_event = dict(received(sandbox)[0].request.headers)
    capsys.readouterr()
    async with ClientSession() as session:
        url = f"http://{headers_of_event['Host']}/textproof"
        forged = {
            name: value for name, value in headers_of_event.items() if name.startswith("webhook-")
        }
        responses = await asyncio.gather(
            *(session.post(url, data=b"no JSON", headers=headers) for headers in ({}, forged))
        )
    assert [response.status for response in responses] == [400, 400]
    assert "receives" not in capsys.readouterr().out


async def test_without_an_app_there_is_no_key(make_sandbox: MakeSandbox) -> None:
    assert (await make_sandbox()).key is None
