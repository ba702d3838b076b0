"""The form on the web with all that is behind it, on both databases."""

from __future__ import annotations

import re
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from aiohttp import ClientSession, CookieJar

from bot.simulator.clock import StoppedClock
from bot.simulator.sandbox import PHONE
from tests.kit.form_client import FormClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bot.simulator.sandbox import Sandbox
    from tests.conftest import MakeSandbox

OTHER_PHONE = "+13125550002"
TEST_NUMBER, TEST_CODE = "+15005550006", "424242"
WRONG = "That code is not right, or it has expired. Please check it, or ask for a new one."

on_sqlite = pytest.mark.parametrize("make_database", ["sqlite"], indirect=True)


@pytest.fixture(autouse=True)
def without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bot.web.form.views.RESPONSE_INTERVAL", 0.001)


@asynccontextmanager
async def asking(sandbox: Sandbox) -> AsyncIterator[FormClient]:
    """A browser of one's own."""
    async with ClientSession(cookie_jar=CookieJar(unsafe=True)) as session:
        yield FormClient(session, sandbox.bot.url or "")


async def code_on(sandbox: Sandbox, phone: str = PHONE) -> str:
    await sandbox.quiet()
    texts = [text.text for text in sandbox.telnyx.texts if text.phone == phone]
    codes: list[str] = [code for text in texts for code in re.findall(r"\b\d{6}\b", text)]
    return codes[-1]


def other_than(code: str) -> str:
    return code[:-1] + ("1" if code[-1] != "1" else "2")


async def test_who_types_the_code_that_came_by_text_is_verified(make_sandbox: MakeSandbox) -> None:
    sandbox = await make_sandbox(web_form=True)
    async with asking(sandbox) as asker:
        assert (await asker.request("(312) 555-0001")).path == "/verify"
        code = await code_on(sandbox)
        assert (await asker.post("/verify", code=other_than(code))).error == WRONG
        assert (await asker.open("/status")).body == '{"verified": false}'
        assert (await asker.post("/verify", code=code)).path == "/success"
        assert (await asker.open("/status")).body == '{"verified": true}'


async def test_who_replies_with_the_code_is_verified_on_the_page(make_sandbox: MakeSandbox) -> None:
    sandbox = await make_sandbox(web_form=True)
    async with asking(sandbox) as asker, asking(sandbox) as stranger:
        await asker.request(PHONE)
        await stranger.request(OTHER_PHONE)
        await sandbox.text(PHONE, await code_on(sandbox))
        assert (await asker.open("/status")).body == '{"verified": true}'
        assert (await asker.open("/success")).path == "/success"
        assert (await stranger.open("/status")).body == '{"verified": false}'


async def test_a_code_is_sent_again_and_is_the_same(make_sandbox: MakeSandbox) -> None:
    sandbox = await make_sandbox(web_form=True)
    async with asking(sandbox) as asker:
        await asker.request(PHONE)
        code = await code_on(sandbox)
        await sandbox.travel(PHONE, timedelta(seconds=31))
        assert (await asker.post("/resend")).path == "/verify?message=again"
        await sandbox.quiet()
        assert len([text for text in sandbox.telnyx.texts if text.phone == PHONE]) == 2
        assert await code_on(sandbox) == code
        await sandbox.travel(PHONE, timedelta(minutes=11))
        assert (await asker.post("/verify", code=code)).error == WRONG


async def test_a_test_number_needs_no_phone(make_sandbox: MakeSandbox) -> None:
    sandbox = await make_sandbox(web_form=True, test_numbers={TEST_NUMBER: TEST_CODE})
    async with asking(sandbox) as asker:
        assert (await asker.request(TEST_NUMBER)).path == "/verify"
        assert (await asker.post("/verify", code=TEST_CODE)).path == "/success"
    await sandbox.quiet()
    assert sandbox.telnyx.texts == []


@pytest.mark.parametrize("why", ["opted out", "not me", "too many codes", "locked"])
async def test_a_number_that_gets_no_code_looks_like_any_other(
    make_sandbox: MakeSandbox, why: str
) -> None:
    sandbox = await make_sandbox(web_form=True, codes_per_hour=1 if why == "too many codes" else 5)
    async with asking(sandbox) as asker:
        if why == "opted out":
            await sandbox.text(PHONE, "STOP")
        else:
            await asker.request(PHONE)
            code = await code_on(sandbox)
        if why == "not me":
            await sandbox.text(PHONE, "NOT ME")
        if why == "locked":
            for _ in range(5):
                await sandbox.text(PHONE, other_than(code))
    before = len(sandbox.telnyx.texts)
    seen = []
    async with asking(sandbox) as asker, asking(sandbox) as other:
        for one, phone in ((asker, PHONE), (other, OTHER_PHONE)):
            pages = [
                await one.request(phone),
                await one.post("/verify", code="000000"),
                await one.post("/resend"),
                await one.open("/success"),
                await one.open("/status"),
            ]
            seen.append([(page.status, page.path, blurred(page.body)) for page in pages])
    await sandbox.quiet()
    assert seen[0] == seen[1]
    new = [text.phone for text in sandbox.telnyx.texts[before:]]
    assert new == [OTHER_PHONE]


def blurred(body: str) -> str:
    """Take out what differs between any two people."""
    return re.sub(r"[0-9a-f]{64}|\+1 312-555-000\d", "…", body)


async def test_ten_requests_in_an_hour_are_enough_from_one_network(
    make_sandbox: MakeSandbox,
) -> None:
    sandbox = await make_sandbox(web_form=True)
    async with asking(sandbox) as asker:
        for each in range(10):
            assert (await asker.request(f"312 555 02{each:02}")).status == 200
        refused = await asker.request(PHONE)
        assert refused.status == 429
        assert 0 < int(refused.headers["Retry-After"]) <= 3600
        await sandbox.travel(PHONE, timedelta(hours=1, seconds=1))
        assert (await asker.request(PHONE)).status == 200


@on_sqlite
async def test_the_codes_of_a_day_are_counted_for_all_together(make_sandbox: MakeSandbox) -> None:
    sandbox = await make_sandbox(web_form=True, web_codes_per_day=1)
    async with asking(sandbox) as asker:
        assert (await asker.request(PHONE)).status == 200
        assert (await asker.request(OTHER_PHONE)).status == 429


@on_sqlite
async def test_without_the_setting_there_is_no_form(make_sandbox: MakeSandbox) -> None:
    sandbox = await make_sandbox(clock=StoppedClock())
    async with asking(sandbox) as asker:
        for method, path in (("GET", "/"), ("POST", "/request"), ("GET", "/static/form.css")):
            assert (await asker.ask(method, path)).status == 404
