"""An app that calls the API, and a bot that only remembers what it was asked."""

from __future__ import annotations

import asyncio
import contextlib
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from aiohttp import ClientError, ClientSession
from msgspec.structs import replace

from bot.conversation.verification import Origin, RequestOutcome, Status, Verification
from bot.services.verifications import RequestResult, Verifications
from bot.simulator.sandbox import BOT_NUMBER
from bot.store import api_keys
from bot.store.api_keys import Scope
from tests.kit.timeouts import TEST_TIMEOUT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Mapping, Sequence

    from bot.services.clock import Clock
    from bot.services.verifications import Filter, IdempotencyKey, VerificationRequest
    from bot.store.engine.database import Database

CODE = "123456"
REFERENCE = "7Q2K42"
_NOT_NOW = 503
_TRY_EVERY = 0.05


@dataclass
class FakeVerifications(Verifications):
    """Keeps all in memory; `coming` is what the next request is answered, whatever it asks."""

    clock: Clock
    kept: dict[str, Verification] = field(default_factory=dict)
    answered: dict[str, tuple[str, RequestResult]] = field(default_factory=dict)
    requests: list[VerificationRequest] = field(default_factory=list)
    asked: list[IdempotencyKey | None] = field(default_factory=list)
    filters: list[Filter] = field(default_factory=list)
    coming: RequestResult | Exception | None = None

    async def begin(
        self, params: VerificationRequest, once: IdempotencyKey | None = None
    ) -> RequestResult:
        self.requests.append(params)
        return self._once(once, lambda: RequestResult(RequestOutcome.DONE, self._begun(params)))

    async def check(
        self, name: str, code: str, once: IdempotencyKey | None = None
    ) -> RequestResult:
        return self._once(once, lambda: self._of(name, lambda it: self._checked(it, code)))

    async def resend(self, name: str, once: IdempotencyKey | None = None) -> RequestResult:
        return self._once(
            once, lambda: self._of(name, lambda it: RequestResult(RequestOutcome.DONE, it))
        )

    async def cancel(self, name: str, once: IdempotencyKey | None = None) -> RequestResult:
        return self._once(
            once,
            lambda: self._of(
                name, lambda it: RequestResult(RequestOutcome.DONE, self._end(it, Status.CANCELED))
            ),
        )

    async def get(self, name: str) -> Verification | None:
        return self.kept.get(name)

    async def list(self, which: Filter) -> Sequence[Verification]:
        self.filters.append(which)
        found = [
            it
            for it in reversed(self.kept.values())
            if which.status in (None, it.status)
            and which.phone in (None, it.phone)
            and which.reference in (None, it.reference)
            and (which.before is None or it.id < which.before)
        ]
        return found[: which.limit]

    def _once(self, once: IdempotencyKey | None, work: Any) -> RequestResult:
        self.asked.append(once)
        coming, self.coming = self.coming, None
        if isinstance(coming, Exception):
            raise coming
        if coming is not None:
            return coming
        if once is None:
            return work()  # type: ignore[no-any-return]
        if once.key not in self.answered:
            self.answered[once.key] = once.fingerprint, work()
        fingerprint, result = self.answered[once.key]
        return (
            result if fingerprint == once.fingerprint else RequestResult(RequestOutcome.KEY_REUSED)
        )

    def _begun(self, params: VerificationRequest) -> Verification:
        now = self.clock.now()
        begun = Verification(
            id=f"{len(self.kept):032x}",
            origin=params.origin,
            bot_number=BOT_NUMBER,
            created_at=now,
            expires_at=now + timedelta(minutes=10),
            phone=params.phone,
            reference=REFERENCE if params.origin is Origin.REFERENCE else params.reference,
            metadata=params.metadata or {},
        )
        self.kept[begun.id] = begun
        return begun

    def _of(self, name: str, work: Any) -> RequestResult:
        it = self.kept.get(name)
        if it is None:
            return RequestResult(RequestOutcome.NOT_FOUND)
        if it.status_at(self.clock.now()) is not Status.PENDING:
            return RequestResult(RequestOutcome.NOT_PENDING, it)
        return work(it)  # type: ignore[no-any-return]

    def _checked(self, it: Verification, code: str) -> RequestResult:
        if code != CODE:
            return RequestResult(RequestOutcome.WRONG, it, tries_left=4)
        return RequestResult(RequestOutcome.RIGHT, self._end(it, Status.VERIFIED))

    def _end(self, it: Verification, status: Status) -> Verification:
        self.kept[it.id] = replace(it, status=status, ended_at=self.clock.now())
        return self.kept[it.id]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the API answered."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def body(self) -> Any:
        """Read it as JSON."""
        return json.loads(self.text)

    @property
    def fields(self) -> list[str]:
        """Name the fields that a problem finds wrong."""
        return [wrong["field"] for wrong in self.body["errors"]]


@dataclass(frozen=True, slots=True)
class App:
    """An app with a key, or without one."""

    session: ClientSession
    url: str
    key: str | None

    async def ask(  # noqa: PLR0913 - each is a part of a request
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        once: str | None = None,
        raw: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a request: `body` as JSON, or `raw` as it is."""
        sent = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        sent |= {"Idempotency-Key": once} if once else {}
        if body is not None:
            raw = json.dumps(body).encode()
        if raw is not None:
            sent["Content-Type"] = "application/json"
        sent |= headers or {}
        async with self.session.request(
            method, f"{self.url}/v1/{path}", data=raw, headers=sent, skip_auto_headers=_NONE
        ) as answer:
            return Answer(answer.status, answer.headers, await answer.text())

    async def get(self, path: str) -> Answer:
        """Look at something."""
        return await self.ask("GET", path)

    async def post(self, path: str, body: object = None, *, once: str | None = None) -> Answer:
        """Ask for something."""
        return await self.ask("POST", path, body, once=once)

    async def begin(self, **body: object) -> Any:
        """Begin a verification and return it."""
        answer = await self.post("verifications", body)
        assert answer.status == 201, answer.text
        return answer.body


_NONE = ("Content-Type",)


async def make_key(
    database: Database,
    clock: Clock,
    scopes: Collection[Scope] = tuple(Scope),
    per_minute: int = api_keys.MAX_PER_MINUTE,
) -> str:
    """Make a key as `bot keys create` does."""
    return await database.write(api_keys.create, "a test's", scopes, per_minute, clock.now())


@asynccontextmanager
async def app_with(url: str, key: str | None) -> AsyncIterator[App]:
    """Be an app of the bot at `url` until the block ends."""
    async with ClientSession() as session:
        yield App(session, url, key)


async def persist(app: App, path: str, body: object, *, once: str) -> Answer:
    """Ask under one key until there is an answer that is not 503; raises TimeoutError."""
    async with asyncio.timeout(TEST_TIMEOUT):
        while True:
            with contextlib.suppress(ClientError):
                answer = await app.post(path, body, once=once)
                if answer.status != _NOT_NOW:
                    return answer
            await asyncio.sleep(_TRY_EVERY)
