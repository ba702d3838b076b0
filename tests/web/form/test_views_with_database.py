"""The web form of a whole bot, on both databases."""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from aiohttp import ClientSession, CookieJar

from bot.simulator.clock import StoppedClock
from bot.simulator.sandbox import PHONE
from tests.kit.form_client import FormClient, solved
from tests.kit.form_visits import begin_at_form, proven

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bot.simulator.sandbox import Sandbox
    from tests.conftest import MakeSandbox
    from tests.kit.form_client import Page

OTHER_PHONE = "+13125550002"
TEST_NUMBER, TEST_CODE = "+15005550006", "424242"
WRONG = "That code is not right, or it has expired. Please check it, or ask for a new one."

on_sqlite = pytest.mark.parametrize("make_database", ["sqlite"], indirect=True)


@pytest.fixture(autouse=True)
def without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bot.web.form.views.RESPONSE_INTERVAL", 0.001)


@asynccontextmanager
async def browsing(sandbox: Sandbox) -> AsyncIterator[FormClient]:
    """Open a new browser session."""
    async with ClientSession(cookie_jar=CookieJar(unsafe=True)) as session:
        yield FormClient(session, sandbox.bot.url or "")


async def code_on(sandbox: Sandbox, phone: str = PHONE) -> str:
    await sandbox.quiet()
    texts = [text.text for text in sandbox.telnyx.texts if text.phone == phone]
    codes: list[str] = [code for text in texts for code in re.findall(r"\b\d{6}\b", text)]
    return codes[-1]


def other_than(code: str) -> str:
    return code[:-1] + ("1" if code[-1] != "1" else "2")


def letters_on(page: Page) -> str:
    found = re.search(r'class="letters">([A-Z]{2})<', page.body)
    assert found is not None
    return found[1]


async def test_typing_the_code_from_the_text_verifies_the_number(make_sandbox: MakeSandbox) -> None:
    sandbox = await make_sandbox(web_form=True)
    async with browsing(sandbox) as person:
        assert (await person.request("(312) 555-0001")).path == "/verify"
        code = await code_on(sandbox)
        assert (await person.post("/verify", code=other_than(code))).error == WRONG
        assert (await person.open("/status")).body == '{"verified": false}'
        assert (await person.post("/verify", code=code)).path == "/success"
        assert (await person.open("/status")).body == '{"verified": true}'


async def test_replying_with_the_code_verifies_the_number_on_the_page(
    make_sandbox: MakeSandbox,
) -> None:
    sandbox = await make_sandbox(web_form=True)
    async with browsing(sandbox) as person, browsing(sandbox) as stranger:
        await person.request(PHONE)
        await stranger.request(OTHER_PHONE)
        await sandbox.text(PHONE, await code_on(sandbox))
        assert (await person.open("/status")).body == '{"verified": false}'
        letters = letters_on(await person.open("/verify"))
        await sandbox.text(PHONE, f"{await code_on(sandbox)} {letters}")
        assert (await person.open("/status")).body == '{"verified": true}'
        assert (await person.open("/success")).path == "/success"
        assert (await stranger.open("/status")).body == '{"verified": false}'


@pytest.mark.parametrize("page", ["/success", "/verify"])
async def test_not_me_after_a_success_is_shown_plainly_to_the_session(
    make_sandbox: MakeSandbox, page: str
) -> None:
    sandbox = await make_sandbox(web_form=True)
    async with browsing(sandbox) as person, browsing(sandbox) as stranger:
        await person.request(PHONE)
        await person.post("/verify", code=await code_on(sandbox))
        assert (await person.open("/success")).path == "/success"
        await sandbox.text(PHONE, "NOT ME")
        shown = await person.open(page)
        assert (shown.status, shown.path) == (200, page)
        assert "your verification was revoked" in shown.body
        assert (await person.open("/status")).body == '{"verified": false}'
        assert "revoked" not in (await stranger.open(page)).body


async def test_a_resent_code_is_the_same(make_sandbox: MakeSandbox) -> None:
    sandbox = await make_sandbox(web_form=True)
    async with browsing(sandbox) as person:
        await person.request(PHONE)
        code = await code_on(sandbox)
        await sandbox.travel(PHONE, timedelta(seconds=31))
        assert (await person.post("/resend")).path == "/verify?message=again"
        await sandbox.quiet()
        assert len([text for text in sandbox.telnyx.texts if text.phone == PHONE]) == 2
        assert await code_on(sandbox) == code
        await sandbox.travel(PHONE, timedelta(minutes=11))
        assert (await person.post("/verify", code=code)).error == WRONG


async def test_a_test_number_needs_no_phone(make_sandbox: MakeSandbox) -> None:
    sandbox = await make_sandbox(web_form=True, test_numbers={TEST_NUMBER: TEST_CODE})
    async with browsing(sandbox) as person:
        assert (await person.request(TEST_NUMBER)).path == "/verify"
        assert (await person.post("/verify", code=TEST_CODE)).path == "/success"
    await sandbox.quiet()
    assert sandbox.telnyx.texts == []


@pytest.mark.parametrize("why", ["opted out", "not me", "too many codes"])
async def test_a_number_that_gets_no_code_looks_like_any_other(
    make_sandbox: MakeSandbox, why: str
) -> None:
    sandbox = await make_sandbox(web_form=True, codes_per_hour=1 if why == "too many codes" else 5)
    async with browsing(sandbox) as person:
        if why == "opted out":
            await sandbox.text(PHONE, "STOP")
        else:
            await person.request(PHONE)
            await sandbox.quiet()
        if why == "not me":
            await sandbox.text(PHONE, "NOT ME")
    before = len(sandbox.telnyx.texts)
    seen = []
    async with browsing(sandbox) as person, browsing(sandbox) as other:
        for one, phone in ((person, PHONE), (other, OTHER_PHONE)):
            pages = [
                await one.request(phone),
                await one.post("/verify", code="000000"),
                await one.post("/resend"),
                await one.open("/success"),
                await one.open("/status"),
            ]
            seen.append([(page.status, page.path, anonymized(page.body)) for page in pages])
    await sandbox.quiet()
    assert seen[0] == seen[1]
    new = [text.phone for text in sandbox.telnyx.texts[before:]]
    assert new == [OTHER_PHONE]


async def test_at_100_percent_verified_and_unknown_numbers_look_the_same(
    make_sandbox: MakeSandbox,
) -> None:
    sandbox = await make_sandbox(web_form=True, web_codes_per_day=50)
    await sandbox.text(PHONE, "VERIFY")
    await sandbox.text(PHONE, await code_on(sandbox))
    apps = sandbox.bot.verifications
    assert apps is not None
    fill = (
        begin_at_form(apps, f"+1312555{1000 + each}", proven(f"network {each}"))
        for each in range(50)
    )
    await asyncio.gather(*fill)
    await sandbox.quiet()
    before, seen = len(sandbox.telnyx.texts), []
    for phone in (PHONE, OTHER_PHONE):
        async with browsing(sandbox) as person:
            pages = [await person.request(phone)]
            pages += [await person.post("/request", **solved(pages[-1]))]
            pages += [await person.post("/verify", code="000000"), await person.post("/resend")]
            pages += [await person.post("/resend", **solved(pages[-1]))]
            pages += [await person.open("/success"), await person.open("/status")]
        seen.append(
            [(page.status, page.path, anonymized(page.body), names(page)) for page in pages]
        )
    await sandbox.quiet()
    assert seen[0] == seen[1]
    assert [text.phone for text in sandbox.telnyx.texts[before:]] == [PHONE]


def names(page: Page) -> list[str]:
    return sorted(name for name in page.headers if name != "Set-Cookie")


def anonymized(body: str) -> str:
    """Replace what differs between any two people."""
    different = r"[0-9a-f]{32,64}(-\d+)?|\+1 ?312-?555-?000\d|(?<=letters\">)[A-Z]{2}"
    return re.sub(different, "…", body)


async def test_one_network_has_ten_requests_an_hour(
    make_sandbox: MakeSandbox,
) -> None:
    sandbox = await make_sandbox(web_form=True)
    async with browsing(sandbox) as person:
        for each in range(10):
            assert (await person.request(f"312 555 02{each:02}")).status == 200
        refused = await person.request(PHONE)
        assert refused.status == 429
        assert 0 < int(refused.headers["Retry-After"]) <= 3600
        await sandbox.travel(PHONE, timedelta(hours=1, seconds=1))
        assert (await person.request(PHONE)).status == 200


@on_sqlite
async def test_the_codes_of_a_day_are_counted_for_all_people_together(
    make_sandbox: MakeSandbox,
) -> None:
    sandbox = await make_sandbox(web_form=True, web_codes_per_day=1)
    async with browsing(sandbox) as person:
        assert (await person.request(PHONE)).status == 200
        assert (await person.request(OTHER_PHONE)).status == 429


@on_sqlite
async def test_without_the_setting_there_is_no_form(make_sandbox: MakeSandbox) -> None:
    sandbox = await make_sandbox(clock=StoppedClock())
    async with browsing(sandbox) as person:
        for method, path in (("GET", "/"), ("POST", "/request"), ("GET", "/static/form.css")):
            assert (await person.ask(method, path)).status == 404
