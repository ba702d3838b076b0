"""The pretend app of `bot demo`: it asks by a key, and hears of what comes of it."""

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


def heard(sandbox: Sandbox) -> list[Exchange]:
    entries = sandbox.telnyx.journal.entries
    return [e for e in entries if isinstance(e, Exchange) and e.wire is Wire.EVENT]


def told(sandbox: Sandbox) -> list[str]:
    return [json.loads(exchange.request.body)["type"] for exchange in heard(sandbox)]


async def test_it_is_told_of_what_was_asked_with_its_key_and_the_terminal_says_so(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    sandbox.telnyx.journal.watchers.append(Printer())
    async with app_with(sandbox.bot.url or "", sandbox.key) as app:
        await app.begin(to=PHONE)
    await sandbox.quiet()
    await sandbox.text(PHONE, code_in(sandbox.telnyx.texts[-1].text) or "")
    await wait_until(lambda: "verification.verified" in told(sandbox))
    assert told(sandbox)[0] == "verification.pending"
    assert {e.answer.start for e in heard(sandbox) if e.answer} == {"HTTP/1.1 204 No Content"}
    printed = click.unstyle(capsys.readouterr().out)
    assert f"   app  is told: verification.verified, {PHONE}\n" in printed


async def test_it_believes_nobody_else(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    sandbox.telnyx.journal.watchers.append(Printer())
    async with app_with(sandbox.bot.url or "", sandbox.key) as app:
        await app.begin()
    await wait_until(lambda: bool(heard(sandbox)))
    asked = dict(heard(sandbox)[0].request.headers)
    capsys.readouterr()
    async with ClientSession() as session:
        url = f"http://{asked['Host']}/textproof"
        forged = {name: asked[name] for name in asked if name.startswith("webhook-")}
        answers = await asyncio.gather(
            *(session.post(url, data=b"no JSON", headers=headers) for headers in ({}, forged))
        )
    assert [answer.status for answer in answers] == [400, 400]
    assert capsys.readouterr().out == ""


async def test_without_one_there_is_no_key(make_sandbox: MakeSandbox) -> None:
    assert (await make_sandbox()).key is None
