"""API keys (`Authorization: Bearer tp_…`, RFC 6750), their scopes and their rate limits."""

from __future__ import annotations

import re
from collections import OrderedDict
from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING

from bot.conversation.limits import TokenBucket
from bot.conversation.verification import RequestOutcome
from bot.store import api_keys
from bot.web.api import problems
from bot.web.api.known_keys import KnownKeys
from bot.web.api.problems import ProblemError
from bot.web.http.client_ip import network_of_request
from bot.web.http.lookup_gate import TooManyLookupsError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from ipaddress import IPv4Network, IPv6Network

    from aiohttp import web

    from bot.services.clock import Clock
    from bot.store.api_keys import ApiKey, Scope
    from bot.store.engine.database import Database
    from bot.web.http.lookup_gate import LookupGate
    from bot.web.http.refusals import Refusals

_BEARER = re.compile(r"bearer +(\S+)", re.IGNORECASE)
_CHALLENGE = 'Bearer realm="textproof"'
_BURST_PART, _MIN_BURST = 6, 5  # a sixth of the requests of a minute, but at least five
_MAX_KEYS = 10_000


class Authentication:
    """Checks the API key of each request, its scope and its rate.

    A made-up key is refused from memory, after a delay. A known key is read from the database for
    every request, so a revoked key stops working at once.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        lookups: LookupGate,
        refusals: Refusals,
        trusted_proxies: Sequence[IPv4Network | IPv6Network] = (),
    ) -> None:
        self._database = database
        self._clock = clock
        # A request that was refused for a new key has waited long enough for the next reading.
        self._known_keys = KnownKeys(database, interval=refusals.delay)
        self._rate_limits = KeyRateLimits()
        self._lookups = lookups
        self._refusals = refusals
        self._trusted_proxies = trusted_proxies

    async def load_keys(self) -> None:
        """Read the keys, so that the first request with a good key need not wait for them."""
        await self._known_keys.refresh()

    async def authenticate(self, request: web.Request, scope: Scope) -> ApiKey:
        """Return the key of a request; raises ProblemError (401, 403, 429), UnavailableError."""
        key = await self._identify(request)
        now = self._clock.now()
        free_at = self._rate_limits.take(key.public_id, key.per_minute, now)
        if free_at is not None:
            raise problems.retry_later(RequestOutcome.TOO_MANY_REQUESTS, free_at, now, default=1)
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
        values = request.headers.getall("Authorization", [])
        match = _BEARER.fullmatch(values[0].strip()) if len(values) == 1 else None
        parts = api_keys.split(match[1]) if match else None
        if parts is None:
            await self._refusals.wait(request)
            raise _unauthorized("send an API key, as Authorization: Bearer tp_…", _CHALLENGE)
        public_id, secret = parts
        if not await self._known_keys.include(public_id, secret):
            await self._refusals.wait(request)
            # The last reading may have been just before the key was created.
            if not await self._known_keys.include(public_id, secret):
                self._known_keys.check_current()
                raise _invalid_key()
        key = await self._find(request, public_id)
        if not api_keys.secret_matches(key, secret) or key is None:
            self._known_keys.forget(public_id)
            await self._refusals.wait(request)
            raise _invalid_key()
        return key

    async def _find(self, request: web.Request, public_id: str) -> ApiKey | None:
        try:
            async with self._lookups.enter(network_of_request(request, self._trusted_proxies)):
                return await self._database.read(api_keys.find, public_id)
        except TooManyLookupsError:
            outcome, now = RequestOutcome.TOO_MANY_REQUESTS, self._clock.now()
            raise problems.retry_later(outcome, None, now, default=1) from None


def _invalid_key() -> ProblemError:
    return _unauthorized("invalid or revoked API key", f'{_CHALLENGE}, error="invalid_token"')


def _unauthorized(detail: str, challenge: str) -> ProblemError:
    return ProblemError(HTTPStatus.UNAUTHORIZED, detail, headers={"WWW-Authenticate": challenge})


class KeyRateLimits:
    """A token bucket for each key: its requests per minute, and a burst of a sixth of them.

    Each process counts for itself. Beyond `max_keys` the key idle for longest is forgotten, and
    its next request finds a full bucket.
    """

    def __init__(self, max_keys: int = _MAX_KEYS) -> None:
        self._full_at: OrderedDict[str, datetime] = OrderedDict()
        self._max_keys = max_keys

    def take(self, name: str, per_minute: int, now: datetime) -> datetime | None:
        """Count a request; return when the next one is allowed (UTC) if there were too many."""
        burst = max(per_minute // _BURST_PART, _MIN_BURST)
        bucket = TokenBucket(timedelta(minutes=1) / per_minute, burst)
        self._full_at[name], free_at = bucket.take(self._full_at.get(name, now), now)
        self._full_at.move_to_end(name)
        if len(self._full_at) > self._max_keys:
            self._full_at.popitem(last=False)
        return free_at
