"""Posts events to the operator's app."""

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
"""Seconds one attempt may take: the least that Standard Webhooks asks for, and well under the
lease."""
MAX_RETRY_AFTER = 86400.0
"""Seconds: a longer Retry-After of an app is shortened to this."""
_GONE = 410
_RETRY_AFTER_STATUSES = frozenset({429, 503})
_HEADERS = {"Content-Type": "application/json", "User-Agent": f"Textproof/{__version__}"}


class Client:
    """Posts events to `url`, signed with each of `secrets`."""

    def __init__(self, session: ClientSession, url: str, secrets: Sequence[str]) -> None:
        self._session = session
        self._url = url
        self._secrets = secrets

    async def post(self, *, name: str, body: str, at: datetime) -> PostResult:
        """Post an event at the wall-clock time `at` (UTC), and return the result.

        `name` (the event's id) and `body` are the same in every attempt. Failures are returned,
        not raised.
        """
        headers = signed_headers(name, body, self._secrets, at)
        try:
            # A redirect could lead to a private address, and would lose the body. The response's
            # body is not read.
            async with self._session.post(
                self._url, data=body.encode(), headers=headers, allow_redirects=False
            ) as response:
                return classify(response.status, response.headers, at)
        except (ClientError, OSError, ValueError) as error:
            return PostLater(_fault(error))


@asynccontextmanager
async def open_client(
    url: str, secrets: Sequence[str], *, to_private: bool
) -> AsyncIterator[Client]:
    """Open the client of an app; `to_private` allows this machine and private networks.

    Raises ValueError for a URL that is not https, unless `to_private`.
    """
    if not to_private and not url.startswith("https://"):
        raise ValueError("events to public addresses need https")
    # A proxy set in the environment is not used: the address it connects to could not be checked.
    async with ClientSession(
        connector=TCPConnector(socket_factory=None if to_private else public_socket),
        cookie_jar=DummyCookieJar(),
        headers=_HEADERS,
        timeout=ClientTimeout(total=POST_TIMEOUT),
        auto_decompress=False,
        trust_env=False,
    ) as session:
        yield Client(session, url, secrets)


def classify(status: int, headers: Mapping[str, str], at: datetime) -> PostResult:
    """Classify the response to a post at `at` (UTC)."""
    if 200 <= status < 300:  # noqa: PLR2004 - success in HTTP
        return PostAccepted()
    if status == _GONE:
        return EndpointGone()
    retry_after = None
    if status in _RETRY_AFTER_STATUSES:
        retry_after = _retry_after(headers.get("Retry-After", ""), at)
    return PostLater(f"HTTP {status}", retry_after)


def _retry_after(value: str, at: datetime) -> float | None:
    """Return the seconds of Retry-After (RFC 9110 §10.2.3: seconds or a date), or None."""
    try:
        if value.strip().isdecimal():
            seconds = float(value)
        else:
            moment = parsedate_to_datetime(value)
            # One of the obsolete date formats names no zone; all are in UTC (RFC 9110 §5.6.7).
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            seconds = (moment - at).total_seconds()
    except (ValueError, OverflowError):
        return None
    return min(seconds, MAX_RETRY_AFTER) if seconds > 0 else None


def _fault(error: Exception) -> str:
    """Return a name for an error, without its text, which may quote the address."""
    if isinstance(error, ClientConnectorError) and isinstance(error.os_error, AddressRefusedError):
        return REFUSED
    return "timeout" if isinstance(error, TimeoutError) else type(error).__name__
