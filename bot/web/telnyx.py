"""`POST /webhooks/telnyx`: read a bounded body, check the signature, hand the event over."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from aiohttp import web

from bot.carrier.webhooks import (
    SIGNATURE_HEADER,
    TIMESTAMP_HEADER,
    UNKNOWN_RECIPIENT,
    BodyError,
    Ignored,
    SignatureError,
    parse,
)
from bot.store.engine.errors import UnavailableError
from bot.web.http.body import read_body
from bot.web.http.log_throttle import LogThrottle

if TYPE_CHECKING:
    from collections.abc import Collection

    from bot.carrier.webhooks import Verifier
    from bot.services.clock import Clock
    from bot.services.intake.inbox import Inbox

MAX_BODY_BYTES = 64 * 1024
BODY_TIMEOUT = 5.0
"""Seconds a body may take to arrive: Telnyx sends two kilobytes at once."""
RETRY_LATER = {"Retry-After": "5"}
"""Headers of a 503, in seconds (RFC 9110 §10.2.3)."""

_log = structlog.get_logger(__name__)


class TelnyxWebhook:
    """Telnyx's door."""

    def __init__(
        self, verifier: Verifier, inbox: Inbox, bot_numbers: Collection[str], clock: Clock
    ) -> None:
        self._verifier = verifier
        self._inbox = inbox
        self._bot_numbers = frozenset(bot_numbers)
        self._clock = clock
        self._complaints = LogThrottle()

    async def handle(self, request: web.Request) -> web.Response:
        """Answer 200 once the event is committed or does not concern us; else 4xx or 503."""
        try:
            body = await read_body(request, MAX_BODY_BYTES, BODY_TIMEOUT)
            signed_at = self._verifier.verify(
                body,
                request.headers.getall(SIGNATURE_HEADER, []),
                request.headers.getall(TIMESTAMP_HEADER, []),
                self._clock.wall(),
            )
            event = parse(body, self._bot_numbers, self._clock.now(), signed_at)
            if isinstance(event, Ignored):
                self._pass_over(event)
            else:
                await self._inbox.accept(event)
        except SignatureError as error:
            self._complaints.log(
                "webhook refused",
                reason=str(error),
                advice="check TELNYX_PUBLIC_KEY and this machine's clock",
            )
            return _answer(401, "the signature does not verify")
        except BodyError as error:
            return _answer(400, str(error))
        except UnavailableError:
            return _answer(503, "not stored: please send it again", RETRY_LATER)
        return web.Response()

    def _pass_over(self, event: Ignored) -> None:
        if event.reason == UNKNOWN_RECIPIENT:
            self._complaints.log(
                "webhook ignored",
                reason="the text is to a number that is not the bot's",
                advice="check FROM_NUMBER and the numbers of the messaging profile",
            )
        else:
            _log.debug("webhook ignored", reason=event.reason)


def _answer(status: int, text: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(status=status, text=text + "\n", headers=headers)
