"""An app that calls the API."""

from __future__ import annotations

import asyncio
import contextlib
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiohttp import ClientError, ClientSession

from bot.store import api_keys
from bot.store.api_keys import Scope
from tests.kit.timeouts import TEST_TIMEOUT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Mapping

    from bot.services.clock import Clock
    from bot.store.engine.database import Database

_SERVICE_UNAVAILABLE = 503
_RETRY_INTERVAL = 0.05
_SKIPPED_HEADERS = ("Content-Type",)


@dataclass(frozen=True, slots=True)
class Answer:
    """A response of the API."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def body(self) -> Any:
        """Return the body as JSON."""
        return json.loads(self.text)

    @property
    def fields(self) -> list[str]:
        """Return the names of the fields in a problem."""
        return [error["field"] for error in self.body["errors"]]


@dataclass(frozen=True, slots=True)
class App:
    """An app, with an API key or without."""

    session: ClientSession
    url: str
    key: str | None

    async def ask(  # noqa: PLR0913 - the parts of a request
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        once: str | None = None,
        raw: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a request with `body` as JSON, or with `raw` unchanged."""
        sent = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        sent |= {"Idempotency-Key": once} if once else {}
        if body is not None:
            raw = json.dumps(body).encode()
        if raw is not None:
            sent["Content-Type"] = "application/json"
        sent |= headers or {}
        async with self.session.request(
            method,
            f"{self.url}/v1/{path}",
            data=raw,
            headers=sent,
            skip_auto_headers=_SKIPPED_HEADERS,
        ) as answer:
            return Answer(answer.status, answer.headers, await answer.text())

    async def get(self, path: str) -> Answer:
        """Send a GET request."""
        return await self.ask("GET", path)

    async def post(self, path: str, body: object = None, *, once: str | None = None) -> Answer:
        """Send a POST request."""
        return await self.ask("POST", path, body, once=once)

    async def begin(self, **body: object) -> Any:
        """Begin a verification and return it."""
        answer = await self.post("verifications", body)
        assert answer.status == 201, answer.text
        return answer.body


async def make_key(
    database: Database,
    clock: Clock,
    scopes: Collection[Scope] = tuple(Scope),
    per_minute: int = api_keys.MAX_PER_MINUTE,
) -> str:
    """Create an API key, as `bot keys create` does."""
    return await database.write(api_keys.create, "a test's", scopes, per_minute, clock.now())


@asynccontextmanager
async def app_with(url: str, key: str | None) -> AsyncIterator[App]:
    """Yield an app of the bot at `url`."""
    async with ClientSession() as session:
        yield App(session, url, key)


async def post_until_answered(app: App, path: str, body: object, *, once: str) -> Answer:
    """Send a request with one idempotency key until the answer is not 503; raise TimeoutError."""
    async with asyncio.timeout(TEST_TIMEOUT):
        while True:
            with contextlib.suppress(ClientError):
                answer = await app.post(path, body, once=once)
                if answer.status != _SERVICE_UNAVAILABLE:
                    return answer
            await asyncio.sleep(_RETRY_INTERVAL)
