"""An app that receives app events and verifies them with the Standard Webhooks library."""

from __future__ import annotations

import base64
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import web
from standardwebhooks import Webhook, WebhookVerificationError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

EVENTS_SECRET = f"whsec_{base64.b64encode(bytes(range(32))).decode()}"
NEXT_EVENTS_SECRET = f"whsec_{base64.b64encode(bytes(range(32, 64))).decode()}"


@dataclass(frozen=True, slots=True)
class ReceivedEvent:
    """An event whose signature was verified."""

    id: str
    body: bytes
    headers: Mapping[str, str]

    @property
    def event(self) -> Any:
        """Return the body as JSON."""
        return json.loads(self.body)


@dataclass(slots=True)
class EventReceiver:
    """Records events with valid signatures; sends `answers` in order, and then 204."""

    secret: str = EVENTS_SECRET
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    received: list[ReceivedEvent] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    url: str = ""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[EventReceiver]:
        """Serve on a free port of loopback until the block ends."""
        application = web.Application()
        application.add_routes([web.route("*", "/{path:.*}", self._receive)])
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/textproof"
            yield self
        finally:
            await runner.cleanup()

    async def _receive(self, request: web.Request) -> web.Response:
        body = await request.read()
        try:
            Webhook(self.secret).verify(body, dict(request.headers))
        except WebhookVerificationError as error:
            self.refused.append(str(error))
            return web.Response(status=400)
        self.received.append(
            ReceivedEvent(request.headers["webhook-id"], body, dict(request.headers))
        )
        status, headers = self.answers.pop(0) if self.answers else (204, {})
        return web.Response(status=status, headers=headers)
