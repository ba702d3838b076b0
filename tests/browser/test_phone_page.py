"""The phone page in a real browser, as people use it."""

from __future__ import annotations

import asyncio
import re
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from playwright.async_api import expect

from bot.simulator.clock import StoppedClock, TravelClock
from bot.simulator.phone_status import record_changes
from bot.simulator.phones.page.server import serve_page
from bot.simulator.sandbox import BOT_NUMBER, PHONE, Sandbox, open_sandbox
from bot.simulator.stories.player import Player, start_time_of
from bot.simulator.telnyx.faults import NAMED_FAULTS
from tests.kit import browser as browsers
from tests.kit.processes import Processes
from tests.kit.timeouts import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from playwright.async_api import Browser, BrowserContext, Locator, Page

pytestmark = pytest.mark.asyncio(loop_scope="module")

OTHER_PHONE = "+13125550002"
SUCCESS = "this number is verified"
NONE = "–"  # noqa: RUF001 - a dash, as the page has it
CODE_TEXT = "Reply with it within"
TIMEOUT = 60_000
"""Milliseconds until a test fails; a few hundred are normal on a slow machine."""
NARROW = {"width": 320, "height": 640}

expect.set_options(timeout=TIMEOUT)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with browsers.browser() as browser:
        if browser is None:
            pytest.skip(browsers.HOW_TO_GET_ONE)
        yield browser


@pytest_asyncio.fixture(loop_scope="module")
async def context(browser: Browser) -> AsyncIterator[BrowserContext]:
    """Yield a new browser profile; any error in its pages fails the test."""
    wrong: list[str] = []
    context = await browser.new_context()
    context.set_default_timeout(TIMEOUT)
    context.on("console", lambda entry: wrong.append(entry.text) if entry.type == "error" else None)
    context.on("weberror", lambda error: wrong.append(str(error.error)))
    context.on("dialog", lambda dialog: wrong.append(dialog.message))
    yield context
    await context.close()
    assert [error for error in wrong if "ERR_CONNECTION_REFUSED" not in error] == []


@asynccontextmanager
async def run_demo(folder: Path, port: int | None = 0) -> AsyncIterator[tuple[Sandbox, str]]:
    """Run the demo in this process."""
    url = f"sqlite+aiosqlite:///{folder / 'demo.db'}"
    async with open_sandbox(url, TravelClock()) as sandbox, serve_page(sandbox, port) as address:
        await sandbox.ready()
        recording = asyncio.create_task(record_changes(sandbox))
        yield sandbox, address
        recording.cancel()


@pytest_asyncio.fixture(loop_scope="module")
async def demo(tmp_path: Path) -> AsyncIterator[tuple[Sandbox, str]]:
    async with run_demo(tmp_path) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def page(context: BrowserContext, demo: tuple[Sandbox, str]) -> Page:
    return await opened(context, demo[1])


async def opened(context: BrowserContext, address: str) -> Page:
    page = await context.new_page()
    await page.goto(address)
    await expect(page.get_by_text("connected", exact=True)).to_be_visible()
    return page


def phone(page: Page, number: str = PHONE) -> Locator:
    return page.get_by_role("article", name=number)


def messages(page: Page, number: str = PHONE) -> Locator:
    return phone(page, number).get_by_role("log", name=f"Messages of {number}").locator(".message")


def fact(page: Page, name: str, number: str = PHONE) -> Locator:
    return phone(page, number).locator(f"[data-fact={name}]")


async def text(page: Page, said: str, number: str = PHONE) -> None:
    await phone(page, number).get_by_role("textbox", name=f"Text from {number}").fill(said)
    await phone(page, number).get_by_role("button", name="Send", exact=True).click()


async def code_of(page: Page, number: str = PHONE) -> str:
    code = phone(page, number).get_by_role("button", name="Fill in the code").last
    return (await code.text_content()) or ""


def other_than(code: str) -> str:
    return code[:-1] + ("1" if code[-1] != "1" else "2")


async def test_a_person_can_start_the_demo_text_verify_and_be_verified(
    context: BrowserContext, tmp_path: Path
) -> None:
    async with Processes(tmp_path) as processes:
        bot = await processes.start_cold("demo", "--port", "0")
        await wait_until(lambda: "web form" in bot.out)
        address, form, *_ = re.findall(r"http://\S+", bot.out)
        page = await opened(context, address)
        link = page.get_by_role("link", name="the web form")
        assert await link.get_attribute("href") == form
        await page.keyboard.type("VERIFY")
        await page.keyboard.press("Enter")
        await page.get_by_role("button", name="Fill in the code").click()
        await page.keyboard.press("Enter")
        await expect(messages(page).last).to_contain_text(SUCCESS)
        await expect(fact(page, "state")).to_have_text("verified")
        bot.send(signal.SIGINT)  # with the page still open
        ended = await bot.end()
    assert (ended.code, ended.err) == (0, "")
    await expect(page.get_by_text("the demo does not answer")).to_be_visible()


async def test_a_conversation_shows_each_text_with_its_time_cost_and_progress(page: Page) -> None:
    await text(page, "verify please ☎")
    asked, sent = messages(page).nth(0), messages(page).nth(1)
    await expect(asked).to_contain_text("verify please ☎")
    await expect(asked).to_contain_text("1 segment, UCS-2 · ✓✓ delivered")
    await expect(sent).to_contain_text(re.compile(r"Textproof code: \d{6}\. Reply with it within"))
    await expect(sent).to_contain_text(
        re.compile(r"after [\d.]+ m?s · 1 segment, GSM-7 · ✓✓ delivered")
    )
    await text(page, "HELP")
    await expect(messages(page).nth(3)).to_contain_text("by Telnyx itself")


async def test_a_phone_shows_the_bots_view_of_its_conversation(page: Page) -> None:
    await text(page, "VERIFY")
    await expect(fact(page, "state")).to_have_text("awaiting the code")
    await expect(fact(page, "tries")).to_have_text("5")
    await expect(fact(page, "expiry")).to_have_text(re.compile(r"in 09:\d\d"))
    code = await code_of(page)
    for tries in ("4", "3", "2", "1"):
        await text(page, other_than(code))
        await expect(fact(page, "tries")).to_have_text(tries)
    await text(page, other_than(code))
    await expect(fact(page, "state")).to_have_text(re.compile(r"locked for 14:\d\d"))
    await expect(fact(page, "expiry")).to_have_text(NONE)


async def test_a_tap_fills_in_the_code_and_leaves_sending_to_the_person(page: Page) -> None:
    await text(page, "VERIFY")
    await phone(page).get_by_role("button", name="Fill in the code").click()
    box = phone(page).get_by_role("textbox")
    await expect(box).to_have_value(await code_of(page))
    await expect(box).to_be_focused()
    await expect(messages(page)).to_have_count(2)
    await page.keyboard.press("Enter")
    await expect(messages(page).nth(3)).to_contain_text(SUCCESS)
    await expect(fact(page, "state")).to_have_text("verified")


async def test_a_fault_happens_once_and_the_text_is_sent_with_the_next_attempt(page: Page) -> None:
    fault = page.get_by_role("button", name=NAMED_FAULTS["500"].title)
    await fault.click()
    await expect(fault).to_contain_text("armed")
    await text(page, "VERIFY")
    await expect(fault).not_to_contain_text("armed")
    await expect(page.locator(".exchange .status.bad")).to_have_text("500")
    await expect(messages(page).nth(1)).to_contain_text(CODE_TEXT)
    await expect(messages(page).nth(1)).to_contain_text(re.compile(r"after [\d.]+ s"))


async def test_a_dropped_connection_is_shown_and_texts_the_phone_once(page: Page) -> None:
    await page.get_by_role("button", name=NAMED_FAULTS["drop"].title).click()
    await text(page, "VERIFY")
    await expect(page.locator(".exchange .status.bad")).to_have_text("dropped")
    requests = page.locator(".exchange").filter(has_text="/v2/messages")
    await expect(requests).to_have_count(2)
    await expect(messages(page)).to_have_count(2)


async def test_a_text_that_does_not_arrive_says_so(page: Page) -> None:
    await page.get_by_role("button", name=NAMED_FAULTS["failed"].title).click()
    await text(page, "VERIFY")
    await expect(messages(page).nth(1)).to_contain_text("✗ failed")


async def test_a_jump_in_time_ends_a_code(page: Page) -> None:
    await text(page, "VERIFY")
    await expect(fact(page, "expiry")).to_have_text(re.compile("in "))
    code = await code_of(page)
    await page.get_by_role("button", name="11 minutes").click()
    await expect(fact(page, "expiry")).to_have_text("it has expired")
    await text(page, code)
    await expect(messages(page).last).to_contain_text("Your code has expired.")
    await expect(fact(page, "state")).to_have_text("idle")


async def test_two_phones_each_have_a_code_of_their_own(page: Page) -> None:
    await page.get_by_role("button", name="Add a phone").click()
    await expect(phone(page, OTHER_PHONE).get_by_role("textbox")).to_be_focused()
    await text(page, "VERIFY")
    await text(page, "VERIFY", OTHER_PHONE)
    await expect(messages(page)).to_have_count(2)
    await expect(messages(page, OTHER_PHONE)).to_have_count(2)
    await text(page, await code_of(page), OTHER_PHONE)
    await expect(messages(page, OTHER_PHONE).last).to_contain_text("That code is not right")
    await text(page, await code_of(page))
    await expect(fact(page, "state")).to_have_text("verified")
    await expect(fact(page, "state", OTHER_PHONE)).to_have_text("awaiting the code")


async def test_the_keyboard_alone_is_enough(page: Page) -> None:
    async def walk_to(name: str, key: str = "Tab") -> None:
        """Press a key until the control with this name has the focus."""
        for _ in range(60):
            await page.keyboard.press(key)
            focused = page.locator(":focus")
            label = await focused.get_attribute("aria-label") if await focused.count() else None
            if name in (label or await focused.text_content() or ""):
                return
        raise AssertionError(name)

    await page.keyboard.type("VERIFY")
    await page.keyboard.press("Enter")
    await expect(messages(page).nth(1)).to_contain_text(CODE_TEXT)
    await walk_to("Fill in the code", "Shift+Tab")
    await page.keyboard.press("Enter")
    await page.keyboard.press("Enter")
    await expect(fact(page, "state")).to_have_text("verified")
    await walk_to("Add a phone")
    await page.keyboard.press("Space")
    await page.keyboard.type("VERIFY")
    await page.keyboard.press("Enter")
    await expect(fact(page, "state", OTHER_PHONE)).to_have_text("awaiting the code")
    await walk_to("11 minutes")
    await page.keyboard.press("Space")
    await expect(fact(page, "expiry", OTHER_PHONE)).to_have_text("it has expired")
    await walk_to(NAMED_FAULTS["failed"].title)
    await page.keyboard.press("Enter")
    await expect(page.locator(".armed:not(:empty)")).to_have_count(1)
    await walk_to("/v2/messages")
    await page.keyboard.press("Enter")
    await expect(page.locator(".exchange[open]")).to_have_count(1)


async def test_the_inspector_shows_requests_as_they_were_sent(page: Page) -> None:
    await text(page, "VERIFY")
    await expect(messages(page).nth(1)).to_contain_text("delivered")
    webhook = page.locator(".exchange").filter(has_text="message.received")
    await webhook.locator("summary").first.click()
    asked, answered = webhook.locator("> pre").nth(0), webhook.locator("> pre").nth(1)
    await expect(asked).to_contain_text("POST /webhooks/telnyx HTTP/1.1")
    await expect(asked).to_contain_text(re.compile(r"telnyx-signature-ed25519: [\w+/]{86}=="))
    await expect(asked).to_contain_text(re.compile(r"telnyx-timestamp: \d{10}\n"))
    await expect(asked).to_contain_text('"text": "VERIFY"')
    await expect(answered).to_contain_text("HTTP/1.1 200 OK")
    request = page.locator(".exchange").filter(has_text="/v2/messages")
    await request.locator("summary").first.click()
    await expect(request.locator("> pre").first).to_contain_text(
        re.compile(r"idempotency-key: \w+", re.IGNORECASE)
    )
    await request.get_by_text("The request's body, formatted").click()
    await expect(request.locator("details pre")).to_contain_text(f'"to": "{PHONE}",\n')


async def test_a_text_is_never_interpreted_as_markup(page: Page) -> None:
    said = "<img src=x onerror=alert(1)><script>alert(2)</script>{{ 7 * 7 }} &amp;"
    await text(page, said)
    await expect(messages(page).first).to_contain_text(said)
    await expect(page.locator(".exchange").filter(has_text="message.received")).to_have_count(1)
    await expect(page.locator("img")).to_have_count(0)


async def test_a_page_that_is_opened_later_or_again_shows_all_texts(
    page: Page, context: BrowserContext
) -> None:
    await text(page, "VERIFY")
    await expect(messages(page).nth(1)).to_contain_text("delivered")
    second = await opened(context, page.url)
    await expect(messages(second)).to_have_count(2)
    await text(second, await code_of(second))
    await expect(messages(page).nth(3)).to_contain_text(SUCCESS)
    await page.reload()
    await expect(messages(page)).to_have_count(4)
    await expect(fact(page, "state")).to_have_text("verified")


async def test_a_page_reconnects_when_the_demo_is_restarted(
    context: BrowserContext, tmp_path: Path
) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    async with run_demo(tmp_path / "first") as (_, address):
        page = await opened(context, address)
        await text(page, "VERIFY")
        await expect(messages(page).nth(1)).to_contain_text(CODE_TEXT)
    await expect(page.get_by_text("the demo does not answer")).to_be_visible()
    await text(page, "RESEND")
    await expect(phone(page).get_by_text("is it still running?")).to_be_visible()
    await expect(phone(page).get_by_role("textbox")).to_have_value("RESEND")
    port = int(address.rpartition(":")[2])
    async with run_demo(tmp_path / "second", port):
        await expect(page.get_by_text("connected", exact=True)).to_be_visible()
        await expect(messages(page)).to_have_count(0)
        await expect(fact(page, "state")).to_have_text("not known yet")
        await text(page, "VERIFY")
        await expect(messages(page)).to_have_count(2)


async def test_a_saved_transcript_plays_again(page: Page, tmp_path: Path) -> None:
    await text(page, "VERIFY")
    code = await code_of(page)
    await text(page, other_than(code))
    await expect(messages(page)).to_have_count(4)
    await page.get_by_role("button", name="11 minutes").click()
    await text(page, code)
    await expect(messages(page)).to_have_count(6)
    async with page.expect_download() as saving:
        await page.get_by_role("link", name="Save the transcript").click()
    script = (await (await saving.value).path()).read_text(encoding="utf-8")
    assert "{code}" in script
    assert code not in script
    url = f"sqlite+aiosqlite:///{tmp_path / 'again.db'}"
    async with open_sandbox(url, StoppedClock(start_time_of(script))) as sandbox:
        await Player(sandbox).play(script)


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_text_on_the_page_can_be_read_in_light_and_dark(
    page: Page, scheme: Any
) -> None:
    await page.emulate_media(color_scheme=scheme)
    await page.get_by_role("button", name=NAMED_FAULTS["429"].title).click()
    for said in ("HELP", "VERIFY", "000000"):
        await text(page, said)
    await expect(page.locator(".status.bad").first).to_be_visible()
    ground = await page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", ground)[:3])) > 3 * 128) is (scheme == "light")
    found = await page.evaluate(browsers.CONTRAST)
    assert len(found) > 40
    # WCAG 2.2, 1.4.3: at least 4.5 to 1.
    assert [(ratio, what) for ratio, what in found if ratio < 4.5] == []


async def test_nothing_is_cut_off_on_a_narrow_screen(page: Page) -> None:
    await page.set_viewport_size(NARROW)  # type: ignore[arg-type]
    await text(page, "VERIFY " + "x" * 200)
    await expect(messages(page).first).to_be_visible()
    await page.locator(".exchange summary").first.click()
    # WCAG 2.2, 1.4.10: no scrolling in two directions at 320 pixels.
    assert await page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]


async def test_every_control_has_a_name_and_every_landmark_a_label(page: Page) -> None:
    await text(page, "VERIFY")
    await expect(messages(page)).to_have_count(2)
    outline = await page.locator("body").aria_snapshot()
    controls = re.findall(r"- (button|textbox|link|log|article|region)\b(.*)", outline)
    assert len(controls) > 25
    assert [control for control in controls if not re.match(r' "[^"]+"', control[1])] == []
    for landmark in ("banner", "main"):
        assert f"- {landmark}" in outline
    assert await page.locator("html").get_attribute("lang") == "en"
    await expect(page.get_by_text(BOT_NUMBER).first).to_be_visible()
