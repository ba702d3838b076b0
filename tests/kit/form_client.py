"""A client of the web form, without a browser."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from html import unescape
from typing import TYPE_CHECKING, Any

from bot.web.form.challenges import MAX_NUMBER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import ClientResponse, ClientSession
    from aiohttp.test_utils import TestClient

_CSRF = re.compile(r'name="csrf" value="([0-9a-f]{64})"')
_ERROR = re.compile(r'id="error" role="alert">(.*?)</p>', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Page:
    """A response with a page."""

    status: int
    headers: Mapping[str, str]
    body: str
    path: str

    @property
    def csrf(self) -> str:
        """Return the CSRF token of the page's forms."""
        (token, *others) = set(_CSRF.findall(self.body))
        assert not others
        return str(token)

    @property
    def error(self) -> str:
        """Return the page's error message, or an empty string."""
        found = _ERROR.search(self.body)
        return unescape(found[1]) if found else ""


def solved(page: Page) -> dict[str, str]:
    """Return the fields of a page's challenge, with the number that a browser would find."""
    hidden = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', page.body))
    salt, target, _ = hidden["challenge"].split(".")
    number = next(
        number
        for number in range(MAX_NUMBER + 1)
        if hashlib.sha256(f"{salt}.{number}".encode()).hexdigest() == target
    )
    return {
        name: unescape(value) for name, value in hidden.items() if name not in ("waits", "csrf")
    } | {"number": str(number)}


@dataclass(slots=True)
class FormClient:
    """A client that fills in the forms and follows redirects."""

    session: ClientSession | TestClient[Any, Any]
    base: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    csrf: str = ""

    async def ask(self, method: str, path: str, **how: Any) -> Page:
        """Request a page, and remember its CSRF token."""
        headers = self.headers | how.pop("headers", {})
        answer: ClientResponse
        async with self.session.request(method, self.base + path, headers=headers, **how) as answer:
            page = Page(
                answer.status, answer.headers.copy(), await answer.text(), answer.url.path_qs
            )
        if 'name="csrf"' in page.body:
            self.csrf = page.csrf
        return page

    async def open(self, path: str = "/") -> Page:
        """Open a page."""
        return await self.ask("GET", path)

    async def post(self, path: str, **fields: str) -> Page:
        """Post a form with the last page's CSRF token, and follow the redirect."""
        return await self.ask("POST", path, data={"csrf": self.csrf} | fields)

    async def request(self, phone: str) -> Page:
        """Open the form and request a code."""
        await self.open()
        return await self.post("/request", phone=phone)
