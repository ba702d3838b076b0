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

from bot.conversation.verification import Origin, Outcome, Status, Verification
from bot.services.verifications import Result, Verifications
from bot.simulator.stage import BOT_NUMBER
from bot.store import keys
from bot.store.keys import Scope
from harness.patience import PATIENCE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Mapping, Sequence

    from bot.services.clock import Clock
    from bot.services.verifications import Filter, Idempotency, Wish
    from bot.store.database import Database

CODE = "123456"
REFERENCE = "7Q2K42"
_NOT_NOW = 503
_TRY_EVERY = 0.05


@dataclass
class FakeVerifications(Verifications):
    """Keeps all in memory; `coming` is what the next request is answered, whatever it asks."""

    clock: Clock
    kept: dict[str, Verification] = field(default_factory=dict)
    answered: dict[str, tuple[str, Result]] = field(default_factory=dict)
    wishes: list[Wish] = field(default_factory=list)
    asked: list[Idempotency | None] = field(default_factory=list)
    filters: list[Filter] = field(default_factory=list)
    coming: Result | Exception | None = None

    async def begin(self, wish: Wish, once: Idempotency | None = None) -> Result:
        self.wishes.append(wish)
        return self._once(once, lambda: Result(Outcome.DONE, self._begun(wish)))

    async def check(self, name: str, code: str, once: Idempotency | None = None) -> Result:
        return self._once(once, lambda: self._of(name, lambda it: self._checked(it, code)))

    async def resend(self, name: str, once: Idempotency | None = None) -> Result:
        return self._once(once, lambda: self._of(name, lambda it: Result(Outcome.DONE, it)))

    async def cancel(self, name: str, once: Idempotency | None = None) -> Result:
        return self._once(
            once,
            lambda: self._of(name, lambda it: Result(Outcome.DONE, self._end(it, Status.CANCELED))),
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

    def _once(self, once: Idempotency | None, work: Any) -> Result:
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
        return result if fingerprint == once.fingerprint else Result(Outcome.KEY_REUSED)

    def _begun(self, wish: Wish) -> Verification:
        now = self.clock.now()
        begun = Verification(
            id=f"{len(self.kept):032x}",
            origin=wish.origin,
            bot_number=BOT_NUMBER,
            created_at=now,
            expires_at=now + timedelta(minutes=10),
            phone=wish.phone,
            reference=REFERENCE if wish.origin is Origin.REFERENCE else wish.reference,
            metadata=wish.metadata or {},
        )
        self.kept[begun.id] = begun
        return begun

    def _of(self, name: str, work: Any) -> Result:
        it = self.kept.get(name)
        if it is None:
            return Result(Outcome.NOT_FOUND)
        if it.status_at(self.clock.now()) is not Status.PENDING:
            return Result(Outcome.NOT_PENDING, it)
        return work(it)  # type: ignore[no-any-return]

    def _checked(self, it: Verification, code: str) -> Result:
        if code != CODE:
            return Result(Outcome.WRONG, it, tries_left=4)
        return Result(Outcome.RIGHT, self._end(it, Status.VERIFIED))

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
    per_minute: int = keys.PER_MINUTE_LARGEST,
) -> str:
    """Make a key as `bot keys create` does."""
    return await database.write(keys.create, "a test's", scopes, per_minute, clock.now())


@asynccontextmanager
async def app_with(url: str, key: str | None) -> AsyncIterator[App]:
    """Be an app of the bot at `url` until the block ends."""
    async with ClientSession() as session:
        yield App(session, url, key)


async def persist(app: App, path: str, body: object, *, once: str) -> Answer:
    """Ask under one key until there is an answer that is not 503; raises TimeoutError."""
    async with asyncio.timeout(PATIENCE):
        while True:
            with contextlib.suppress(ClientError):
                answer = await app.post(path, body, once=once)
                if answer.status != _NOT_NOW:
                    return answer
            await asyncio.sleep(_TRY_EVERY)
