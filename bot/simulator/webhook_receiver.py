"""A pretend app: it hears what the bot tells of, and writes it down."""

from __future__ import annotations

import base64
import hmac
import secrets
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from aiohttp import web

from bot.app_events.signing import signed_headers
from bot.simulator.telnyx.journal import HttpMessage, Wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bot.simulator.telnyx.server import SimulatedTelnyx

_PATH = "/textproof"


class WebhookReceiver:
    """An app at `url`, on loopback, that believes what `secret` (of Standard Webhooks) has signed.

    What it hears is added to the journal of `telnyx`, beside all else that goes over the wire.
    """

    def __init__(self, telnyx: SimulatedTelnyx) -> None:
        self._telnyx = telnyx
        self.secret = f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"
        self.url = ""

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[WebhookReceiver]:
        """Listen until the block ends."""
        application = web.Application()
        application.add_routes([web.post(_PATH, self._hear)])
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}{_PATH}"
            yield self
        finally:
            await runner.cleanup()

    async def _hear(self, request: web.Request) -> web.Response:
        began = time.monotonic()
        body = await request.read()
        answer = web.Response(status=204 if self._verifies(request, body) else 400)
        told = HttpMessage(f"HTTP/1.1 {answer.status} {answer.reason}", (), "")
        self._telnyx.note_exchange(Wire.EVENT, request, body, told, time.monotonic() - began)
        return answer

    def _verifies(self, request: web.Request, body: bytes) -> bool:
        name = request.headers.get("webhook-id", "")
        timestamp = request.headers.get("webhook-timestamp", "")
        if not timestamp.isdecimal():
            return False
        at = datetime.fromtimestamp(int(timestamp), UTC)
        expected = signed_headers(name, body.decode(errors="replace"), [self.secret], at)
        signature = request.headers.get("webhook-signature", "")
        return hmac.compare_digest(expected["webhook-signature"], signature)
