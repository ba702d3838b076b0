"""A person at the form on the web, without a browser; and an engine that keeps all in memory."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import timedelta
from html import unescape
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from bot.conversation.verification import Reason, RequestOutcome, Status, Verification
from bot.services.verifications import RequestResult, Verifications

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from aiohttp import ClientResponse, ClientSession
    from aiohttp.test_utils import TestClient

    from bot.services.clock import Clock
    from bot.services.verifications import IdempotencyKey, VerificationRequest

CODE = "123456"
_CSRF = re.compile(r'name="csrf" value="([0-9a-f]{64})"')
_ERROR = re.compile(r'id="error" role="alert">(.*?)</p>', re.DOTALL)


class InMemoryVerifications(Verifications):
    """An engine whose code is always the same; `answers` is what becomes of the next request."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.all: list[Verification] = []
        self.requests: list[VerificationRequest] = []
        self.checked: list[tuple[str, str]] = []
        self.resent: list[str] = []
        self.answers = RequestOutcome.DONE
        self.retry_at: datetime | None = None
        self.fault: Exception | None = None

    async def begin(
        self, params: VerificationRequest, once: IdempotencyKey | None = None
    ) -> RequestResult:
        """Keep the wish."""
        assert once is None
        self._fail()
        self.requests.append(params)
        if self.answers is RequestOutcome.TOO_MANY_REQUESTS:
            return RequestResult(self.answers, retry_at=self.retry_at)
        now = self._clock.now()
        refused = self.answers is not RequestOutcome.DONE
        verification = Verification(
            f"id-{len(self.all)}",
            params.origin,
            "+13125550100",
            now,
            now if refused else now + timedelta(minutes=10),
            phone=params.phone,
            session=params.session,
            asked_from=params.asked_from,
            status=Status.FAILED if refused else Status.PENDING,
            reason=Reason.LOCKED if refused else None,
        )
        self.all.append(verification)
        return RequestResult(self.answers, verification)

    async def check(
        self, name: str, code: str, once: IdempotencyKey | None = None
    ) -> RequestResult:
        """Compare with the one code there is."""
        assert once is None
        self._fail()
        self.checked.append((name, code))
        found = await self.get(name)
        assert found is not None
        if found.status is not Status.PENDING:
            return RequestResult(RequestOutcome.NOT_PENDING, found)
        if code != CODE:
            return RequestResult(RequestOutcome.WRONG, found, tries_left=4)
        self.verify(name)
        return RequestResult(RequestOutcome.RIGHT, found)

    async def resend(self, name: str, once: IdempotencyKey | None = None) -> RequestResult:
        """Note that it was asked for."""
        assert once is None
        self._fail()
        self.resent.append(name)
        return RequestResult(self.answers)

    async def get(self, name: str) -> Verification | None:
        """Look one up."""
        return next((found for found in self.all if found.id == name), None)

    async def of_session(self, session: str) -> Verification | None:
        """Look up the latest of a session."""
        self._fail()
        return next((found for found in reversed(self.all) if found.session == session), None)

    def verify(self, name: str) -> None:
        """Have the person reply by text."""
        self.all = [
            replace(found, status=Status.VERIFIED) if found.id == name else found
            for found in self.all
        ]

    def _fail(self) -> None:
        if self.fault is not None:
            raise self.fault


@dataclass(frozen=True, slots=True)
class Page:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: str
    path: str

    @property
    def csrf(self) -> str:
        """The token of the page's forms."""
        (token, *others) = set(_CSRF.findall(self.body))
        assert not others
        return str(token)

    @property
    def error(self) -> str:
        """What the page says is wrong, or nothing."""
        found = _ERROR.search(self.body)
        return unescape(found[1]) if found else ""


@dataclass(slots=True)
class FormClient:
    """Somebody who types what the forms ask for, and follows where they lead."""

    session: ClientSession | TestClient[Any, Any]
    base: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    csrf: str = ""

    async def ask(self, method: str, path: str, **how: Any) -> Page:
        """Ask for a page, and remember its token."""
        headers = self.headers | how.pop("headers", {})
        answer: ClientResponse
        async with self.session.request(method, self.base + path, headers=headers, **how) as answer:
            shown = Page(
                answer.status, answer.headers.copy(), await answer.text(), answer.url.path_qs
            )
        if 'name="csrf"' in shown.body:
            self.csrf = shown.csrf
        return shown

    async def open(self, path: str = "/") -> Page:
        """Open a page."""
        return await self.ask("GET", path)

    async def post(self, path: str, **fields: str) -> Page:
        """Send a form with the token of the last page, and follow where it leads."""
        return await self.ask("POST", path, data={"csrf": self.csrf} | fields)

    async def request(self, phone: str) -> Page:
        """Open the form and ask for a code."""
        await self.open()
        return await self.post("/request", phone=phone)
