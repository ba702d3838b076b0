"""A real browser: Chromium, wherever it is installed."""

from __future__ import annotations

import os
import shutil
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from playwright.async_api import async_playwright

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import Browser

HOW_TO_GET_ONE = "no browser: apt-get install chromium, or playwright install chromium"
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# It is to talk to the page alone, and to nobody else behind our backs.
_ARGUMENTS = [
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@asynccontextmanager
async def browser() -> AsyncIterator[Browser | None]:
    """Start a headless Chromium; None where there is none."""
    async with async_playwright() as playwright:
        own = playwright.chromium.executable_path
        installed = next(filter(None, map(shutil.which, _NAMES)), None)
        executable = installed or (own if Path(own).exists() else None)
        if executable is None:
            yield None
            return
        started = await playwright.chromium.launch(
            executable_path=executable,
            args=_ARGUMENTS,
            # Chromium refuses to sandbox what root runs.
            chromium_sandbox=os.geteuid() != 0,
        )
        try:
            yield started
        finally:
            await started.close()
