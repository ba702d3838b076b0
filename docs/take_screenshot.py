"""Take docs/phones-light.png and docs/phones-dark.png: the phone page in a real browser.

Run it after the page has changed: python docs/take_screenshot.py
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from bot import logs
from bot.simulator.clock import TravelClock
from bot.simulator.phone_status import record_changes
from bot.simulator.phones.page.server import serve_page
from bot.simulator.sandbox import open_sandbox
from tests.kit import browser as browsers

if TYPE_CHECKING:
    from playwright.async_api import Page

DOCS = Path(__file__).parent
SIZE = {"width": 1180, "height": 900}
SETTLED = 1500
"""Milliseconds until all is delivered and drawn."""


async def take() -> None:
    """Text from two phones, and take a screenshot in the light and the dark scheme."""
    async with browsers.browser() as browser:
        if browser is None:
            sys.exit(browsers.HOW_TO_GET_ONE)
        with tempfile.TemporaryDirectory() as folder:
            url = f"sqlite+aiosqlite:///{Path(folder) / 'demo.db'}"
            opening = open_sandbox(url, TravelClock(), web_form=True)
            async with opening as sandbox, serve_page(sandbox, 0) as address:
                await sandbox.ready()
                recording = asyncio.create_task(record_changes(sandbox))
                page = await browser.new_page(viewport=SIZE, device_scale_factor=1)
                await page.goto(address)
                await _play(page)
                for scheme in ("light", "dark"):
                    await page.emulate_media(color_scheme=scheme)
                    await page.screenshot(path=DOCS / f"phones-{scheme}.png")
                recording.cancel()


async def _play(page: Page) -> None:
    keyboard = page.keyboard
    await keyboard.type("VERIFY")
    await keyboard.press("Enter")
    await page.get_by_role("button", name="Fill in the code").click()
    await keyboard.press("Enter")
    await page.get_by_role("button", name="Add a phone").click()
    await keyboard.type("verify please")
    await keyboard.press("Enter")
    await page.get_by_role("button", name="Fill in the code").nth(1).wait_for()
    await keyboard.type("000000")
    await keyboard.press("Enter")
    await page.get_by_role("button", name="does not reach the phone").click()
    await page.wait_for_timeout(SETTLED)
    await page.evaluate("scrollTo(0, 0)")


if __name__ == "__main__":
    logs.configure("warning", "console")
    asyncio.run(take())
