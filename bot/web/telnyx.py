"""`POST /webhooks/telnyx`: read the body, verify the signature, pass the event to the inbox."""

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
from bot.web.http.retry_after import RETRY_SOON

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from bot.carrier.webhooks import Verifier
    from bot.services.clock import Clock
    from bot.services.intake.inbox import Inbox

MAX_BODY_BYTES = 64 * 1024
BODY_TIMEOUT = 5.0
"""Seconds a body may take to arrive; Telnyx sends about 2 KB, all at once."""

_log = structlog.get_logger(__name__)


class TelnyxWebhook:
    """Handler of Telnyx's webhooks."""

    def __init__(
        self, verifier: Verifier, inbox: Inbox, bot_numbers: Collection[str], clock: Clock
    ) -> None:
        self._verifier = verifier
        self._inbox = inbox
        self._bot_numbers = frozenset(bot_numbers)
        self._clock = clock
        self._warnings = LogThrottle()

    async def handle(self, request: web.Request) -> web.Response:
        """Return 200 once the event is committed or ignored, else 4xx or 503."""
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
                self._log_ignored(event)
            else:
                await self._inbox.handle_webhook(event)
        except SignatureError as error:
            self._warnings.log(
                "webhook refused",
                reason=str(error),
                advice="check TELNYX_PUBLIC_KEY and this machine's clock",
            )
            return _response(401, "invalid signature")
        except BodyError as error:
            return _response(400, str(error))
        except UnavailableError:
            return _response(503, "not stored; send it again", RETRY_SOON)
        return web.Response()

    def _log_ignored(self, event: Ignored) -> None:
        if event.reason == UNKNOWN_RECIPIENT:
            self._warnings.log(
                "webhook ignored",
                reason="the text was sent to a number that is not the bot's",
                advice="check FROM_NUMBER and the numbers of the messaging profile",
            )
        else:
            _log.debug("webhook ignored", reason=event.reason)


def _response(status: int, text: str, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(status=status, text=text + "\n", headers=headers)
