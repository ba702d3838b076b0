"""A headless Chromium for the tests."""

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
# The browser must connect to the page only, not to its vendor's services.
_ARGUMENTS = [
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

CONTRAST = """
() => {
  const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (colour) => {
    const [r, g, b] = parts(colour).slice(0, 3).map((c) => c / 255)
      .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const background = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (parts(colour)[3] !== 0) return colour;
    }
    return getComputedStyle(document.documentElement).backgroundColor;
  };
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!own || !element.checkVisibility()) continue;
    const [a, b] = [getComputedStyle(element).color, background(element)].map(light);
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    found.push([ratio, element.textContent.slice(0, 40)]);
  }
  return found;
}
"""
"""Script: the contrast ratio of each text on a page and its background (WCAG 2.2)."""


@asynccontextmanager
async def browser() -> AsyncIterator[Browser | None]:
    """Start a headless Chromium; yield None if there is none."""
    async with async_playwright() as playwright:
        bundled = playwright.chromium.executable_path
        installed = next(filter(None, map(shutil.which, _NAMES)), None)
        executable = installed or (bundled if Path(bundled).exists() else None)
        if executable is None:
            yield None
            return
        started = await playwright.chromium.launch(
            executable_path=executable,
            args=_ARGUMENTS,
            # Chromium refuses to run as root in its own sandbox.
            chromium_sandbox=os.geteuid() != 0,
        )
        try:
            yield started
        finally:
            await started.close()
