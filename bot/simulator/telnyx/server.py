"""A pretend Telnyx on loopback: records sends as the API does, signs real webhooks."""

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
    FaultMet,
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
_ON_ITS_WAY = timedelta(milliseconds=1)
LATE_BY = timedelta(seconds=20)
"""How late a late delivery report is, by the clock that can be moved."""

# What Telnyx answers by itself, to a whole message, before a bot sees it.
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
_LATER = {progress: order for order, progress in enumerate(Arrival)}
_LOOK_EVERY = 0.2
_POST_AGAIN_AFTER = (0.2, 0.5, 1.0)
"""Seconds after a report that was not answered 200, and before the next try or the end of them."""
_BEGAN = web.RequestKey("began", float)
_EXCHANGE = web.RequestKey("exchange", Exchange)


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """One request to the API, as it came."""

    headers: Mapping[str, str]
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Report:
    """A delivery report that waits for its time."""

    due_at: datetime
    payload: Mapping[str, Any]
    text_id: int
    steps: tuple[Arrival, ...]


class SimulatedTelnyx:
    """The carrier between the phones and the bot. `webhook_url` is where the bot listens.

    One that no longer `heeds_keys` takes a request that it has had before for a new one.
    Whatever happens is in its `journal`. Faults come about one at a time, in the order armed:
    those of the API with the next request, of reports with the next text to a phone, of webhooks
    with the next text from one.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._key = SigningKey.generate()
        self._session: ClientSession
        self._closing = asyncio.Event()
        self._ids = itertools.count(1)
        self._texts: dict[int, PhoneText] = {}
        self._said_at: dict[str, datetime] = {}
        self._received_at = datetime.min.replace(tzinfo=UTC)
        self._blocked: set[tuple[str, str]] = set()
        self._remembered: dict[str, tuple[bytes, Mapping[str, Any]]] = {}
        self._late: list[_Report] = []
        self._reporting: set[asyncio.Task[None]] = set()
        self.webhook_url = ""
        self.base_url = ""
        self.heeds_keys = True
        self.journal = Journal()
        self.requests: list[ApiRequest] = []
        self.faults: deque[ApiFault] = deque()
        self.report_faults: deque[ReportFault] = deque()
        self.webhook_faults: deque[WebhookFault] = deque()

    @property
    def public_key(self) -> str:
        """The key that its webhooks verify with, as the portal shows it."""
        return base64.b64encode(bytes(self._key.verify_key)).decode()

    @property
    def texts(self) -> list[PhoneText]:
        """The texts to phones that have not failed on their way, in order."""
        return [
            text
            for text in self._texts.values()
            if text.author is not Author.PERSON and text.progress is not Arrival.FAILED
        ]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Serve the API on a free port of loopback until the block ends."""
        application = web.Application()
        application.on_response_prepare.append(self._answered)
        application.add_routes([web.post("/v2/messages", self._serve)])
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.base_url = f"http://127.0.0.1:{runner.addresses[0][1]}/v2"
        late = asyncio.create_task(self._report_late())
        try:
            async with ClientSession() as self._session:
                yield self
                await self.reported()
        finally:
            late.cancel()
            self.hang_up()
            await runner.cleanup()

    def arm(self, fault: Fault) -> None:
        """Have a fault come about at its next occasion."""
        match fault:
            case ApiFault():
                self.faults.append(fault)
            case ReportFault():
                self.report_faults.append(fault)
            case WebhookFault():
                self.webhook_faults.append(fault)
        self.journal.add(FaultArmed(self._clock.now(), fault))

    def hang_up(self) -> None:
        """Let go of all requests that are kept waiting, now and from now on."""
        self._closing.set()

    async def text(
        self,
        phone: str,
        bot_number: str,
        text: str | None,
        shape: Shape = Shape.PLAIN,
    ) -> int:
        """Text the bot from a phone; returns how the bot answered the webhook (HTTP status)."""
        self._said_at[phone] = self._clock.now()
        said = self._note(Author.PERSON, phone, bot_number, text or "", shape)
        keyword = _keyword(text)
        if keyword:
            self._respond(keyword, phone, bot_number)
        payload = payloads.inbound(phone, bot_number, text, shape, self._received_now())
        payload["autoresponse_type"] = keyword
        fault = self._met(self.webhook_faults)
        status = await self.post_event("message.received", payload)
        if fault is WebhookFault.TWICE:
            status = await self.post_event("message.received", payload)
        self._progress(said.id, Arrival.DELIVERED if status == 200 else Arrival.FAILED)  # noqa: PLR2004
        return status

    def _received_now(self) -> datetime:
        """Stamp a text: a little before the bot hears of it, and no two at the same moment."""
        latest = self._received_at + timedelta(microseconds=1)
        self._received_at = max(latest, self._clock.wall() - _ON_ITS_WAY)
        return self._received_at

    async def post_event(self, event_type: str, payload: Mapping[str, Any]) -> int:
        """Post a signed event to the bot and return the status of its answer."""
        event = payloads.event(event_type, payload, self._clock.wall(), self.webhook_url)
        return await self.post(json.dumps(event).encode())

    async def post(self, body: bytes) -> int:
        """Sign a body, whatever it is, post it, and return the status of the answer."""
        began = time.monotonic()
        at = self._clock.now()
        async with self._session.post(
            self.webhook_url, data=body, headers=self.signed(body)
        ) as answer:
            received = await answer.text()
            seconds = time.monotonic() - began
        sent = _sent(answer, body)
        heard = HttpMessage(_status_line(answer), tuple(answer.headers.items()), received)
        self.journal.add(Exchange(next(self._ids), at, Wire.WEBHOOK, sent, heard, seconds))
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

    def note_exchange(
        self, wire: Wire, request: web.Request, body: bytes, answer: HttpMessage, seconds: float
    ) -> None:
        """Add to the journal what another that the bot talks to was asked, and has answered."""
        heard, at = _received(request, body), self._clock.now()
        self.journal.add(Exchange(next(self._ids), at, wire, heard, answer, seconds))

    async def reported(self) -> None:
        """Wait until every delivery report that is due has been posted."""
        self._report_due()
        while self._reporting:
            await asyncio.wait(self._reporting)

    def _respond(self, keyword: str, phone: str, bot_number: str) -> None:
        text = self._note(Author.CARRIER, phone, bot_number, _AUTORESPONSES[keyword])
        self._progress(text.id, Arrival.DELIVERED)
        if keyword == "STOP":
            self._blocked.add((phone, bot_number))
        elif keyword == "START":
            self._blocked.discard((phone, bot_number))

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        request[_BEGAN] = time.monotonic()
        raw = await request.read()
        exchange = Exchange(next(self._ids), self._clock.now(), Wire.API, _received(request, raw))
        request[_EXCHANGE] = exchange
        self.journal.add(exchange)
        answer = await self._answer(request, raw)
        if answer is not None:
            return answer
        self.journal.add(replace(exchange, seconds=time.monotonic() - request[_BEGAN]))
        if request.transport is not None:
            request.transport.abort()
        del request[_EXCHANGE]
        return web.Response()  # goes nowhere

    async def _answered(self, request: web.Request, answer: web.StreamResponse) -> None:
        """Write down an answer as it leaves, with all its headers."""
        if _EXCHANGE not in request:
            return
        start = f"HTTP/1.1 {answer.status} {answer.reason}"
        told = HttpMessage(start, tuple(answer.headers.items()), _body(answer))
        seconds = time.monotonic() - request[_BEGAN]
        self.journal.add(replace(request[_EXCHANGE], answer=told, seconds=seconds))

    async def _answer(self, request: web.Request, raw: bytes) -> web.Response | None:
        """Answer as the API does, or as a fault wants it; None drops the connection."""
        body = json.loads(raw)
        self.requests.append(ApiRequest(dict(request.headers), body))
        if request.headers.get("Authorization") != f"Bearer {API_KEY}":
            return _response(ApiFault.error(401, "10009"))
        key = request.headers.get("Idempotency-Key", uuid.uuid4().hex)
        fault = self._met(self.faults)
        if fault is None:
            early = ReportFault.EARLY in itertools.islice(self.report_faults, 1)
            answer = self._send(key, raw, body)
            if early:
                await self.reported()
            return answer
        if fault.accepted:
            self._send(key, raw, body)
        if fault.after:
            with_deadline = asyncio.wait_for(self._closing.wait(), fault.after)
            await asyncio.gather(with_deadline, return_exceptions=True)
        if fault.cut:
            await _break_off(request, fault)
        return None if fault.cut or fault.status is None else _response(fault)

    def _send(self, key: str, raw: bytes, body: Mapping[str, Any]) -> web.Response:
        """Take a text to its phone, unless it has been taken before or is blocked."""
        if self.heeds_keys and key in self._remembered:
            known, answer = self._remembered[key]
            return (
                web.json_response(answer)
                if known == raw
                else _response(ApiFault.error(422, "10015"))
            )
        if (body["to"], body["from"]) in self._blocked:
            return _response(ApiFault.error(400, OPTED_OUT_FAULT))
        payload = payloads.outbound(body)
        self._remembered[key] = (raw, {"data": payload})
        text = self._note(Author.BOT, body["to"], body["from"], body["text"])
        self._report(payload, text.id)
        return web.json_response({"data": payload})

    def _report(self, payload: Mapping[str, Any], text_id: int) -> None:
        """Report on a text that was accepted, as a fault wants it where one is armed."""
        steps: tuple[Arrival, ...] = (Arrival.SENT, Arrival.DELIVERED)
        due_at = self._clock.now()
        match self._met(self.report_faults):
            case ReportFault.FAILED:
                steps = (Arrival.SENT, Arrival.FAILED)
            case ReportFault.REVERSED:
                steps = (Arrival.DELIVERED, Arrival.SENT)
            case ReportFault.REPEATED:
                steps = (Arrival.SENT, Arrival.SENT, Arrival.DELIVERED, Arrival.DELIVERED)
            case ReportFault.LATE:
                due_at += LATE_BY
        self._late.append(_Report(due_at, payload, text_id, steps))
        self._report_due()

    def _report_due(self) -> None:
        now = self._clock.now()
        due = [report for report in self._late if report.due_at <= now]
        self._late = [report for report in self._late if report.due_at > now]
        for report in due:
            task = asyncio.create_task(self._post_report(report))
            self._reporting.add(task)
            task.add_done_callback(self._reporting.discard)

    async def _report_late(self) -> None:
        """Post late reports when their time has come, if nobody waits for them."""
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            self._report_due()

    async def _post_report(self, report: _Report) -> None:
        for step in report.steps:
            event_type, status = _REPORTS[step]
            try:
                await self._post_until_taken(event_type, payloads.reported(report.payload, status))
            except ClientConnectionError:
                return  # the bot has gone, and nobody is left to be told
            self._progress(report.text_id, step)

    async def _post_until_taken(self, event_type: str, payload: Mapping[str, Any]) -> None:
        """Post an event again where it is not answered 200, a few times, as Telnyx does."""
        body = json.dumps(
            payloads.event(event_type, payload, self._clock.wall(), self.webhook_url)
        ).encode()
        for wait in _POST_AGAIN_AFTER:
            if await self.post(body) == 200:  # noqa: PLR2004
                return
            await asyncio.sleep(wait)

    def _note(
        self,
        author: Author,
        phone: str,
        bot_number: str,
        text: str,
        shape: Shape = Shape.PLAIN,
    ) -> PhoneText:
        now = self._clock.now()
        said_at = self._said_at.get(phone)
        took = None if author is Author.PERSON or said_at is None else now - said_at
        noted = PhoneText(next(self._ids), now, author, phone, bot_number, text, shape, took=took)
        self._texts[noted.id] = noted
        self.journal.add(noted)
        return noted

    def _progress(self, text_id: int, progress: Arrival) -> None:
        """Take a text further, never back: reports come in any order."""
        text = self._texts[text_id]
        if _LATER[progress] > _LATER[text.progress]:
            self._texts[text_id] = replace(text, progress=progress)
            self.journal.add(self._texts[text_id])

    def _met(self, armed: deque[F]) -> F | None:
        if not armed:
            return None
        fault = armed.popleft()
        self.journal.add(FaultMet(self._clock.now(), fault))
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


async def _break_off(request: web.Request, fault: ApiFault) -> None:
    """Begin an answer that promises more than will come."""
    begun = web.StreamResponse(status=fault.status or 0, headers=fault.headers)
    begun.content_length = 2 * len(fault.body)
    await begun.prepare(request)
    await begun.write(fault.body.encode())


def _body(answer: web.StreamResponse) -> str:
    body = answer.body if isinstance(answer, web.Response) else None
    return body.decode(errors="replace") if isinstance(body, bytes) else ""


def _received(request: web.Request, body: bytes) -> HttpMessage:
    start = f"{request.method} {request.path_qs} HTTP/{request.version[0]}.{request.version[1]}"
    return HttpMessage(start, tuple(request.headers.items()), body.decode(errors="replace"))


def _sent(answer: ClientResponse, body: bytes) -> HttpMessage:
    asked = answer.request_info
    start = f"{asked.method} {asked.url.path_qs} HTTP/1.1"
    return HttpMessage(start, tuple(asked.headers.items()), body.decode(errors="replace"))


def _status_line(answer: ClientResponse) -> str:
    return f"HTTP/1.1 {answer.status} {answer.reason}"
