"""Who calls the API: `Authorization: Bearer tp_…` (RFC 6750), its scopes and its rate."""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING

from bot.conversation.verification import RequestOutcome
from bot.store import api_keys
from bot.web.api import problems
from bot.web.api.problems import ProblemError

if TYPE_CHECKING:
    from datetime import datetime

    from aiohttp import web

    from bot.services.clock import Clock
    from bot.store.api_keys import ApiKey, Scope
    from bot.store.engine.database import Database
    from bot.web.http.lookup_gate import LookupGate

_BEARER = re.compile(r"bearer +(\S+)", re.IGNORECASE)
_CHALLENGE = 'Bearer realm="textproof"'
_BURST_PART, _MIN_BURST = 6, 5
_MAX_BUCKETS = 10_000


class Authentication:
    """Lets in who has a key that holds, for what it allows, as often as it may.

    A key is read anew for each request: once revoked, it opens nothing any more.
    """

    def __init__(self, database: Database, clock: Clock, lookups: LookupGate) -> None:
        self._database = database
        self._clock = clock
        self._rates = KeyRateLimits()
        self._lookups = lookups

    async def admit(self, request: web.Request, scope: Scope) -> ApiKey:
        """Return the key of a request; raises ProblemError (401, 403, 429), UnavailableError."""
        key = await self._identify(request)
        now = self._clock.now()
        free_at = self._rates.take(key.public_id, key.per_minute, now)
        if free_at is not None:
            raise problems.retry_later(RequestOutcome.TOO_MANY_REQUESTS, free_at, now, usually=1)
        if scope not in key.scopes:
            raise ProblemError(
                HTTPStatus.FORBIDDEN,
                f"this key does not have the scope {scope}",
                headers={
                    "WWW-Authenticate": f'{_CHALLENGE}, error="insufficient_scope", scope="{scope}"'
                },
            )
        return key

    async def _identify(self, request: web.Request) -> ApiKey:
        given = request.headers.getall("Authorization", [])
        match = _BEARER.fullmatch(given[0].strip()) if len(given) == 1 else None
        parts = api_keys.split(match[1]) if match else None
        if parts is None:
            raise _unknown("send an API key, as Authorization: Bearer tp_…", _CHALLENGE)
        name, secret = parts
        key = await self._find(name)
        if not api_keys.secret_matches(key, secret) or key is None:
            raise _unknown("this API key does not hold", f'{_CHALLENGE}, error="invalid_token"')
        return key

    async def _find(self, name: str) -> ApiKey | None:
        async with self._lookups.enter():
            return await self._database.read(api_keys.find, name)


def _unknown(detail: str, challenge: str) -> ProblemError:
    return ProblemError(HTTPStatus.UNAUTHORIZED, detail, headers={"WWW-Authenticate": challenge})


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled_at: datetime


class KeyRateLimits:
    """A token bucket for each key: so many requests a minute, and a few more at once.

    It is of this process alone. Of many keys the one that has been silent longest is forgotten,
    and begins anew with a full bucket.
    """

    def __init__(self, most: int = _MAX_BUCKETS) -> None:
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self._most = most

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, name: str, per_minute: int, now: datetime) -> datetime | None:
        """Count a request; where there were too many, return when the next may come (UTC)."""
        burst = float(max(per_minute // _BURST_PART, _MIN_BURST))
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
