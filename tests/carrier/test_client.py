from __future__ import annotations

import asyncio
import contextlib
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from bot.carrier.client import REQUEST_TIMEOUT, Carrier
from bot.carrier.errors import Limit, SendAccepted, SendHold, SendLater, SendNever, advice
from bot.simulator.clock import StoppedClock
from bot.simulator.telnyx.faults import ApiFault
from bot.simulator.telnyx.server import API_KEY, SimulatedTelnyx
from tests.kit.loop_time import advance
from tests.kit.timeouts import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp.pytest_plugin import AiohttpServer

    from bot.carrier.errors import SendResult

BOT, PHONE = "+13125550100", "+13125550001"
JSON = {"Content-Type": "application/json"}
HTML = {"Content-Type": "text/html"}
OK_JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@pytest.fixture
async def telnyx(aiohttp_server: AiohttpServer) -> AsyncIterator[SimulatedTelnyx]:
    async def webhook(_request: web.Request) -> web.Response:
        return web.Response()

    application = web.Application()
    application.add_routes([web.post("/", webhook)])
    listening = await aiohttp_server(application)
    async with SimulatedTelnyx(StoppedClock()).running() as telnyx:
        telnyx.webhook_url = str(listening.make_url("/"))
        yield telnyx


@pytest.fixture
async def carrier(telnyx: SimulatedTelnyx) -> AsyncIterator[Carrier]:
    async with opened(telnyx.base_url) as carrier:
        yield carrier


@asynccontextmanager
async def opened(base_url: str, api_key: str = API_KEY) -> AsyncIterator[Carrier]:
    carrier = Carrier(api_key, base_url)
    try:
        yield carrier
    finally:
        await carrier.close()


async def send(
    carrier: Carrier, text: str = "Hello", *, key: str = "key-1", retried: bool = False
) -> SendResult:
    return await carrier.send(key=key, bot_number=BOT, phone=PHONE, text=text, retried=retried)


async def test_a_text_goes_out_with_its_key_and_comes_back_with_an_id(
    carrier: Carrier, telnyx: SimulatedTelnyx
) -> None:
    outcome = await send(carrier, "Code: 123456.", key="0123456789abcdef")

    assert isinstance(outcome, SendAccepted)
    assert outcome.carrier_id
    (request,) = telnyx.requests
    headers = {name.lower(): value for name, value in request.headers.items()}
    assert request.body == {"from": BOT, "to": PHONE, "text": "Code: 123456."}
    assert headers["authorization"] == f"Bearer {API_KEY}"
    assert headers["idempotency-key"] == "0123456789abcdef"
    assert headers["content-type"] == "application/json"
    assert [text.text for text in telnyx.texts] == ["Code: 123456."]


async def test_the_same_key_again_texts_nobody_twice(
    carrier: Carrier, telnyx: SimulatedTelnyx
) -> None:
    first = await send(carrier)
    again = await send(carrier, retried=True)

    assert first == again
    assert len(telnyx.requests) == 2
    assert len(telnyx.texts) == 1


async def test_another_key_is_another_text(carrier: Carrier, telnyx: SimulatedTelnyx) -> None:
    first, second = await send(carrier, key="key-1"), await send(carrier, key="key-2")
    assert first != second
    assert len(telnyx.texts) == 2


async def test_another_body_under_a_used_key_means_that_it_was_accepted_before(
    carrier: Carrier, telnyx: SimulatedTelnyx
) -> None:
    await send(carrier, "one")
    assert await send(carrier, "two", retried=True) == SendAccepted(None)
    assert isinstance(await send(carrier, "two", retried=False), SendNever)
    assert [text.text for text in telnyx.texts] == ["one"]


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        (ApiFault.error(500, "10007"), SendLater("10007")),
        (ApiFault(500, "<h1>Oops</h1>", HTML), SendLater("HTTP 500", in_doubt=True)),
        (ApiFault(503, ""), SendLater("HTTP 503")),
        (ApiFault(408, ""), SendLater("HTTP 408")),
        (ApiFault(409, ""), SendLater("HTTP 409")),
        (
            ApiFault.error(429, "10011", **{"Retry-After": "17"}),
            SendLater("10011", 17.0, limit=Limit.ACCOUNT),
        ),
        (
            ApiFault(429, "", {"retry-after": "2"}),
            SendLater("HTTP 429", 2.0, limit=Limit.ACCOUNT),
        ),
        (ApiFault.error(401, "10009"), SendHold("10009")),
        (ApiFault.error(400, "40333"), SendHold("40333")),
        (ApiFault.error(400, "40300"), SendNever("40300")),
        (ApiFault.error(422, "40310"), SendNever("40310")),
        (ApiFault(400, "<h1>Bad request</h1>", HTML), SendNever("HTTP 400")),
        (ApiFault(400, "[]", JSON), SendNever("HTTP 400")),
        (ApiFault(400, "{", JSON), SendNever("HTTP 400")),
    ],
    ids=str,
)
async def test_an_error_is_classified_after_one_request_and_no_more(
    carrier: Carrier, telnyx: SimulatedTelnyx, fault: ApiFault, outcome: SendResult
) -> None:
    telnyx.faults.append(fault)

    assert await send(carrier) == outcome
    assert len(telnyx.requests) == 1
    assert telnyx.texts == []


async def test_after_an_error_the_same_text_can_be_sent(
    carrier: Carrier, telnyx: SimulatedTelnyx
) -> None:
    telnyx.faults.append(ApiFault.error(500, "10007"))
    await send(carrier)
    assert isinstance(await send(carrier, retried=True), SendAccepted)
    assert len(telnyx.texts) == 1


@pytest.mark.parametrize(
    "fault",
    [
        ApiFault(200, "<html>Sign in to the hotel's network</html>", HTML),
        ApiFault(200, "", HTML),
        ApiFault(200, "", JSON),
        ApiFault(200, "{", JSON),
        ApiFault(200, "null", JSON),
        ApiFault(200, "[]", JSON),
        ApiFault(200, '"ok"', JSON),
        ApiFault(200, "7", JSON),
        ApiFault(200, "{}", JSON),
        ApiFault(200, '{"data": null}', JSON),
        ApiFault(200, '{"data": []}', JSON),
        ApiFault(200, '{"data": "x"}', JSON),
        ApiFault(200, '{"data": {}}', JSON),
        ApiFault(200, '{"data": {"id": null}}', JSON),
        ApiFault(200, '{"data": {"id": ""}}', JSON),
        ApiFault(200, '{"data": {"id": 7}}', JSON),
        ApiFault(200, '{"data": {"id": %s}}' % ("9" * 5000), JSON),
        ApiFault(202, "Accepted", HTML),
        ApiFault(204, ""),
    ],
    ids=lambda fault: f"{fault.status} {fault.body[:30]}",
)
async def test_a_success_that_names_no_message_is_tried_again(
    carrier: Carrier, telnyx: SimulatedTelnyx, fault: ApiFault
) -> None:
    telnyx.faults.append(fault)
    assert is_in_doubt(await send(carrier))
    assert len(telnyx.requests) == 1


async def test_a_wrong_key_holds_and_the_advice_names_the_variable(
    telnyx: SimulatedTelnyx,
) -> None:
    async with opened(telnyx.base_url, "KEY-of-somebody-else") as carrier:
        outcome = await send(carrier)
    assert outcome == SendHold("10009")
    assert "TELNYX_API_KEY" in advice(outcome.fault)


@dataclass
class RawServer:
    """Answers each request with the same bytes; None keeps the client waiting."""

    base_url: str
    requests: int = 0


@asynccontextmanager
async def answering(answer: bytes | None, *, dripping: bool = False) -> AsyncIterator[RawServer]:
    over = asyncio.Event()
    handling: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(_length_of_body(head))
        raw.requests += 1
        if answer is None:
            await over.wait()
        else:
            writer.write(answer)
        while dripping and not writer.is_closing() and not over.is_set():
            writer.write(b" ")
            await asyncio.sleep(0.01)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handling.add(asyncio.create_task(handle(reader, writer)))

    listening = await asyncio.start_server(begin, "127.0.0.1", 0)
    raw = RawServer(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v2")
    try:
        yield raw
    finally:
        over.set()
        listening.close()
        await asyncio.gather(*handling)
        await listening.wait_closed()


def _length_of_body(head: bytes) -> int:
    (length,) = (
        line.partition(b":")[2]
        for line in head.lower().splitlines()
        if line.startswith(b"content-length:")
    )
    return int(length)


def is_in_doubt(outcome: SendResult) -> bool:
    return isinstance(outcome, SendLater) and outcome.in_doubt


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\x16\x03\x01 this is no HTTP\r\n\r\n",
        OK_JSON + b"Content-Length: 500\r\n\r\n{",
        OK_JSON + b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
        OK_JSON + b"Transfer-Encoding: chunked\r\n\r\nzz",
    ],
    ids=["nothing", "no HTTP", "half a body", "broken gzip", "broken chunk"],
)
async def test_a_connection_that_breaks_means_later_after_one_request(answer: bytes) -> None:
    async with answering(answer) as server, opened(server.base_url) as carrier:
        assert is_in_doubt(await send(carrier))
    assert server.requests == 1


async def test_a_server_that_never_answers_means_later() -> None:
    async with answering(None) as server, opened(server.base_url) as carrier:
        sending = asyncio.create_task(send(carrier))
        await wait_until(lambda: server.requests == 1)
        advance(REQUEST_TIMEOUT)
        assert is_in_doubt(await sending)
    assert server.requests == 1


async def test_a_response_that_comes_byte_by_byte_means_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bot.carrier.client.REQUEST_TIMEOUT", 0.2)
    begun = OK_JSON + b"Content-Length: 100000\r\n\r\n{"
    async with answering(begun, dripping=True) as server, opened(server.base_url) as carrier:
        assert isinstance(await send(carrier), SendLater)
    # None if the machine stalled before the request was written.
    assert server.requests <= 1


async def test_an_unreachable_server_means_later_without_doubt() -> None:
    async with answering(b"") as gone:
        pass
    async with opened(gone.base_url) as carrier:
        outcome = await send(carrier)
    assert isinstance(outcome, SendLater)
    assert not outcome.in_doubt


@pytest.mark.parametrize("variable", ["TELNYX_API_KEY", "TELNYX_PUBLIC_KEY", "TELNYX_BASE_URL"])
async def test_environment_variables_of_the_sdk_are_ignored(
    telnyx: SimulatedTelnyx, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "http://127.0.0.1:9/not-this")
    async with opened(telnyx.base_url) as carrier:
        assert isinstance(await send(carrier), SendAccepted)


async def test_many_texts_at_once_each_get_their_own_id(
    carrier: Carrier, telnyx: SimulatedTelnyx
) -> None:
    outcomes = await asyncio.gather(
        *(send(carrier, f"text {number}", key=f"key-{number}") for number in range(20))
    )
    ids = {outcome.carrier_id for outcome in outcomes if isinstance(outcome, SendAccepted)}
    assert len(ids) == 20
    assert len(telnyx.texts) == 20


async def test_a_redirect_is_not_followed_and_holds_until_the_url_is_fixed(
    carrier: Carrier, telnyx: SimulatedTelnyx
) -> None:
    telnyx.faults.append(ApiFault(307, headers={"Location": f"{telnyx.base_url}/messages"}))
    outcome = await send(carrier)
    assert outcome == SendHold("HTTP 307")
    assert advice("HTTP 307") == "check TELNYX_BASE_URL"
    assert len(telnyx.requests) == 1


@pytest.mark.parametrize("carrier_id", ["a\x00b", "x" * 500])
async def test_an_id_that_cannot_be_stored_is_dropped(
    carrier: Carrier, telnyx: SimulatedTelnyx, carrier_id: str
) -> None:
    body = json.dumps({"data": {"id": carrier_id}})
    telnyx.faults.append(ApiFault(200, body, {"Content-Type": "application/json"}))
    assert await send(carrier) == SendAccepted(None)
