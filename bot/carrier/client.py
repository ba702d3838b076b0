"""Sends texts through the Telnyx SDK, with its aiohttp transport.

Importing the SDK costs a second and 60 MiB, so only the process that sends imports this module.
"""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

from aiohttp import ClientConnectorError
from msgspec import Struct, json
from telnyx import APIError, APIStatusError, AsyncTelnyx, DefaultAioHttpClient
from telnyx.resources.messages import (
    AsyncMessagesResource,
    AsyncMessagesResourceWithRawResponse,
)

from bot.carrier.errors import SendAccepted, SendLater, SendResult, classify
from bot.carrier.webhooks import storable_id

REQUEST_TIMEOUT = 10.0
"""Seconds one API request may take: well under the lease of a claimed message (30 s)."""


class _Message(Struct):
    id: str


class _Response(Struct):
    """The part of a response that is read; the SDK's own model does not check its types."""

    data: _Message


class Carrier:
    """Telnyx's messaging API: sends one text at a time."""

    def __init__(self, api_key: str, base_url: str) -> None:
        self._client = AsyncTelnyx(
            api_key=api_key,
            base_url=base_url,
            # The outbox retries, with the same idempotency key.
            max_retries=0,
            timeout=REQUEST_TIMEOUT,
            # A proxy set in the environment (HTTPS_PROXY) cannot reach this machine's loopback.
            http_client=DefaultAioHttpClient(
                trust_env=not _is_loopback(base_url), follow_redirects=False
            ),
        )
        # `client.messages` would do the same, but only at the first text, blocking the event loop.
        self._messages = AsyncMessagesResourceWithRawResponse(AsyncMessagesResource(self._client))

    async def send(
        self, *, key: str, bot_number: str, phone: str, text: str, retried: bool
    ) -> SendResult:
        """Ask Telnyx to send one text between two numbers (E.164), and return the result.

        `key` is the idempotency key, the same in every attempt; `retried` means that an earlier
        attempt may have succeeded. Failures are returned, not raised.
        """
        try:
            # The SDK's own timeout applies to each read, and a response may come byte by byte.
            async with asyncio.timeout(REQUEST_TIMEOUT):
                response = await self._messages.send(
                    from_=bot_number, to=phone, text=text, idempotency_key=key
                )
        except APIStatusError as error:
            return classify(error.status_code, error.body, error.response.headers, retried=retried)
        except (APIError, RecursionError, TimeoutError, ValueError) as error:
            return SendLater(type(error).__name__, in_doubt=not _never_connected(error))
        carrier_id = _message_id(response.http_response.content)
        if not carrier_id:
            return SendLater("no message id", in_doubt=True)
        return SendAccepted(storable_id(carrier_id))

    async def close(self) -> None:
        """Close the connections to Telnyx."""
        await self._client.close()


def _message_id(body: bytes) -> str:
    """Return the message's id, or "" if there is none: a proxy's 2xx may hold anything."""
    try:
        return json.decode(body, type=_Response).data.id
    except (RecursionError, ValueError):
        return ""


def _never_connected(error: BaseException | None) -> bool:
    """Return whether certainly nothing was sent: only the transport's own error proves that."""
    while error is not None and not isinstance(error, ClientConnectorError):
        error = error.__cause__
    return error is not None


def _is_loopback(base_url: str) -> bool:
    return urlsplit(base_url).hostname in ("127.0.0.1", "::1", "localhost")
