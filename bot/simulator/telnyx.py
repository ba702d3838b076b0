"""A pretend Telnyx on loopback: records sends as the API does, signs real webhooks.

The bodies have the shape of Telnyx's own documentation and OpenAPI description.
"""

from __future__ import annotations

import asyncio
import base64
import json
import uuid
from collections import deque
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import ClientSession, web
from nacl.signing import SigningKey

from bot.carrier.errors import BLOCKED
from bot.carrier.webhooks import SIGNATURE_HEADER, TIMESTAMP_HEADER
from bot.conversation.decision import Shape
from bot.conversation.replies import GSM7_BASIC

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from typing import Self

    from bot.services.clock import Clock

API_KEY = "KEY-of-the-simulated-carrier"

# What Telnyx answers by itself, to a whole message, before a bot sees it.
_STOP_WORDS = frozenset({"STOP", "STOPALL", "STOP ALL", "UNSUBSCRIBE", "CANCEL", "END", "QUIT"})
_START_WORDS = frozenset({"START", "UNSTOP"})
_AUTORESPONSES = {
    "STOP": "You are unsubscribed and get no more texts. Reply START to come back.",
    "START": "You are subscribed again. Reply STOP to unsubscribe.",
    "HELP": "Help: ask whoever gave you this number. Reply STOP to unsubscribe.",
}


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """One request to the API, as it came."""

    headers: Mapping[str, str]
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PhoneText:
    """A text that reached a phone; `by_carrier` where Telnyx wrote it, not the bot."""

    phone: str
    bot_number: str
    text: str
    by_carrier: bool = False


@dataclass(frozen=True, slots=True)
class Fault:
    """How the next API request is answered instead."""

    status: int
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def error(cls, status: int, code: str, **headers: str) -> Self:
        """Make an error as Telnyx writes them."""
        body = json.dumps({"errors": [{"code": code, "title": "A fault that was asked for"}]})
        return cls(status, body, {"Content-Type": "application/json"} | headers)


class SimulatedTelnyx:
    """The carrier between the phones and the bot. `webhook_url` is where the bot listens."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._key = SigningKey.generate()
        self._session: ClientSession
        self._blocked: set[tuple[str, str]] = set()
        self._remembered: dict[str, tuple[bytes, Mapping[str, Any]]] = {}
        self._reports: set[asyncio.Task[None]] = set()
        self.webhook_url = ""
        self.base_url = ""
        self.requests: list[ApiRequest] = []
        self.texts: list[PhoneText] = []
        self.faults: deque[Fault] = deque()

    @property
    def public_key(self) -> str:
        """The key that its webhooks verify with, as the portal shows it."""
        return base64.b64encode(bytes(self._key.verify_key)).decode()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Serve the API on a free port of loopback until the block ends."""
        application = web.Application()
        application.add_routes([web.post("/v2/messages", self._send)])
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.base_url = f"http://127.0.0.1:{runner.addresses[0][1]}/v2"
        try:
            async with ClientSession() as self._session:
                yield self
                await self.reported()
        finally:
            await runner.cleanup()

    async def text(
        self,
        phone: str,
        bot_number: str,
        text: str | None,
        shape: Shape = Shape.PLAIN,
    ) -> int:
        """Text the bot from a phone; returns how the bot answered the webhook (HTTP status)."""
        keyword = _keyword(text)
        payload = inbound_payload(phone, bot_number, text, shape)
        payload["autoresponse_type"] = keyword
        if keyword:
            self._respond(keyword, phone, bot_number)
        return await self.post_event("message.received", payload)

    async def post_event(self, event_type: str, payload: Mapping[str, Any]) -> int:
        """Post a signed event to the bot and return the status of its answer."""
        return await self.post(json.dumps(self._envelope(event_type, payload)).encode())

    async def post(self, body: bytes) -> int:
        """Sign a body, whatever it is, post it, and return the status of the answer."""
        async with self._session.post(
            self.webhook_url, data=body, headers=self.signed(body)
        ) as answer:
            return answer.status

    def signed(self, body: bytes) -> dict[str, str]:
        """Make the headers that Telnyx would send with a body."""
        timestamp = str(int(self._clock.wall().timestamp()))
        signature = self._key.sign(timestamp.encode() + b"|" + body).signature
        return {
            TIMESTAMP_HEADER: timestamp,
            SIGNATURE_HEADER: base64.b64encode(signature).decode(),
            "Content-Type": "application/json",
        }

    async def reported(self) -> None:
        """Wait until every delivery report so far has been posted."""
        while self._reports:
            await asyncio.wait(self._reports)

    def _respond(self, keyword: str, phone: str, bot_number: str) -> None:
        self.texts.append(PhoneText(phone, bot_number, _AUTORESPONSES[keyword], by_carrier=True))
        if keyword == "STOP":
            self._blocked.add((phone, bot_number))
        elif keyword == "START":
            self._blocked.discard((phone, bot_number))

    async def _send(self, request: web.Request) -> web.Response:
        raw = await request.read()
        body = json.loads(raw)
        self.requests.append(ApiRequest(dict(request.headers), body))
        if request.headers.get("Authorization") != f"Bearer {API_KEY}":
            return _error(401, "10009")
        if self.faults:
            fault = self.faults.popleft()
            return web.Response(status=fault.status, body=fault.body, headers=fault.headers)
        key = request.headers.get("Idempotency-Key", uuid.uuid4().hex)
        if key in self._remembered:
            known, answer = self._remembered[key]
            return web.json_response(answer) if known == raw else _error(422, "10015")
        if (body["to"], body["from"]) in self._blocked:
            return _error(400, BLOCKED)
        payload = outbound_payload(body)
        self._remembered[key] = (raw, {"data": payload})
        self.texts.append(PhoneText(body["to"], body["from"], body["text"]))
        self._report_soon(payload)
        return web.json_response({"data": payload})

    def _report_soon(self, payload: Mapping[str, Any]) -> None:
        async def report() -> None:
            for event_type, status in (
                ("message.sent", "sent"),
                ("message.finalized", "delivered"),
            ):
                to = [recipient | {"status": status} for recipient in payload["to"]]
                await self.post_event(event_type, {**payload, "to": to})

        task = asyncio.create_task(report())
        self._reports.add(task)
        task.add_done_callback(self._reports.discard)

    def _envelope(self, event_type: str, payload: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "data": {
                "event_type": event_type,
                "id": str(uuid.uuid4()),
                "occurred_at": self._clock.wall().isoformat(timespec="milliseconds"),
                "payload": payload,
                "record_type": "event",
            },
            "meta": {"attempt": 1, "delivered_to": self.webhook_url},
        }


def inbound_payload(
    phone: str, bot_number: str, text: str | None, shape: Shape = Shape.PLAIN
) -> dict[str, Any]:
    """Make the payload of a text from a phone to the bot."""
    picture = {"url": "http://127.0.0.1/picture.png", "content_type": "image/png", "size": 5}
    others = (
        [{"phone_number": "+13125550199", "line_type": "Wireless"}] if shape is Shape.GROUP else []
    )
    return {
        "cc": others,
        "completed_at": None,
        "cost": {"amount": "0.0000", "currency": "USD"},
        "direction": "inbound",
        "encoding": "GSM-7",
        "errors": [],
        "from": {"carrier": "Example Wireless", "line_type": "long_code", "phone_number": phone},
        "id": str(uuid.uuid4()),
        "media": [picture] if shape is Shape.MEDIA else [],
        "parts": 1,
        "record_type": "message",
        "text": text,
        "to": [
            {
                "carrier": "Telnyx",
                "line_type": "Wireless",
                "phone_number": bot_number,
                "status": "webhook_delivered",
            }
        ],
        "type": "SMS" if shape is Shape.PLAIN else "MMS",
    }


def outbound_payload(body: Mapping[str, Any]) -> dict[str, Any]:
    """Make the payload that the API answers a send with."""
    return {
        "cost": {"amount": "0.0040", "currency": "USD"},
        "direction": "outbound",
        "encoding": "GSM-7" if GSM7_BASIC.issuperset(body["text"]) else "UCS-2",
        "errors": [],
        "from": {"carrier": "Telnyx", "line_type": "Wireless", "phone_number": body["from"]},
        "id": str(uuid.uuid4()),
        "media": [],
        "parts": 1,
        "record_type": "message",
        "text": body["text"],
        "to": [
            {
                "carrier": "Example Wireless",
                "line_type": "Wireless",
                "phone_number": body["to"],
                "status": "queued",
            }
        ],
        "type": "SMS",
    }


def _keyword(text: str | None) -> str | None:
    word = (text or "").strip().upper()
    if word in _STOP_WORDS:
        return "STOP"
    if word in _START_WORDS:
        return "START"
    return "HELP" if word == "HELP" else None


def _error(status: int, code: str) -> web.Response:
    fault = Fault.error(status, code)
    return web.Response(status=status, body=fault.body, headers=fault.headers)
