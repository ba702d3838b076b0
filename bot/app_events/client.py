"""Posting events to the operator's app."""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from aiohttp import (
    ClientConnectorError,
    ClientError,
    ClientSession,
    ClientTimeout,
    DummyCookieJar,
    TCPConnector,
)

from bot import __version__
from bot.app_events.addresses import AddressRefusedError, public_socket
from bot.app_events.results import REFUSED, EndpointGone, PostAccepted, PostLater, PostResult
from bot.app_events.signing import signed_headers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from datetime import datetime

POST_TIMEOUT = 15.0
"""Seconds one try may take: what Standard Webhooks allows an app, and well under the lease."""
MAX_RETRY_AFTER = 86400.0
"""Seconds an app can have us wait at most."""
_GONE = 410
_ASKS_TO_WAIT = frozenset({429, 503})
_HEADERS = {"Content-Type": "application/json", "User-Agent": f"Textproof/{__version__}"}


class Client:
    """The app at one address; `keys` sign."""

    def __init__(self, session: ClientSession, url: str, keys: Sequence[bytes]) -> None:
        self._session = session
        self._url = url
        self._keys = keys

    async def post(self, *, name: str, body: str, at: datetime) -> PostResult:
        """Post an event at the time `at` (the world's), and say what came of it.

        `name` and `body` are the same at every try. Raises nothing that an event may meet on its
        way.
        """
        data = body.encode()
        headers = signed_headers(name, data, self._keys, at)
        try:
            # A redirect could lead inward, and would lose the body; what is answered is not read.
            async with self._session.post(
                self._url, data=data, headers=headers, allow_redirects=False
            ) as response:
                return _read(response.status, response.headers, at)
        except (ClientError, OSError, ValueError) as error:
            return PostLater(_fault(error))


@asynccontextmanager
async def open_client(
    url: str, keys: Sequence[bytes], *, to_private: bool
) -> AsyncIterator[Client]:
    """Open the way to the app; `to_private` lets it lead to this machine or a private network.

    Raises ValueError for a URL without TLS that may not lead there.
    """
    if not to_private and not url.startswith("https://"):
        raise ValueError("events leave this network by https alone")
    # What a proxy of the environment connects to could not be checked, so none is used.
    async with ClientSession(
        connector=TCPConnector(socket_factory=None if to_private else public_socket),
        cookie_jar=DummyCookieJar(),
        headers=_HEADERS,
        timeout=ClientTimeout(total=POST_TIMEOUT),
        auto_decompress=False,
        trust_env=False,
    ) as session:
        yield Client(session, url, keys)


def _read(status: int, headers: Mapping[str, str], at: datetime) -> PostResult:
    if 200 <= status < 300:  # noqa: PLR2004 - what success is, in HTTP
        return PostAccepted()
    if status == _GONE:
        return EndpointGone()
    wait = _retry_after(headers.get("Retry-After", ""), at) if status in _ASKS_TO_WAIT else None
    return PostLater(f"HTTP {status}", wait)


def _retry_after(value: str, at: datetime) -> float | None:
    """Read Retry-After, in seconds or as a date (RFC 9110 §10.2.3); None where it says nothing."""
    try:
        if value.strip().isdecimal():
            seconds = float(value)
        else:
            moment = parsedate_to_datetime(value)
            # One of the old forms names no zone; all are in UTC.
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            seconds = (moment - at).total_seconds()
    except (ValueError, OverflowError):
        return None
    return min(seconds, MAX_RETRY_AFTER) if seconds > 0 else None


def _fault(error: Exception) -> str:
    """Name an error without its text, which may quote the address."""
    if isinstance(error, ClientConnectorError) and isinstance(error.os_error, AddressRefusedError):
        return REFUSED
    return "timeout" if isinstance(error, TimeoutError) else type(error).__name__
