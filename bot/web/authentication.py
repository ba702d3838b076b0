"""Who calls the API: `Authorization: Bearer tp_…` (RFC 6750), its scopes and its rate."""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING

from bot.conversation.verification import Outcome
from bot.store import keys
from bot.store.outages import UnavailableError
from bot.web import problems
from bot.web.problems import ProblemError

if TYPE_CHECKING:
    from datetime import datetime

    from aiohttp import web

    from bot.services.clock import Clock
    from bot.store.database import Database
    from bot.store.keys import Key, Scope

_BEARER = re.compile(r"bearer +(\S+)", re.IGNORECASE)
_CHALLENGE = 'Bearer realm="textproof"'
_BURST_PART, _BURST_LEAST = 6, 5
_BUCKETS_MOST = 10_000
_READS_AT_ONCE = 4
"""Keys that are looked up at the same time: strangers must leave connections for webhooks."""
_READ_WITHIN = 1.5
"""Seconds that a request waits for its turn to be looked up."""


class Authentication:
    """Lets in who has a key that holds, for what it allows, as often as it may.

    A key is read anew for each request: once revoked, it opens nothing any more.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._rates = Rates()
        self._reading = asyncio.Semaphore(_READS_AT_ONCE)

    async def admit(self, request: web.Request, scope: Scope) -> Key:
        """Return the key of a request; raises ProblemError (401, 403, 429), UnavailableError."""
        key = await self._identify(request)
        now = self._clock.now()
        free_at = self._rates.take(key.name, key.per_minute, now)
        if free_at is not None:
            raise problems.later(Outcome.TOO_MANY_REQUESTS, free_at, now, usually=1)
        if scope not in key.scopes:
            raise ProblemError(
                HTTPStatus.FORBIDDEN,
                f"this key does not have the scope {scope}",
                headers={
                    "WWW-Authenticate": f'{_CHALLENGE}, error="insufficient_scope", scope="{scope}"'
                },
            )
        return key

    async def _identify(self, request: web.Request) -> Key:
        given = request.headers.getall("Authorization", [])
        match = _BEARER.fullmatch(given[0].strip()) if len(given) == 1 else None
        parts = keys.split(match[1]) if match else None
        if parts is None:
            raise _unknown("send an API key, as Authorization: Bearer tp_…", _CHALLENGE)
        name, secret = parts
        key = await self._find(name)
        if not keys.opens(key, secret) or key is None:
            raise _unknown("this API key does not hold", f'{_CHALLENGE}, error="invalid_token"')
        return key

    async def _find(self, name: str) -> Key | None:
        try:
            async with asyncio.timeout(_READ_WITHIN):
                await self._reading.acquire()
        except TimeoutError:
            raise UnavailableError("too many keys are looked up") from None
        try:
            return await self._database.read(keys.find, name)
        finally:
            self._reading.release()


def _unknown(detail: str, challenge: str) -> ProblemError:
    return ProblemError(HTTPStatus.UNAUTHORIZED, detail, headers={"WWW-Authenticate": challenge})


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled_at: datetime


class Rates:
    """A token bucket for each key: so many requests a minute, and a few more at once.

    It is of this process alone. Of many keys the one that has been silent longest is forgotten,
    and begins anew with a full bucket.
    """

    def __init__(self, most: int = _BUCKETS_MOST) -> None:
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self._most = most

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, name: str, per_minute: int, now: datetime) -> datetime | None:
        """Count a request; where there were too many, return when the next may come (UTC)."""
        burst = float(max(per_minute // _BURST_PART, _BURST_LEAST))
        bucket = self._buckets.setdefault(name, _Bucket(burst, now))
        self._buckets.move_to_end(name)
        if len(self._buckets) > self._most:
            self._buckets.popitem(last=False)
        minutes = (now - bucket.filled_at) / timedelta(minutes=1)
        bucket.tokens = min(burst, bucket.tokens + minutes * per_minute)
        bucket.filled_at = now
        if bucket.tokens < 1:
            return now + (1 - bucket.tokens) / per_minute * timedelta(minutes=1)
        bucket.tokens -= 1
        return None
