from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import ClientSession, web

from bot.carrier.errors import OPTED_OUT_FAULT
from bot.carrier.webhooks import SIGNATURE_HEADER, TIMESTAMP_HEADER, SignatureError, Verifier
from bot.conversation.inputs import Shape
from bot.simulator.clock import NOON, StoppedClock, parse_duration
from bot.simulator.sandbox import BOT_NUMBER, PHONE
from bot.simulator.telnyx.faults import (
    NAMED_FAULTS,
    ApiFault,
    ReportFault,
    WebhookFault,
    fault_name,
    find_fault,
)
from bot.simulator.telnyx.journal import (
    Arrival,
    Author,
    Exchange,
    FaultArmed,
    FaultTriggered,
    PhoneText,
    Wire,
)
from bot.simulator.telnyx.server import API_KEY, SimulatedTelnyx
from tests.kit.timeouts import TEST_TIMEOUT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp import ClientResponse
    from aiohttp.pytest_plugin import AiohttpServer

    from bot.simulator.telnyx.faults import Fault
    from bot.simulator.telnyx.journal import HttpMessage

OTHER_PHONE = "+13125550002"
OTHER_NUMBER = "+13125550999"
AUTHORIZED = {"Authorization": f"Bearer {API_KEY}", "Content-Type": "application/json"}


@dataclass
class Setup:
    """A simulated Telnyx, and a server that records its webhooks."""

    telnyx: SimulatedTelnyx
    clock: StoppedClock
    session: ClientSession
    webhooks: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    status: int = 200

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(body)["data"] for _, body in self.webhooks]

    async def receive(self, request: web.Request) -> web.Response:
        self.webhooks.append((dict(request.headers), await request.read()))
        return web.Response(status=self.status, text="received", headers={"X-Answer": "ä 1"})

    async def post(
        self, body: bytes, headers: dict[str, str] | None = None
    ) -> tuple[ClientResponse, bytes]:
        url = f"{self.telnyx.base_url}/messages"
        async with self.session.post(url, data=body, headers=AUTHORIZED | (headers or {})) as got:
            return got, await got.read()

    async def send(
        self, text: str = "Hello", *, to: str = PHONE, key: str | None = None
    ) -> dict[str, Any]:
        body = json.dumps({"from": BOT_NUMBER, "to": to, "text": text}).encode()
        _, response_body = await self.post(body, {"Idempotency-Key": key} if key else None)
        await self.telnyx.wait_until_reported()
        result: dict[str, Any] = json.loads(response_body)
        return result

    def exchanges(self, wire: Wire) -> list[Exchange]:
        """Return the exchanges of a kind as they ended."""
        entries = self.telnyx.journal.entries
        latest = {entry.id: entry for entry in entries if isinstance(entry, Exchange)}
        return [exchange for exchange in latest.values() if exchange.wire is wire]


@pytest.fixture
async def setup(aiohttp_server: AiohttpServer) -> AsyncIterator[Setup]:
    clock = StoppedClock()
    async with SimulatedTelnyx(clock).running() as telnyx, ClientSession() as session:
        setup = Setup(telnyx, clock, session)
        application = web.Application()
        application.add_routes([web.post("/hook", setup.receive)])
        server = await aiohttp_server(application)
        telnyx.webhook_url = str(server.make_url("/hook"))
        yield setup


def error_of(answer: dict[str, Any]) -> str:
    (error,) = answer["errors"]
    code: str = error["code"]
    return code


def header(message: HttpMessage, name: str) -> str:
    (value,) = (value for known, value in message.headers if known.lower() == name.lower())
    return value


async def test_a_webhook_in_the_journal_has_a_valid_signature(setup: Setup) -> None:
    await setup.telnyx.text(PHONE, BOT_NUMBER, "Ångström 👍 “VERIFY”")
    await setup.telnyx.post('{"an": "ünescaped body" }'.encode())
    verifier = Verifier([base64.b64decode(setup.telnyx.public_key)])
    exchanges = setup.exchanges(Wire.WEBHOOK)
    assert len(exchanges) == 2
    for exchange in exchanges:
        body = exchange.request.body.encode()
        signed = (
            [header(exchange.request, SIGNATURE_HEADER)],
            [header(exchange.request, TIMESTAMP_HEADER)],
        )
        verifier.verify(body, *signed, NOON)
        with pytest.raises(SignatureError):
            verifier.verify(body + b" ", *signed, NOON)


async def test_the_journal_has_a_webhook_as_it_was_received_and_answered(
    setup: Setup,
) -> None:
    await setup.telnyx.text(PHONE, BOT_NUMBER, "VERIFY")
    (exchange,) = setup.exchanges(Wire.WEBHOOK)
    ((headers, body),) = setup.webhooks
    assert exchange.request.start == "POST /hook HTTP/1.1"
    assert dict(exchange.request.headers) == headers
    assert exchange.request.body.encode() == body
    assert exchange.response is not None
    assert exchange.response.start == "HTTP/1.1 200 OK"
    assert header(exchange.response, "X-Answer") == "ä 1"
    assert exchange.response.body == "received"


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (
            f'{{ "from":"{BOT_NUMBER}", "to" : "{PHONE}","text":"é 👍 \\u00e9"}}',
            {"X-Odd-Case": "1"},
            "200 OK",
        ),
        ('{"text": "é"}', {"Authorization": "Bearer another"}, "401 Unauthorized"),
    ],
)
async def test_the_journal_has_an_api_request_as_it_was_received_and_answered(
    setup: Setup, body: str, headers: dict[str, str], status: str
) -> None:
    answer, answered = await setup.post(body.encode(), headers)
    (exchange,) = setup.exchanges(Wire.API)
    assert exchange.request.start == "POST /v2/messages HTTP/1.1"
    assert dict(exchange.request.headers) == dict(answer.request_info.headers)
    assert headers.items() <= dict(exchange.request.headers).items()
    assert exchange.request.body == body
    assert exchange.response is not None
    assert exchange.response.start == f"HTTP/1.1 {status}"
    assert exchange.response.headers == tuple(answer.headers.items())
    assert exchange.response.body.encode() == answered
    assert [request.body for request in setup.telnyx.requests] == [json.loads(body)]


async def test_an_exchange_is_added_when_it_begins_and_again_when_it_ends(setup: Setup) -> None:
    await setup.send()
    added = [
        entry
        for entry in setup.telnyx.journal.entries
        if isinstance(entry, Exchange) and entry.wire is Wire.API
    ]
    assert [entry.response is None for entry in added] == [True, False]
    assert [entry.seconds is None for entry in added] == [True, False]
    assert added[0].id == added[1].id
    assert added[0].request == added[1].request


async def test_a_text_is_reported_as_sent_and_then_as_delivered(setup: Setup) -> None:
    answer = await setup.send("Hello é")
    assert [event["event_type"] for event in setup.events] == [
        "message.sent",
        "message.finalized",
    ]
    assert [event["payload"]["to"][0]["status"] for event in setup.events] == [
        "sent",
        "delivered",
    ]
    assert {event["payload"]["id"] for event in setup.events} == {answer["data"]["id"]}
    (text,) = setup.telnyx.texts
    assert (text.phone, text.text, text.author) == (PHONE, "Hello é", Author.BOT)
    assert text.arrival is Arrival.DELIVERED


async def test_a_repeated_idempotency_key_sends_once_and_gets_the_same_response(
    setup: Setup,
) -> None:
    first = await setup.send("Hello", key="a")
    assert await setup.send("Hello", key="a") == first
    assert [text.text for text in setup.telnyx.texts] == ["Hello"]
    assert await setup.send("Hello", key="b") != first
    assert len(setup.telnyx.texts) == 2


async def test_an_idempotency_key_that_was_used_for_another_text_is_refused(setup: Setup) -> None:
    await setup.send("Hello", key="a")
    assert error_of(await setup.send("Goodbye", key="a")) == "10015"
    assert [text.text for text in setup.telnyx.texts] == ["Hello"]


async def test_a_request_with_a_wrong_api_key_uses_up_no_fault(setup: Setup) -> None:
    setup.telnyx.arm(ApiFault.error(500, "10007"))
    body = json.dumps({"from": BOT_NUMBER, "to": PHONE, "text": "Hello"}).encode()
    _, answered = await setup.post(body, {"Authorization": "Bearer another"})
    assert error_of(json.loads(answered)) == "10009"
    assert error_of(await setup.send()) == "10007"
    assert setup.telnyx.texts == []


@pytest.mark.parametrize(
    ("text", "keyword"),
    [
        *((word, "STOP") for word in ("STOP", " stop ", "Stop All", "unsubscribe", "end")),
        ("start", "START"),
        ("UNSTOP", "START"),
        ("Help", "HELP"),
        *((other, None) for other in ("stop it", "STOP.", "opt out", "", None)),
    ],
)
async def test_telnyx_answers_keywords_by_itself_if_they_are_the_whole_text(
    setup: Setup, text: str | None, keyword: str | None
) -> None:
    await setup.telnyx.text(PHONE, BOT_NUMBER, text)
    (event,) = setup.events
    assert event["payload"]["autoresponse_type"] == keyword
    assert event["payload"]["text"] == text
    replies = [(sent.author, sent.phone) for sent in setup.telnyx.texts]
    assert replies == [(Author.CARRIER, PHONE)] * (keyword is not None)


async def test_after_stop_no_text_is_accepted_until_start(setup: Setup) -> None:
    telnyx = setup.telnyx
    await telnyx.text(PHONE, BOT_NUMBER, "STOP")
    await telnyx.text(PHONE, OTHER_NUMBER, "START")
    assert error_of(await setup.send()) == OPTED_OUT_FAULT
    assert "data" in await setup.send(to=OTHER_PHONE)
    await telnyx.text(PHONE, BOT_NUMBER, "START")
    assert "data" in await setup.send()
    by_bot = [text.phone for text in telnyx.texts if text.author is Author.BOT]
    assert by_bot == [OTHER_PHONE, PHONE]


@pytest.mark.parametrize(
    ("shape", "kind", "pictures", "others"),
    [(Shape.PLAIN, "SMS", 0, 0), (Shape.MEDIA, "MMS", 1, 0), (Shape.GROUP, "MMS", 0, 1)],
)
async def test_the_payload_shows_a_picture_or_a_group(
    setup: Setup, shape: Shape, kind: str, pictures: int, others: int
) -> None:
    await setup.telnyx.text(PHONE, BOT_NUMBER, "ж" * 71, shape)
    (event,) = setup.events
    payload = event["payload"]
    assert (payload["type"], len(payload["media"]), len(payload["cc"])) == (kind, pictures, others)
    assert (payload["encoding"], payload["parts"]) == ("UCS-2", 2)
    (sent,) = (entry for entry in setup.telnyx.journal.entries[:1] if isinstance(entry, PhoneText))
    assert sent.shape is shape


@pytest.mark.parametrize(("status", "arrival"), [(200, Arrival.DELIVERED), (503, Arrival.FAILED)])
async def test_a_text_to_the_bot_has_arrived_if_its_webhook_was_answered_200(
    setup: Setup, status: int, arrival: Arrival
) -> None:
    setup.status = status
    assert await setup.telnyx.text(PHONE, BOT_NUMBER, "VERIFY") == status
    added = [entry for entry in setup.telnyx.journal.entries if isinstance(entry, PhoneText)]
    assert [text.arrival for text in added] == [Arrival.QUEUED, arrival]
    assert added[0].id == added[1].id


async def test_a_text_has_the_time_since_the_phones_own_last_text(setup: Setup) -> None:
    await setup.telnyx.text(PHONE, BOT_NUMBER, "VERIFY")
    setup.clock.travel(parse_duration("1.5s"))
    await setup.send()
    await setup.send(to=OTHER_PHONE)
    assert [text.took for text in setup.telnyx.texts] == [parse_duration("1.5s"), None]


async def test_faults_of_each_kind_happen_in_the_order_armed(
    setup: Setup,
) -> None:
    telnyx = setup.telnyx
    faults: list[Fault] = [
        ReportFault.FAILED,
        ApiFault.error(500, "10007"),
        ReportFault.REVERSED,
        ApiFault.error(429, "10011"),
    ]
    for fault in faults:
        telnyx.arm(fault)
    assert error_of(await setup.send("1")) == "10007"
    assert error_of(await setup.send("2")) == "10011"
    for text in ("3", "4", "5"):
        await setup.send(text)
    assert [text.text for text in telnyx.texts] == ["4", "5"]
    entries = telnyx.journal.entries
    assert [entry.fault for entry in entries if isinstance(entry, FaultArmed)] == faults
    triggered = [entry.fault for entry in entries if isinstance(entry, FaultTriggered)]
    assert triggered == [faults[1], faults[3], faults[0], faults[2]]


async def test_a_late_report_is_posted_at_its_time_even_if_no_caller_waits(
    setup: Setup,
) -> None:
    setup.telnyx.arm(ReportFault.LATE)
    await setup.send()
    setup.clock.travel(parse_duration("19.9s"))
    await setup.telnyx.wait_until_reported()
    assert setup.webhooks == []
    setup.clock.travel(parse_duration("0.1s"))
    journal = setup.telnyx.journal
    async with asyncio.timeout(TEST_TIMEOUT):
        while setup.telnyx.texts[0].arrival is not Arrival.DELIVERED:
            await journal.wait_for_more_than(len(journal.entries))
    assert [event["event_type"] for event in setup.events] == [
        "message.sent",
        "message.finalized",
    ]


async def test_a_follower_of_the_journal_gets_every_entry_once_and_in_order(
    setup: Setup,
) -> None:
    journal, followed = setup.telnyx.journal, []
    await setup.telnyx.text(PHONE, BOT_NUMBER, "VERIFY")

    async def follow() -> None:
        async for entry in journal.follow():
            followed.append(entry)
            if isinstance(entry, PhoneText) and entry.text == "the last":
                return

    following = asyncio.create_task(follow())
    await setup.send()
    await setup.telnyx.text(PHONE, BOT_NUMBER, "the last")
    async with asyncio.timeout(TEST_TIMEOUT):
        await following
    assert followed == journal.entries[: len(followed)]
    assert len(followed) > 8


def test_faults_of_reports_and_webhooks_have_their_values_as_names() -> None:
    kinds = {str(fault) for fault in (*ReportFault, *WebhookFault)}
    assert kinds == {name for name, named in NAMED_FAULTS.items() if isinstance(named.fault, str)}


def test_every_named_fault_is_found_by_its_name() -> None:
    assert {
        fault_name(find_fault(name)): named for name, named in NAMED_FAULTS.items()
    } == NAMED_FAULTS
    assert fault_name(ApiFault(503)) is None


def test_an_unknown_fault_is_refused_with_the_list_of_faults() -> None:
    with pytest.raises(
        ValueError, match=r"^unknown fault 'flood', not one of 429, 500, .*, twice$"
    ):
        find_fault("flood")
