"""The pretend app of `bot demo`: it asks by a key, and hears of what comes of it."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import click
import pytest
from aiohttp import ClientSession
from harness.apps import app_with
from harness.patience import until

from bot.simulator.journal import Exchange, Wire
from bot.simulator.stage import PHONE
from bot.simulator.terminal import Printer
from bot.simulator.transcript import code_in

if TYPE_CHECKING:
    from conftest import SetStage

    from bot.simulator.stage import Stage

pytestmark = pytest.mark.parametrize("make_database", ["sqlite"], indirect=True)


@pytest.fixture
async def stage(set_stage: SetStage) -> Stage:
    return await set_stage(with_app=True)


def heard(stage: Stage) -> list[Exchange]:
    entries = stage.telnyx.journal.entries
    return [e for e in entries if isinstance(e, Exchange) and e.wire is Wire.EVENT]


def told(stage: Stage) -> list[str]:
    return [json.loads(exchange.request.body)["type"] for exchange in heard(stage)]


async def test_it_is_told_of_what_was_asked_with_its_key_and_the_terminal_says_so(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    stage.telnyx.journal.watchers.append(Printer())
    async with app_with(stage.bot.url or "", stage.key) as app:
        await app.begin(to=PHONE)
    await stage.quiet()
    await stage.text(PHONE, code_in(stage.telnyx.texts[-1].text) or "")
    await until(lambda: "verification.verified" in told(stage))
    assert told(stage)[0] == "verification.pending"
    assert {e.answer.start for e in heard(stage) if e.answer} == {"HTTP/1.1 204 No Content"}
    printed = click.unstyle(capsys.readouterr().out)
    assert f"   app  is told: verification.verified, {PHONE}\n" in printed


async def test_it_believes_nobody_else(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    stage.telnyx.journal.watchers.append(Printer())
    async with app_with(stage.bot.url or "", stage.key) as app:
        await app.begin()
    await until(lambda: bool(heard(stage)))
    asked = dict(heard(stage)[0].request.headers)
    capsys.readouterr()
    async with ClientSession() as session:
        url = f"http://{asked['Host']}/textproof"
        forged = {name: asked[name] for name in asked if name.startswith("webhook-")}
        answers = await asyncio.gather(
            *(session.post(url, data=b"no JSON", headers=headers) for headers in ({}, forged))
        )
    assert [answer.status for answer in answers] == [400, 400]
    assert capsys.readouterr().out == ""


async def test_without_one_there_is_no_key(set_stage: SetStage) -> None:
    assert (await set_stage()).key is None
