"""A simulated app that receives the bot's app events and adds them to the journal."""

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
    """An app at `url`, on loopback, that accepts events signed with `secret` (Standard Webhooks).

    Each request is added to the journal of `telnyx`, with all others.
    """

    def __init__(self, telnyx: SimulatedTelnyx) -> None:
        self._telnyx = telnyx
        self.secret = f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"
        self.url = ""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[WebhookReceiver]:
        """Serve on a free port of loopback until the block ends."""
        application = web.Application()
        application.add_routes([web.post(_PATH, self._receive)])
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}{_PATH}"
            yield self
        finally:
            await runner.cleanup()

    async def _receive(self, request: web.Request) -> web.Response:
        start = time.monotonic()
        body = await request.read()
        response = web.Response(status=204 if self._is_signed(request, body) else 400)
        message = HttpMessage(f"HTTP/1.1 {response.status} {response.reason}", (), "")
        self._telnyx.record_exchange(Wire.EVENT, request, body, message, time.monotonic() - start)
        return response

    def _is_signed(self, request: web.Request, body: bytes) -> bool:
        event_id = request.headers.get("webhook-id", "")
        timestamp = request.headers.get("webhook-timestamp", "")
        if not timestamp.isdecimal():
            return False
        at = datetime.fromtimestamp(int(timestamp), UTC)
        expected = signed_headers(event_id, body.decode(errors="replace"), [self.secret], at)
        signature = request.headers.get("webhook-signature", "")
        return hmac.compare_digest(expected["webhook-signature"], signature)
