"""The web form in a real browser, with a phone to text."""

from __future__ import annotations

import re
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from playwright.async_api import expect

from bot.conversation.verification import Reason, Status
from bot.services.verifications import Filter
from bot.simulator.clock import TravelClock
from bot.simulator.phones.page.server import serve_page
from bot.simulator.sandbox import PHONE, Sandbox, open_sandbox
from bot.simulator.stories.transcript import code_in
from tests.kit import browser as browsers
from tests.kit.form_visits import begin_at_form, visit
from tests.kit.timeouts import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from playwright.async_api import Browser, BrowserContext, Page

pytestmark = pytest.mark.asyncio(loop_scope="module")

TYPED = "(312) 555-0001"
LANDLINE = "+44 20 7946 0000"
WRONG = "That code is not right, or it has expired. Please check it, or ask for a new one."
VERIFIED = "Your number is verified"
PATIENCE = 60_000
"""Milliseconds until a test gives up on what takes a few hundred on a slow machine."""
NARROW = {"width": 320, "height": 640}
REFUSED = "the server responded with a status of 422"
"""What the browser itself notes of a number that is refused."""

expect.set_options(timeout=PATIENCE)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with browsers.browser() as browser:
        if browser is None:
            pytest.skip(browsers.HOW_TO_GET_ONE)
        yield browser


@asynccontextmanager
async def profile(browser: Browser, **how: Any) -> AsyncIterator[BrowserContext]:
    """Yield a new browser profile; any error in its pages fails the test."""
    wrong: list[str] = []
    context = await browser.new_context(**how)
    context.set_default_timeout(PATIENCE)
    context.on("console", lambda entry: wrong.append(entry.text) if entry.type == "error" else None)
    context.on("weberror", lambda error: wrong.append(str(error.error)))
    context.on("dialog", lambda dialog: wrong.append(dialog.message))
    yield context
    await context.close()
    assert [error for error in wrong if REFUSED not in error] == []


@pytest_asyncio.fixture(loop_scope="module")
async def sandbox(tmp_path: Path) -> AsyncIterator[Sandbox]:
    url = f"sqlite+aiosqlite:///{tmp_path / 'form.db'}"
    pages: dict[str, Any] = {
        "terms_url": "https://example.com/terms",
        "privacy_url": "https://example.com/privacy",
    }
    async with open_sandbox(url, TravelClock(), web_form=True, **pages) as sandbox:
        await sandbox.ready()
        yield sandbox


@pytest_asyncio.fixture(loop_scope="module")
async def page(browser: Browser, sandbox: Sandbox) -> AsyncIterator[Page]:
    async with profile(browser) as context:
        yield await opened(context, sandbox)


async def opened(context: BrowserContext, sandbox: Sandbox) -> Page:
    page = await context.new_page()
    await page.goto(sandbox.form_url or "")
    return page


async def ask_for_code(page: Page, typed: str = TYPED) -> None:
    await page.get_by_label("Phone number").fill(typed)
    await page.get_by_role("button", name="Text me a code").click()
    await expect(title(page)).to_have_text("Type the code")


async def type_code(page: Page, code: str) -> None:
    await page.get_by_label("Code", exact=True).fill(code)
    await page.get_by_role("button", name="Verify").click()


async def code_on(sandbox: Sandbox, phone: str = PHONE) -> str:
    """Wait until a code has come to the phone, and return it."""

    def codes() -> list[str]:
        texts = [text.text for text in sandbox.telnyx.texts if text.phone == phone]
        return [code for text in texts for code in re.findall(r"\b\d{6}\b", text)]

    await wait_until(lambda: bool(codes()))
    return codes()[-1]


async def results(sandbox: Sandbox) -> list[tuple[Status, Reason | None]]:
    """Return the status and reason of each verification, the latest first."""
    assert sandbox.bot.verifications is not None
    return [(each.status, each.reason) for each in await sandbox.bot.verifications.list(Filter())]


def title(page: Page) -> Any:
    return page.get_by_role("heading", level=1)


def other_than(code: str) -> str:
    return code[:-1] + ("1" if code[-1] != "1" else "2")


async def test_a_person_who_types_a_number_and_its_code_is_verified(
    page: Page, sandbox: Sandbox
) -> None:
    await ask_for_code(page)
    await expect(page.get_by_text("+1 312-555-0001")).to_be_visible()
    await type_code(page, await code_on(sandbox))
    await expect(title(page)).to_have_text(VERIFIED)
    await expect(page.get_by_text("+1 312-555-0001")).to_be_visible()
    assert await results(sandbox) == [(Status.VERIFIED, None)]


async def test_the_page_continues_by_itself_when_the_person_replies_by_text(
    page: Page, sandbox: Sandbox
) -> None:
    await ask_for_code(page)
    await expect(page.get_by_text("This page then goes on by itself.")).to_be_visible()
    letters = await page.locator(".letters").inner_text()
    await sandbox.text(PHONE, f"{await code_on(sandbox)} {letters}")
    await expect(title(page)).to_have_text(VERIFIED)
    assert page.url.endswith("/success")
    assert await results(sandbox) == [(Status.VERIFIED, None)]


async def test_a_person_who_only_obeys_the_text_verifies_no_stranger(
    page: Page, sandbox: Sandbox
) -> None:
    await ask_for_code(page)
    code = await code_on(sandbox)
    texts = [
        text.text
        for reply in (code, f"my code is {code}", "RESEND", "STATUS")
        for text in await sandbox.text(PHONE, reply)
    ]
    (only,) = texts
    assert "asked for the code, type it there" in only
    assert await results(sandbox) == [(Status.PENDING, None)]
    await page.get_by_role("link", name="I have replied by text").click()
    await expect(page.get_by_text("No reply has arrived yet.")).to_be_visible()
    await sandbox.text(PHONE, "NOT ME")
    await type_code(page, code)
    await expect(page.get_by_role("alert")).to_have_text(WRONG)
    assert await results(sandbox) == [(Status.FAILED, Reason.NOT_ME)]


async def test_a_person_who_verifies_by_text_meanwhile_verifies_no_stranger(
    page: Page, sandbox: Sandbox
) -> None:
    await ask_for_code(page)
    strangers = await code_on(sandbox)
    (text,) = await sandbox.text(PHONE, "VERIFY")
    own = code_in(text.text) or ""
    (answer,) = await sandbox.text(PHONE, strangers)
    assert "That code is not right" in answer.text
    (answer,) = await sandbox.text(PHONE, own)
    assert "this number is verified" in answer.text
    await page.get_by_role("link", name="I have replied by text").click()
    await expect(page.get_by_text("No reply has arrived yet.")).to_be_visible()
    await type_code(page, own)
    await expect(page.get_by_role("alert")).to_have_text(WRONG)
    assert await results(sandbox) == [(Status.PENDING, None)]


async def test_a_wrong_code_is_reported_at_its_field_and_the_right_one_still_works(
    page: Page, sandbox: Sandbox
) -> None:
    await ask_for_code(page)
    code = await code_on(sandbox)
    await type_code(page, other_than(code))
    await expect(page.get_by_role("alert")).to_have_text(WRONG)
    box = page.get_by_label("Code", exact=True)
    await expect(box).to_be_focused()
    await expect(box).to_have_accessible_description(f"{WRONG} 6 digits")
    await expect(box).to_have_value("")
    await expect(page).to_have_title(re.compile("^Error: "))
    await type_code(page, code)
    await expect(title(page)).to_have_text(VERIFIED)


async def test_a_number_that_cannot_get_a_code_stays_in_its_field_to_be_corrected(
    page: Page, sandbox: Sandbox
) -> None:
    box = page.get_by_label("Phone number")
    await box.fill(LANDLINE)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("alert")).to_contain_text("This is a landline.")
    await expect(box).to_be_focused()
    await expect(box).to_have_value(LANDLINE)
    await expect(box).to_have_accessible_description(re.compile("This is a landline"))
    await ask_for_code(page)
    await code_on(sandbox)


async def test_without_javascript_the_code_can_be_typed(browser: Browser, sandbox: Sandbox) -> None:
    async with profile(browser, java_script_enabled=False) as context:
        page = await opened(context, sandbox)
        await ask_for_code(page)
        code = await code_on(sandbox)
        await type_code(page, other_than(code))
        await expect(page.get_by_role("alert")).to_have_text(WRONG)
        await type_code(page, code)
        await expect(title(page)).to_have_text(VERIFIED)


async def test_without_javascript_a_link_continues_after_a_reply(
    browser: Browser, sandbox: Sandbox
) -> None:
    async with profile(browser, java_script_enabled=False) as context:
        page = await opened(context, sandbox)
        await ask_for_code(page)
        await page.get_by_role("link", name="I have replied by text").click()
        await expect(page.get_by_text("No reply has arrived yet.")).to_be_visible()
        letters = await page.locator(".letters").inner_text()
        await sandbox.text(PHONE, f"{await code_on(sandbox)} {letters}")
        await page.get_by_role("link", name="I have replied by text").click()
        await expect(title(page)).to_have_text(VERIFIED)


async def test_the_keyboard_alone_is_enough(page: Page, sandbox: Sandbox) -> None:
    async def walk_to(name: str) -> None:
        """Press a key until the control with this name has the focus."""
        for _ in range(20):
            await page.keyboard.press("Tab")
            focused = page.locator(":focus")
            if await focused.count() and name in (await focused.text_content() or ""):
                outline = await focused.evaluate(
                    "element => getComputedStyle(element).outlineStyle"
                )
                assert outline == "solid"
                return
        raise AssertionError(name)

    await page.keyboard.type(TYPED)
    await page.keyboard.press("Enter")
    await expect(title(page)).to_have_text("Type the code")
    code = await code_on(sandbox)
    await walk_to("Send it again")
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("on its way once more")).to_be_visible()
    await page.keyboard.type(code)  # the field has the focus again
    await walk_to("Verify")
    await page.keyboard.press("Space")
    await expect(title(page)).to_have_text(VERIFIED)


async def test_a_reload_posts_nothing_and_a_second_click_requests_nothing(
    page: Page, sandbox: Sandbox
) -> None:
    posts: list[str] = []
    page.on("request", lambda asked: posts.append(asked.url) if asked.method == "POST" else None)
    await page.get_by_label("Phone number").fill(TYPED)
    await page.get_by_role("button", name="Text me a code").dblclick()
    await expect(title(page)).to_have_text("Type the code")
    await type_code(page, other_than(await code_on(sandbox)))
    await expect(page.get_by_role("alert")).to_be_visible()
    await page.reload()
    await expect(page.get_by_role("alert")).to_be_visible()
    assert [url.rpartition("/")[2] for url in posts] == ["request", "verify"]


async def test_after_going_back_another_number_can_be_entered(page: Page, sandbox: Sandbox) -> None:
    await ask_for_code(page)
    await page.go_back()
    await expect(page.get_by_role("button", name="Text me a code")).to_be_enabled()
    await ask_for_code(page, "312 555 0002")
    await type_code(page, await code_on(sandbox, "+13125550002"))
    await expect(title(page)).to_have_text(VERIFIED)
    await expect(page.get_by_text("+1 312-555-0002")).to_be_visible()


async def test_the_page_stops_polling_when_the_code_has_expired(
    page: Page, sandbox: Sandbox
) -> None:
    looks: list[str] = []
    page.on("request", lambda asked: looks.append(asked.url) if "/status" in asked.url else None)
    await page.clock.install()
    await ask_for_code(page)
    await code_on(sandbox)
    for _ in range(3):
        async with page.expect_response("**/status"):
            await page.clock.run_for(5_000)
    await page.clock.run_for(600_000)
    await expect(
        page.get_by_text("The code has expired. Please ask for a new one.")
    ).to_be_visible()
    before = len(looks)
    assert before >= 3
    await page.clock.run_for(600_000)
    assert len(looks) == before


async def test_in_the_demo_the_form_and_the_phone_are_two_pages_side_by_side(
    browser: Browser, sandbox: Sandbox
) -> None:
    async with profile(browser) as context, serve_page(sandbox, 0) as address:
        phones = await context.new_page()
        await phones.goto(address)
        async with context.expect_page() as opening:
            await phones.get_by_role("link", name="the web form").click()
        page = await opening.value
        await ask_for_code(page)
        letters = await page.locator(".letters").inner_text()
        await phones.get_by_role("button", name="Fill in the code").click()
        await phones.keyboard.type(f" {letters}")
        await phones.keyboard.press("Enter")
        await expect(title(page)).to_have_text(VERIFIED)


# From 80 % of the budget on.

WITHOUT_HASHES = "Object.defineProperty(window, 'isSecureContext', { value: false });"
"""Script: a page from http, on which browsers do not hash."""
NEVER_READY = "window.Worker = class { addEventListener() {} postMessage() {} };"
"""Script: a worker that does not find the number."""


@pytest_asyncio.fixture(loop_scope="module")
async def busy(tmp_path: Path) -> AsyncIterator[Sandbox]:
    """Run a bot whose form has used 80 % of its budget."""
    url = f"sqlite+aiosqlite:///{tmp_path / 'busy.db'}"
    async with open_sandbox(url, TravelClock(), web_form=True, web_codes_per_day=10) as busy:
        await busy.ready()
        apps = busy.bot.verifications
        assert apps is not None
        for number in range(8):
            await begin_at_form(apps, f"+1312555{1000 + number}", visit(f"network {number}"))
        yield busy


async def test_the_browser_does_a_proof_of_work_and_the_page_goes_on_by_itself(
    browser: Browser, busy: Sandbox
) -> None:
    async with profile(browser) as context:
        page = await opened(context, busy)
        posts: list[str] = []
        page.on("request", lambda sent: posts.append(sent.url) if sent.method == "POST" else None)
        await ask_for_code(page)
        assert [url.rpartition("/")[2] for url in posts] == ["request", "request"]
        code = await code_on(busy)
        # Sending it again takes another proof.
        busy.move_clock(timedelta(seconds=31))
        await page.get_by_role("button", name="Send it again").click()
        await expect(page.get_by_text("once more")).to_be_visible()
        assert [url.rpartition("/")[2] for url in posts[2:]] == ["resend", "resend"]
        await type_code(page, code)
        await expect(title(page)).to_have_text(VERIFIED)


async def test_the_progress_of_the_proof_is_shown(browser: Browser, busy: Sandbox) -> None:
    async with profile(browser) as context:
        await context.add_init_script(NEVER_READY)
        page = await opened(context, busy)
        await request_without_code(page)
        task = "Your browser is solving a small task. This page then goes on by itself."
        await expect(page.get_by_role("status")).to_have_text(task)
        await expect(page.get_by_role("progressbar", name=task)).to_be_visible()
        await expect(page.get_by_role("button", name="Continue")).to_be_hidden()
        await check_appearance(page)


async def test_without_javascript_a_wait_takes_the_place_of_the_proof(
    browser: Browser, busy: Sandbox
) -> None:
    async with profile(browser, java_script_enabled=False) as context:
        page = await opened(context, busy)
        await wait_and_type(page, busy)


async def test_a_browser_that_cannot_hash_waits_too(browser: Browser, busy: Sandbox) -> None:
    async with profile(browser) as context:
        await context.add_init_script(WITHOUT_HASHES)
        page = await opened(context, busy)
        await request_without_code(page)
        await check_appearance(page)
        await page.goto(busy.form_url or "")
        await wait_and_type(page, busy)


async def request_without_code(page: Page) -> None:
    await page.get_by_label("Phone number").fill(TYPED)
    await page.get_by_role("button", name="Text me a code").click()
    await expect(title(page)).to_have_text("One moment, please")


async def wait_and_type(page: Page, busy: Sandbox) -> None:
    await request_without_code(page)
    await page.get_by_role("button", name="Continue").click()
    await expect(page.get_by_text("Please wait 30 seconds, then press")).to_be_visible()
    busy.move_clock(timedelta(seconds=31))
    await page.get_by_role("button", name="Continue").click()
    await expect(title(page)).to_have_text("Type the code")
    await type_code(page, await code_on(busy))
    await expect(title(page)).to_have_text(VERIFIED)


async def check_appearance(page: Page) -> None:
    """Check what `each_page` checks of the other pages."""
    assert await page.evaluate(_FLAWS) == []
    for scheme in ("light", "dark"):
        await page.emulate_media(color_scheme=scheme)
        found = await page.evaluate(browsers.CONTRAST)
        assert [(ratio, text) for ratio, text in found if ratio < 4.5] == []
    await page.set_viewport_size(NARROW)  # type: ignore[arg-type]
    assert await page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]


# Accessibility.


async def each_page(page: Page, sandbox: Sandbox, look: Callable[[str], Awaitable[None]]) -> None:
    """Call `look` on each page that a person may see, with a name for it."""
    await look("number")
    await page.get_by_label("Phone number").fill(LANDLINE)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("alert")).to_be_visible()
    await look("number refused")
    await ask_for_code(page)
    await look("code")
    code = await code_on(sandbox)
    await type_code(page, other_than(code))
    await expect(page.get_by_role("alert")).to_be_visible()
    await look("code refused")
    await page.get_by_role("button", name="Send it again").click()
    await expect(page.get_by_text("once more")).to_be_visible()
    await look("sent again")
    await type_code(page, code)
    await expect(title(page)).to_have_text(VERIFIED)
    await look("verified")
    await page.context.clear_cookies()
    await page.goto(sandbox.form_url or "")
    await page.context.clear_cookies()
    await page.get_by_label("Phone number").fill(TYPED)
    # The browser would report the refusal's 403 as an error, which fails the test.
    await page.route("**/request", _with_status_200)
    await page.keyboard.press("Enter")
    await expect(title(page)).to_have_text("Please begin again")
    await look("refused")


async def _with_status_200(route: Any) -> None:
    answer = await route.fetch()
    await route.fulfill(response=answer, status=200)


_FLAWS = """
() => {
  const flaws = [];
  const all = (selector) => [...document.querySelectorAll(selector)];
  const ids = all("[id]").map((element) => element.id);
  if (new Set(ids).size !== ids.length) flaws.push("an id is given twice");
  if (document.documentElement.lang !== "en") flaws.push("no language");
  if (!document.title.trim()) flaws.push("no title");
  if (all("h1").length !== 1) flaws.push(`${all("h1").length} headings of level 1`);
  if (all("main").length !== 1) flaws.push(`${all("main").length} main parts`);
  const levels = all("h1, h2, h3, h4").map((heading) => Number(heading.tagName[1]));
  levels.reduce((last, level) => {
    if (level > last + 1) flaws.push(`a heading of level ${level} after ${last}`);
    return level;
  }, 0);
  for (const input of all("input:not([type=hidden])")) {
    if (!input.labels[0]?.textContent.trim()) flaws.push(`${input.name}: no label`);
    if (!input.autocomplete) flaws.push(`${input.name}: cannot be filled in`);
  }
  for (const element of all("[aria-describedby], [aria-labelledby]")) {
    for (const name of ["aria-describedby", "aria-labelledby"]) {
      for (const id of (element.getAttribute(name) ?? "").split(" ").filter(Boolean)) {
        const words = document.getElementById(id)?.textContent.trim();
        if (!words) flaws.push(`${name} of nothing: ${id}`);
      }
    }
  }
  for (const control of all("a, button")) {
    if (!control.textContent.trim()) flaws.push("a control without a name");
  }
  for (const control of all("a, button, input:not([type=hidden])")) {
    if (!control.checkVisibility()) continue;
    const { width, height } = control.getBoundingClientRect();
    // WCAG 2.2, 2.5.8.
    if (Math.min(width, height) < 24) flaws.push(`too small: ${control.outerHTML}`);
  }
  if (all("img:not([alt])").length) flaws.push("an image without words");
  if (all("[tabindex]").some(({ tabIndex }) => tabIndex > 0)) flaws.push("another order of tabs");
  if (all("form:not([method=post])").length) flaws.push("a form that tells the address bar");
  return flaws;
}
"""


async def test_every_page_is_labelled_titled_and_in_order(page: Page, sandbox: Sandbox) -> None:
    titles = []

    async def look(name: str) -> None:
        assert (name, await page.evaluate(_FLAWS)) == (name, [])
        titles.append(await page.title())

    await each_page(page, sandbox, look)
    assert len(titles) == 7
    assert all(shown.endswith("Textproof") for shown in titles)
    assert len(set(titles)) == 6


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_text_can_be_read_in_light_and_dark(
    page: Page, sandbox: Sandbox, scheme: Any
) -> None:
    await page.emulate_media(color_scheme=scheme)
    ground = await page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", ground)[:3])) > 3 * 128) is (scheme == "light")

    async def look(name: str) -> None:
        found = await page.evaluate(browsers.CONTRAST)
        assert len(found) > 3
        # WCAG 2.2, 1.4.3: at least 4.5 to 1.
        assert (name, [(ratio, what) for ratio, what in found if ratio < 4.5]) == (name, [])

    await each_page(page, sandbox, look)


async def test_nothing_is_cut_off_on_a_narrow_screen(page: Page, sandbox: Sandbox) -> None:
    await page.set_viewport_size(NARROW)  # type: ignore[arg-type]

    async def look(name: str) -> None:
        # WCAG 2.2, 1.4.10: no scrolling in two directions at 320 pixels.
        width = await page.evaluate("document.documentElement.scrollWidth")
        assert (name, width <= NARROW["width"]) == (name, True)

    await each_page(page, sandbox, look)


async def test_nothing_moves_if_the_person_prefers_reduced_motion(
    page: Page, sandbox: Sandbox
) -> None:
    await page.emulate_media(reduced_motion="reduce")

    async def look(name: str) -> None:
        assert (name, await page.evaluate("document.getAnimations().length")) == (name, 0)

    await each_page(page, sandbox, look)
