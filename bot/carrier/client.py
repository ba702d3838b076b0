"""Sending through the Telnyx SDK, on its aiohttp transport.

Importing the SDK costs a second and 60 MiB, so only what sends imports this module's client.
"""

from __future__ import annotations

import asyncio
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from aiohttp import ClientConnectorError
from httpx import AsyncClient, Cookies, MockTransport, Request, Response
from msgspec import Struct, json
from telnyx import APIError, APIStatusError, AsyncTelnyx, DefaultAioHttpClient

from bot.carrier.errors import SendAccepted, SendLater, SendResult, classify
from bot.carrier.webhooks import storable_id

if TYPE_CHECKING:
    from telnyx.resources.messages.messages import AsyncMessagesResourceWithRawResponse

REQUEST_TIMEOUT = 10.0
"""Seconds one API request may take: well under the lease of a claimed text."""

_NOBODY = "+10000000000"


class _Message(Struct):
    id: str


class _Answer(Struct):
    """What is read of an answer; the SDK's model of all of it costs a seventh of a send."""

    data: _Message


class _NoCookies(Cookies):
    """Keeps none of Telnyx's; to look for some in each answer takes a tenth of a send."""

    def extract_cookies(self, response: Response) -> None:
        """Leave what an answer sets."""


_NO_COOKIES = _NoCookies()


class _HttpClient(DefaultAioHttpClient):
    @property  # type: ignore[misc] # nobody sets them
    def cookies(self) -> Cookies:
        return _NO_COOKIES


class Carrier:
    """Telnyx's messaging API, as far as a text needs it."""

    def __init__(self, api_key: str, base_url: str) -> None:
        self._client = AsyncTelnyx(
            api_key=api_key,
            base_url=base_url,
            # The outbox retries, with the same idempotency key; two who retry can text twice.
            max_retries=0,
            timeout=REQUEST_TIMEOUT,
            # A proxy of the environment leads out; what is on this machine needs none.
            http_client=_HttpClient(trust_env=not _is_loopback(base_url), follow_redirects=False),
        )

    async def warm(self) -> None:
        """Do what the SDK does at its first text: import for a second, learn to read the answer.

        The text for that goes nowhere.
        """
        await asyncio.to_thread(getattr, self, "_messages")
        nowhere = AsyncClient(transport=MockTransport(_accepted))
        async with self._client.with_options(http_client=nowhere) as rehearsal:
            messages = rehearsal.messages.with_raw_response
            await messages.send(from_=_NOBODY, to=_NOBODY, text="", idempotency_key="0")

    @cached_property
    def _messages(self) -> AsyncMessagesResourceWithRawResponse:
        return self._client.messages.with_raw_response

    async def send(
        self, *, key: str, bot_number: str, phone: str, text: str, retried: bool
    ) -> SendResult:
        """Ask Telnyx to send one text between two numbers (E.164), and say what came of it.

        `key` is the idempotency key, the same at every try of a text; `retried` tells that an
        earlier try may have succeeded. Raises nothing that a text may meet on its way.
        """
        try:
            # The SDK's own timeout is for each read, and an answer may come in drops.
            async with asyncio.timeout(REQUEST_TIMEOUT):
                answer = await self._messages.send(
                    from_=bot_number, to=phone, text=text, idempotency_key=key
                )
        except APIStatusError as error:
            return classify(error.status_code, error.body, error.response.headers, retried=retried)
        except (APIError, RecursionError, TimeoutError, ValueError) as error:
            return SendLater(type(error).__name__, in_doubt=not _never_connected(error))
        carrier_id = _message_id(answer.http_response.content)
        if not carrier_id:
            return SendLater("no message id", in_doubt=True)
        return SendAccepted(storable_id(carrier_id))

    async def close(self) -> None:
        """Close the connections to Telnyx."""
        await self._client.close()


def _accepted(_request: Request) -> Response:
    return Response(200, json={"data": {"id": "0"}})


def _message_id(body: bytes) -> str:
    """Read a message's id; empty where there is none, since a proxy's 2xx may hold anything."""
    try:
        return json.decode(body, type=_Answer).data.id
    except (RecursionError, ValueError):
        return ""


def _never_connected(error: BaseException | None) -> bool:
    """Tell whether nothing was sent; only the transport's own error says so for certain."""
    while error is not None and not isinstance(error, ClientConnectorError):
        error = error.__cause__
    return error is not None


def _is_loopback(base_url: str) -> bool:
    return urlsplit(base_url).hostname in ("127.0.0.1", "::1", "localhost")
