"""An app that is told of events: it believes what the public library of Standard Webhooks does."""

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
    """One try that was verified."""

    name: str
    body: bytes
    headers: Mapping[str, str]

    @property
    def event(self) -> Any:
        """Return what the body says."""
        return json.loads(self.body)


@dataclass(slots=True)
class EventReceiver:
    """Notes what it can verify, and answers as told, in the end with 204."""

    secret: str = EVENTS_SECRET
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    heard: list[ReceivedEvent] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    url: str = ""

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[EventReceiver]:
        """Listen on a port of this machine."""
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
        self.heard.append(ReceivedEvent(request.headers["webhook-id"], body, dict(request.headers)))
        status, headers = self.answers.pop(0) if self.answers else (204, {})
        return web.Response(status=status, headers=headers)
