"""A simulated Telnyx on loopback: an API that accepts texts, and signed webhooks."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import time
import uuid
from collections import deque
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from aiohttp import ClientConnectionError, ClientSession, web
from nacl.signing import SigningKey

from bot.carrier.errors import OPTED_OUT_FAULT
from bot.carrier.webhooks import SIGNATURE_HEADER, TIMESTAMP_HEADER
from bot.conversation.inputs import Shape
from bot.simulator.telnyx import payloads
from bot.simulator.telnyx.faults import ApiFault, ReportFault, WebhookFault
from bot.simulator.telnyx.journal import (
    Arrival,
    Author,
    Exchange,
    FaultArmed,
    FaultTriggered,
    HttpMessage,
    Journal,
    PhoneText,
    Wire,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from typing import Self

    from aiohttp import ClientResponse

    from bot.services.clock import Clock
    from bot.simulator.telnyx.faults import Fault

F = TypeVar("F", ApiFault, ReportFault, WebhookFault)

API_KEY = "KEY-of-the-simulated-carrier"
_RECEIVED_BEFORE = timedelta(milliseconds=1)
REPORT_DELAY = timedelta(seconds=20)
"""Delay of a late delivery report."""

# Keywords that Telnyx answers by itself, if they are the whole text, before a bot sees them.
_STOP_WORDS = frozenset({"STOP", "STOPALL", "STOP ALL", "UNSUBSCRIBE", "CANCEL", "END", "QUIT"})
_START_WORDS = frozenset({"START", "UNSTOP"})
_AUTORESPONSES = {
    "STOP": "You are unsubscribed and get no more texts. Reply START to come back.",
    "START": "You are subscribed again. Reply STOP to unsubscribe.",
    "HELP": "Help: ask whoever gave you this number. Reply STOP to unsubscribe.",
}
_REPORTS = {
    Arrival.SENT: ("message.sent", "sent"),
    Arrival.DELIVERED: ("message.finalized", "delivered"),
    Arrival.FAILED: ("message.finalized", "delivery_failed"),
}
_ORDER = {arrival: order for order, arrival in enumerate(Arrival)}
_POLL_INTERVAL = 0.2
_REPORT_RETRY_DELAYS = (0.2, 0.5, 1.0)
"""Seconds to wait after each attempt to post a report that was not answered with 200."""
_START = web.RequestKey("start", float)
_EXCHANGE = web.RequestKey("exchange", Exchange)


@dataclass(frozen=True, slots=True)
class SendRequest:
    """A request to send a text, as it arrived at the API."""

    headers: Mapping[str, str]
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Report:
    """Delivery reports of one text, in order, to be posted at a time."""

    due_at: datetime
    payload: Mapping[str, Any]
    text_id: int
    steps: tuple[Arrival, ...]


class SimulatedTelnyx:
    """The carrier between the phones and the bot, whose webhook address is `webhook_url`.

    Without `honours_idempotency_keys` a repeated request is treated as a new one. Everything that
    happens is in `journal`. Faults happen one at a time, in the order armed: those of the API at
    the next request, of reports at the next text to a phone, of webhooks at the next text from a
    phone.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._key = SigningKey.generate()
        self._session: ClientSession
        self._closing = asyncio.Event()
        self._ids = itertools.count(1)
        self._texts: dict[int, PhoneText] = {}
        self._texted_at: dict[str, datetime] = {}
        self._last_received_at = datetime.min.replace(tzinfo=UTC)
        self._opted_out: set[tuple[str, str]] = set()
        self._responses: dict[str, tuple[bytes, Mapping[str, Any]]] = {}
        self._pending_reports: list[_Report] = []
        self._report_tasks: set[asyncio.Task[None]] = set()
        self.webhook_url = ""
        self.base_url = ""
        self.honours_idempotency_keys = True
        self.journal = Journal()
        self.requests: list[SendRequest] = []
        self.faults: deque[ApiFault] = deque()
        self.report_faults: deque[ReportFault] = deque()
        self.webhook_faults: deque[WebhookFault] = deque()

    @property
    def public_key(self) -> str:
        """The public key of the webhooks' signatures, in base64 as the portal shows it."""
        return base64.b64encode(bytes(self._key.verify_key)).decode()

    @property
    def texts(self) -> list[PhoneText]:
        """The texts to phones that have not failed, in order."""
        return [
            text
            for text in self._texts.values()
            if text.author is not Author.PERSON and text.arrival is not Arrival.FAILED
        ]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Serve the API on a free port of loopback until the block ends."""
        application = web.Application()
        application.on_response_prepare.append(self._record_response)
        application.add_routes([web.post("/v2/messages", self._handle)])
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.base_url = f"http://127.0.0.1:{runner.addresses[0][1]}/v2"
        polling = asyncio.create_task(self._poll_reports())
        try:
            async with ClientSession() as self._session:
                yield self
                await self.wait_until_reported()
        finally:
            polling.cancel()
            self.release_requests()
            await runner.cleanup()

    def arm(self, fault: Fault) -> None:
        """Arm a fault: it happens at the next request, report or webhook of its kind."""
        match fault:
            case ApiFault():
                self.faults.append(fault)
            case ReportFault():
                self.report_faults.append(fault)
            case WebhookFault():
                self.webhook_faults.append(fault)
        self.journal.add(FaultArmed(self._clock.now(), fault))

    def release_requests(self) -> None:
        """End the delay of all API requests, current and future."""
        self._closing.set()

    async def text(
        self,
        phone: str,
        bot_number: str,
        text: str | None,
        shape: Shape = Shape.PLAIN,
    ) -> int:
        """Text the bot from a phone; return the HTTP status of its response to the webhook."""
        self._texted_at[phone] = self._clock.now()
        sent = self._record_text(Author.PERSON, phone, bot_number, text or "", shape)
        keyword = _keyword(text)
        if keyword:
            self._autorespond(keyword, phone, bot_number)
        payload = payloads.inbound(phone, bot_number, text, shape, self._next_received_at())
        payload["autoresponse_type"] = keyword
        fault = self._take_fault(self.webhook_faults)
        status = await self.post_event("message.received", payload)
        if fault is WebhookFault.TWICE:
            status = await self.post_event("message.received", payload)
        self._advance(sent.id, Arrival.DELIVERED if status == 200 else Arrival.FAILED)  # noqa: PLR2004
        return status

    def _next_received_at(self) -> datetime:
        """Return the time of receipt: just before the webhook, and later than the text before."""
        latest = self._last_received_at + timedelta(microseconds=1)
        self._last_received_at = max(latest, self._clock.wall() - _RECEIVED_BEFORE)
        return self._last_received_at

    async def post_event(self, event_type: str, payload: Mapping[str, Any]) -> int:
        """Post a signed event to the bot and return the HTTP status of its response."""
        event = payloads.event(event_type, payload, self._clock.wall(), self.webhook_url)
        return await self.post(json.dumps(event).encode())

    async def post(self, body: bytes) -> int:
        """Sign any body, post it to the bot, and return the HTTP status of its response."""
        start = time.monotonic()
        at = self._clock.now()
        async with self._session.post(
            self.webhook_url, data=body, headers=self.signed(body)
        ) as response:
            text = await response.text()
            seconds = time.monotonic() - start
        received = HttpMessage(_status_line(response), tuple(response.headers.items()), text)
        sent = _sent_request(response, body)
        self.journal.add(Exchange(next(self._ids), at, Wire.WEBHOOK, sent, received, seconds))
        return response.status

    def signed(self, body: bytes) -> dict[str, str]:
        """Return the headers that Telnyx sends with a body, its signature included."""
        timestamp = str(int(self._clock.wall().timestamp()))
        signature = self._key.sign(timestamp.encode() + b"|" + body).signature
        return {
            TIMESTAMP_HEADER: timestamp,
            SIGNATURE_HEADER: base64.b64encode(signature).decode(),
            "Content-Type": "application/json",
        }

    def record_exchange(
        self, wire: Wire, request: web.Request, body: bytes, response: HttpMessage, seconds: float
    ) -> None:
        """Add to the journal a request that another server received from the bot."""
        received, at = _received_request(request, body), self._clock.now()
        self.journal.add(Exchange(next(self._ids), at, wire, received, response, seconds))

    async def wait_until_reported(self) -> None:
        """Wait until every delivery report that is due has been posted."""
        self._post_due_reports()
        while self._report_tasks:
            await asyncio.wait(self._report_tasks)

    def _autorespond(self, keyword: str, phone: str, bot_number: str) -> None:
        text = self._record_text(Author.CARRIER, phone, bot_number, _AUTORESPONSES[keyword])
        self._advance(text.id, Arrival.DELIVERED)
        if keyword == "STOP":
            self._opted_out.add((phone, bot_number))
        elif keyword == "START":
            self._opted_out.discard((phone, bot_number))

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        request[_START] = time.monotonic()
        raw = await request.read()
        received = _received_request(request, raw)
        exchange = Exchange(next(self._ids), self._clock.now(), Wire.API, received)
        request[_EXCHANGE] = exchange
        self.journal.add(exchange)
        response = await self._respond(request, raw)
        if response is not None:
            return response
        self.journal.add(replace(exchange, seconds=time.monotonic() - request[_START]))
        if request.transport is not None:
            request.transport.abort()
        del request[_EXCHANGE]
        return web.Response()  # never sent: the connection is closed

    async def _record_response(self, request: web.Request, response: web.StreamResponse) -> None:
        """Add a response to the journal when it is sent, with all its headers."""
        if _EXCHANGE not in request:
            return
        start = f"HTTP/1.1 {response.status} {response.reason}"
        message = HttpMessage(start, tuple(response.headers.items()), _body(response))
        seconds = time.monotonic() - request[_START]
        self.journal.add(replace(request[_EXCHANGE], response=message, seconds=seconds))

    async def _respond(self, request: web.Request, raw: bytes) -> web.Response | None:
        """Return the API's response, or an armed fault's; None drops the connection."""
        body = json.loads(raw)
        self.requests.append(SendRequest(dict(request.headers), body))
        if request.headers.get("Authorization") != f"Bearer {API_KEY}":
            return _response(ApiFault.error(401, "10009"))
        key = request.headers.get("Idempotency-Key", uuid.uuid4().hex)
        fault = self._take_fault(self.faults)
        if fault is None:
            early = ReportFault.EARLY in itertools.islice(self.report_faults, 1)
            response = self._send(key, raw, body)
            if early:
                await self.wait_until_reported()
            return response
        if fault.accepted:
            self._send(key, raw, body)
        if fault.after:
            delay = asyncio.wait_for(self._closing.wait(), fault.after)
            await asyncio.gather(delay, return_exceptions=True)
        if fault.cut:
            await _send_truncated(request, fault)
        return None if fault.cut or fault.status is None else _response(fault)

    def _send(self, key: str, raw: bytes, body: Mapping[str, Any]) -> web.Response:
        """Accept a text, unless it is a repeated request or the phone has opted out."""
        if self.honours_idempotency_keys and key in self._responses:
            known, response = self._responses[key]
            return (
                web.json_response(response)
                if known == raw
                else _response(ApiFault.error(422, "10015"))
            )
        if (body["to"], body["from"]) in self._opted_out:
            return _response(ApiFault.error(400, OPTED_OUT_FAULT))
        payload = payloads.outbound(body)
        self._responses[key] = (raw, {"data": payload})
        text = self._record_text(Author.BOT, body["to"], body["from"], body["text"])
        self._report(payload, text.id)
        return web.json_response({"data": payload})

    def _report(self, payload: Mapping[str, Any], text_id: int) -> None:
        """Schedule the delivery reports of an accepted text, faulty if a fault is armed."""
        steps: tuple[Arrival, ...] = (Arrival.SENT, Arrival.DELIVERED)
        due_at = self._clock.now()
        match self._take_fault(self.report_faults):
            case ReportFault.FAILED:
                steps = (Arrival.SENT, Arrival.FAILED)
            case ReportFault.REVERSED:
                steps = (Arrival.DELIVERED, Arrival.SENT)
            case ReportFault.REPEATED:
                steps = (Arrival.SENT, Arrival.SENT, Arrival.DELIVERED, Arrival.DELIVERED)
            case ReportFault.LATE:
                due_at += REPORT_DELAY
        self._pending_reports.append(_Report(due_at, payload, text_id, steps))
        self._post_due_reports()

    def _post_due_reports(self) -> None:
        now = self._clock.now()
        due = [report for report in self._pending_reports if report.due_at <= now]
        self._pending_reports = [report for report in self._pending_reports if report.due_at > now]
        for report in due:
            task = asyncio.create_task(self._post_report(report))
            self._report_tasks.add(task)
            task.add_done_callback(self._report_tasks.discard)

    async def _poll_reports(self) -> None:
        """Post late reports at their time even if no caller waits for them."""
        while True:
            await asyncio.sleep(_POLL_INTERVAL)
            self._post_due_reports()

    async def _post_report(self, report: _Report) -> None:
        for step in report.steps:
            event_type, status = _REPORTS[step]
            try:
                await self._post_until_accepted(
                    event_type, payloads.delivery_report(report.payload, status)
                )
            except ClientConnectionError:
                return  # the bot has been stopped
            self._advance(report.text_id, step)

    async def _post_until_accepted(self, event_type: str, payload: Mapping[str, Any]) -> None:
        """Post an event a few times until it is answered with 200, as Telnyx does."""
        body = json.dumps(
            payloads.event(event_type, payload, self._clock.wall(), self.webhook_url)
        ).encode()
        for wait in _REPORT_RETRY_DELAYS:
            if await self.post(body) == 200:  # noqa: PLR2004
                return
            await asyncio.sleep(wait)

    def _record_text(
        self,
        author: Author,
        phone: str,
        bot_number: str,
        text: str,
        shape: Shape = Shape.PLAIN,
    ) -> PhoneText:
        now = self._clock.now()
        texted_at = self._texted_at.get(phone)
        took = None if author is Author.PERSON or texted_at is None else now - texted_at
        recorded = PhoneText(
            next(self._ids), now, author, phone, bot_number, text, shape, took=took
        )
        self._texts[recorded.id] = recorded
        self.journal.add(recorded)
        return recorded

    def _advance(self, text_id: int, arrival: Arrival) -> None:
        """Record how far a text has come, never backwards: reports come in any order."""
        text = self._texts[text_id]
        if _ORDER[arrival] > _ORDER[text.arrival]:
            self._texts[text_id] = replace(text, arrival=arrival)
            self.journal.add(self._texts[text_id])

    def _take_fault(self, armed: deque[F]) -> F | None:
        if not armed:
            return None
        fault = armed.popleft()
        self.journal.add(FaultTriggered(self._clock.now(), fault))
        return fault


def _keyword(text: str | None) -> str | None:
    word = (text or "").strip().upper()
    if word in _STOP_WORDS:
        return "STOP"
    if word in _START_WORDS:
        return "START"
    return "HELP" if word == "HELP" else None


def _response(fault: ApiFault) -> web.Response:
    return web.Response(status=fault.status or 0, body=fault.body.encode(), headers=fault.headers)


async def _send_truncated(request: web.Request, fault: ApiFault) -> None:
    """Send a response that is shorter than its Content-Length."""
    response = web.StreamResponse(status=fault.status or 0, headers=fault.headers)
    response.content_length = 2 * len(fault.body)
    await response.prepare(request)
    await response.write(fault.body.encode())


def _body(response: web.StreamResponse) -> str:
    body = response.body if isinstance(response, web.Response) else None
    return body.decode(errors="replace") if isinstance(body, bytes) else ""


def _received_request(request: web.Request, body: bytes) -> HttpMessage:
    start = f"{request.method} {request.path_qs} HTTP/{request.version[0]}.{request.version[1]}"
    return HttpMessage(start, tuple(request.headers.items()), body.decode(errors="replace"))


def _sent_request(response: ClientResponse, body: bytes) -> HttpMessage:
    request = response.request_info
    start = f"{request.method} {request.url.path_qs} HTTP/1.1"
    return HttpMessage(start, tuple(request.headers.items()), body.decode(errors="replace"))


def _status_line(response: ClientResponse) -> str:
    return f"HTTP/1.1 {response.status} {response.reason}"
