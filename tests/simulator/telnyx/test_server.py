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
from bot.simulator.clock import NOON, StoppedClock, to_length
from bot.simulator.sandbox import BOT_NUMBER, PHONE
from bot.simulator.telnyx.faults import (
    MENU,
    ApiFault,
    ReportFault,
    WebhookFault,
    fault_named,
    name_of,
)
from bot.simulator.telnyx.journal import (
    Arrival,
    Author,
    Exchange,
    FaultArmed,
    FaultMet,
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
class Hearing:
    """A simulated Telnyx with nobody behind it but who notes the webhooks as they come."""

    telnyx: SimulatedTelnyx
    clock: StoppedClock
    session: ClientSession
    came: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    status: int = 200

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(body)["data"] for _, body in self.came]

    async def hear(self, request: web.Request) -> web.Response:
        self.came.append((dict(request.headers), await request.read()))
        return web.Response(status=self.status, text="heard", headers={"X-Answer": "ä 1"})

    async def ask(
        self, body: bytes, headers: dict[str, str] | None = None
    ) -> tuple[ClientResponse, bytes]:
        url = f"{self.telnyx.base_url}/messages"
        async with self.session.post(url, data=body, headers=AUTHORIZED | (headers or {})) as got:
            return got, await got.read()

    async def send(
        self, text: str = "Hello", *, to: str = PHONE, key: str | None = None
    ) -> dict[str, Any]:
        body = json.dumps({"from": BOT_NUMBER, "to": to, "text": text}).encode()
        _, answered = await self.ask(body, {"Idempotency-Key": key} if key else None)
        await self.telnyx.reported()
        told: dict[str, Any] = json.loads(answered)
        return told

    def exchanges(self, wire: Wire) -> list[Exchange]:
        """All exchanges of a kind as they ended."""
        entries = self.telnyx.journal.entries
        latest = {entry.id: entry for entry in entries if isinstance(entry, Exchange)}
        return [exchange for exchange in latest.values() if exchange.wire is wire]


@pytest.fixture
async def hearing(aiohttp_server: AiohttpServer) -> AsyncIterator[Hearing]:
    clock = StoppedClock()
    async with SimulatedTelnyx(clock).running() as telnyx, ClientSession() as session:
        hearing = Hearing(telnyx, clock, session)
        application = web.Application()
        application.add_routes([web.post("/hook", hearing.hear)])
        server = await aiohttp_server(application)
        telnyx.webhook_url = str(server.make_url("/hook"))
        yield hearing


def error_of(answer: dict[str, Any]) -> str:
    (error,) = answer["errors"]
    code: str = error["code"]
    return code


def header(message: HttpMessage, name: str) -> str:
    (value,) = (value for known, value in message.headers if known.lower() == name.lower())
    return value


async def test_a_webhook_of_the_journal_verifies_as_it_stands_there(hearing: Hearing) -> None:
    await hearing.telnyx.text(PHONE, BOT_NUMBER, "Ångström 👍 “VERIFY”")
    await hearing.telnyx.post('{"an": "ünescaped body" }'.encode())
    verifier = Verifier([base64.b64decode(hearing.telnyx.public_key)])
    exchanges = hearing.exchanges(Wire.WEBHOOK)
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


async def test_a_webhook_stands_in_the_journal_as_it_was_heard_and_answered(
    hearing: Hearing,
) -> None:
    await hearing.telnyx.text(PHONE, BOT_NUMBER, "VERIFY")
    (exchange,) = hearing.exchanges(Wire.WEBHOOK)
    ((headers, body),) = hearing.came
    assert exchange.request.start == "POST /hook HTTP/1.1"
    assert dict(exchange.request.headers) == headers
    assert exchange.request.body.encode() == body
    assert exchange.answer is not None
    assert exchange.answer.start == "HTTP/1.1 200 OK"
    assert header(exchange.answer, "X-Answer") == "ä 1"
    assert exchange.answer.body == "heard"


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
async def test_an_api_request_stands_in_the_journal_as_it_came_and_was_answered(
    hearing: Hearing, body: str, headers: dict[str, str], status: str
) -> None:
    answer, answered = await hearing.ask(body.encode(), headers)
    (exchange,) = hearing.exchanges(Wire.API)
    assert exchange.request.start == "POST /v2/messages HTTP/1.1"
    assert dict(exchange.request.headers) == dict(answer.request_info.headers)
    assert headers.items() <= dict(exchange.request.headers).items()
    assert exchange.request.body == body
    assert exchange.answer is not None
    assert exchange.answer.start == f"HTTP/1.1 {status}"
    assert exchange.answer.headers == tuple(answer.headers.items())
    assert exchange.answer.body.encode() == answered
    assert [request.body for request in hearing.telnyx.requests] == [json.loads(body)]


async def test_an_exchange_is_told_as_it_begins_and_again_as_it_ends(hearing: Hearing) -> None:
    await hearing.send()
    told = [
        entry
        for entry in hearing.telnyx.journal.entries
        if isinstance(entry, Exchange) and entry.wire is Wire.API
    ]
    assert [entry.answer is None for entry in told] == [True, False]
    assert [entry.seconds is None for entry in told] == [True, False]
    assert told[0].id == told[1].id
    assert told[0].request == told[1].request


async def test_a_text_is_reported_as_sent_and_then_as_delivered(hearing: Hearing) -> None:
    answer = await hearing.send("Hello é")
    assert [event["event_type"] for event in hearing.events] == [
        "message.sent",
        "message.finalized",
    ]
    assert [event["payload"]["to"][0]["status"] for event in hearing.events] == [
        "sent",
        "delivered",
    ]
    assert {event["payload"]["id"] for event in hearing.events} == {answer["data"]["id"]}
    (text,) = hearing.telnyx.texts
    assert (text.phone, text.text, text.author) == (PHONE, "Hello é", Author.BOT)
    assert text.progress is Arrival.DELIVERED


async def test_a_key_texts_once_and_is_answered_the_same_again(hearing: Hearing) -> None:
    first = await hearing.send("Hello", key="a")
    assert await hearing.send("Hello", key="a") == first
    assert [text.text for text in hearing.telnyx.texts] == ["Hello"]
    assert await hearing.send("Hello", key="b") != first
    assert len(hearing.telnyx.texts) == 2


async def test_a_key_that_was_used_for_another_text_is_refused(hearing: Hearing) -> None:
    await hearing.send("Hello", key="a")
    assert error_of(await hearing.send("Goodbye", key="a")) == "10015"
    assert [text.text for text in hearing.telnyx.texts] == ["Hello"]


async def test_a_request_with_another_api_key_meets_no_fault(hearing: Hearing) -> None:
    hearing.telnyx.arm(ApiFault.error(500, "10007"))
    body = json.dumps({"from": BOT_NUMBER, "to": PHONE, "text": "Hello"}).encode()
    _, answered = await hearing.ask(body, {"Authorization": "Bearer another"})
    assert error_of(json.loads(answered)) == "10009"
    assert error_of(await hearing.send()) == "10007"
    assert hearing.telnyx.texts == []


@pytest.mark.parametrize(
    ("said", "keyword"),
    [
        *((word, "STOP") for word in ("STOP", " stop ", "Stop All", "unsubscribe", "end")),
        ("start", "START"),
        ("UNSTOP", "START"),
        ("Help", "HELP"),
        *((other, None) for other in ("stop it", "STOP.", "opt out", "", None)),
    ],
)
async def test_telnyx_answers_keywords_by_itself_where_they_are_the_whole_text(
    hearing: Hearing, said: str | None, keyword: str | None
) -> None:
    await hearing.telnyx.text(PHONE, BOT_NUMBER, said)
    (event,) = hearing.events
    assert event["payload"]["autoresponse_type"] == keyword
    assert event["payload"]["text"] == said
    answers = [(text.author, text.phone) for text in hearing.telnyx.texts]
    assert answers == [(Author.CARRIER, PHONE)] * (keyword is not None)


async def test_who_has_said_stop_is_texted_by_nobody_until_start(hearing: Hearing) -> None:
    telnyx = hearing.telnyx
    await telnyx.text(PHONE, BOT_NUMBER, "STOP")
    await telnyx.text(PHONE, OTHER_NUMBER, "START")
    assert error_of(await hearing.send()) == OPTED_OUT_FAULT
    assert "data" in await hearing.send(to=OTHER_PHONE)
    await telnyx.text(PHONE, BOT_NUMBER, "START")
    assert "data" in await hearing.send()
    by_bot = [text.phone for text in telnyx.texts if text.author is Author.BOT]
    assert by_bot == [OTHER_PHONE, PHONE]


@pytest.mark.parametrize(
    ("shape", "kind", "pictures", "others"),
    [(Shape.PLAIN, "SMS", 0, 0), (Shape.MEDIA, "MMS", 1, 0), (Shape.GROUP, "MMS", 0, 1)],
)
async def test_a_picture_and_a_group_are_told_by_the_payload(
    hearing: Hearing, shape: Shape, kind: str, pictures: int, others: int
) -> None:
    await hearing.telnyx.text(PHONE, BOT_NUMBER, "ж" * 71, shape)
    (event,) = hearing.events
    payload = event["payload"]
    assert (payload["type"], len(payload["media"]), len(payload["cc"])) == (kind, pictures, others)
    assert (payload["encoding"], payload["parts"]) == ("UCS-2", 2)
    (said,) = (
        entry for entry in hearing.telnyx.journal.entries[:1] if isinstance(entry, PhoneText)
    )
    assert said.shape is shape


@pytest.mark.parametrize(("status", "progress"), [(200, Arrival.DELIVERED), (503, Arrival.FAILED)])
async def test_a_text_to_the_bot_has_arrived_where_its_webhook_was_taken(
    hearing: Hearing, status: int, progress: Arrival
) -> None:
    hearing.status = status
    assert await hearing.telnyx.text(PHONE, BOT_NUMBER, "VERIFY") == status
    told = [entry for entry in hearing.telnyx.journal.entries if isinstance(entry, PhoneText)]
    assert [text.progress for text in told] == [Arrival.QUEUED, progress]
    assert told[0].id == told[1].id


async def test_a_text_tells_how_long_after_the_phones_own_it_came(hearing: Hearing) -> None:
    await hearing.telnyx.text(PHONE, BOT_NUMBER, "VERIFY")
    hearing.clock.travel(to_length("1.5s"))
    await hearing.send()
    await hearing.send(to=OTHER_PHONE)
    assert [text.took for text in hearing.telnyx.texts] == [to_length("1.5s"), None]


async def test_faults_come_about_in_the_order_armed_each_kind_at_its_own_occasion(
    hearing: Hearing,
) -> None:
    telnyx = hearing.telnyx
    faults: list[Fault] = [
        ReportFault.FAILED,
        ApiFault.error(500, "10007"),
        ReportFault.REVERSED,
        ApiFault.error(429, "10011"),
    ]
    for fault in faults:
        telnyx.arm(fault)
    assert error_of(await hearing.send("1")) == "10007"
    assert error_of(await hearing.send("2")) == "10011"
    for text in ("3", "4", "5"):
        await hearing.send(text)
    assert [text.text for text in telnyx.texts] == ["4", "5"]
    entries = telnyx.journal.entries
    assert [entry.fault for entry in entries if isinstance(entry, FaultArmed)] == faults
    met = [entry.fault for entry in entries if isinstance(entry, FaultMet)]
    assert met == [faults[1], faults[3], faults[0], faults[2]]


async def test_a_late_report_is_posted_when_its_time_has_come_though_nobody_waits_for_it(
    hearing: Hearing,
) -> None:
    hearing.telnyx.arm(ReportFault.LATE)
    await hearing.send()
    hearing.clock.travel(to_length("19.9s"))
    await hearing.telnyx.reported()
    assert hearing.came == []
    hearing.clock.travel(to_length("0.1s"))
    journal = hearing.telnyx.journal
    async with asyncio.timeout(TEST_TIMEOUT):
        while hearing.telnyx.texts[0].progress is not Arrival.DELIVERED:
            await journal.longer_than(len(journal.entries))
    assert [event["event_type"] for event in hearing.events] == [
        "message.sent",
        "message.finalized",
    ]


async def test_who_follows_the_journal_is_told_all_of_it_once_and_in_order(
    hearing: Hearing,
) -> None:
    journal, followed = hearing.telnyx.journal, []
    await hearing.telnyx.text(PHONE, BOT_NUMBER, "VERIFY")

    async def follow() -> None:
        async for entry in journal.follow():
            followed.append(entry)
            if isinstance(entry, PhoneText) and entry.text == "the last":
                return

    following = asyncio.create_task(follow())
    await hearing.send()
    await hearing.telnyx.text(PHONE, BOT_NUMBER, "the last")
    async with asyncio.timeout(TEST_TIMEOUT):
        await following
    assert followed == journal.entries[: len(followed)]
    assert len(followed) > 8


def test_faults_of_reports_and_webhooks_go_by_the_same_names_on_the_menu() -> None:
    kinds = {str(fault) for fault in (*ReportFault, *WebhookFault)}
    assert kinds == {name for name, choice in MENU.items() if isinstance(choice.fault, str)}


def test_every_fault_of_the_menu_is_found_by_its_name_and_named_by_it() -> None:
    assert {name_of(fault_named(name)): choice for name, choice in MENU.items()} == MENU
    assert name_of(ApiFault(503)) is None


def test_a_fault_that_there_is_not_is_answered_with_those_that_there_are() -> None:
    with pytest.raises(ValueError, match=r"^there is no fault 'flood', but 429, 500, .*, twice$"):
        fault_named("flood")
