from __future__ import annotations

import asyncio
import base64
import gzip
import json
import re
import sqlite3
import uuid
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, replace
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from aiohttp import ClientSession
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from bot.carrier.webhooks import SIGNATURE_HEADER, TIMESTAMP_HEADER, Verifier
from bot.services.intake.inbox import Inbox
from bot.simulator.clock import NOON, StoppedClock
from bot.simulator.sandbox import BOT_NUMBER, LONG_DEADLINES, PHONE
from bot.simulator.telnyx import payloads
from bot.simulator.telnyx.server import SimulatedTelnyx
from bot.store.engine.errors import UnavailableError
from bot.store.tables import (
    ConversationRow,
    OutboxRow,
    PhoneLimitsRow,
    ProcessedWebhookRow,
    TokenRow,
)
from bot.web import app
from bot.web.app import WEBHOOK_PATH
from bot.web.health import Readiness
from bot.web.telnyx import MAX_BODY_BYTES, TelnyxWebhook
from tests.kit.stored import outbox_rows, row_count
from tests.kit.timeouts import TEST_TIMEOUT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from aiohttp import ClientResponse
    from aiohttp.pytest_plugin import AiohttpClient
    from aiohttp.test_utils import TestClient
    from sqlalchemy import URL

    from bot.services.intake.inbox import InboxItem
    from bot.simulator.sandbox import Sandbox
    from bot.store.engine.database import Database
    from bot.store.tables import Base
    from tests.conftest import MakeSandbox

OTHER_PHONE = "+13125550002"
FOREIGN_NUMBER = "+13125550999"
TABLES: Sequence[type[Base]] = (
    ConversationRow,
    PhoneLimitsRow,
    OutboxRow,
    ProcessedWebhookRow,
    TokenRow,
)

on_sqlite = pytest.mark.parametrize("make_database", ["sqlite"], indirect=True)
few = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


class RecordingInbox(Inbox):
    """Records what it accepts, without a database."""

    def __init__(self) -> None:
        self.events: list[InboxItem] = []
        self.fault: Exception | None = None

    async def handle_webhook(self, event: InboxItem) -> None:
        self.events.append(event)
        if self.fault is not None:
            raise self.fault


@dataclass
class WebhookServer:
    """The webhook handler alone, with a recording inbox."""

    client: TestClient[Any, Any]
    inbox: RecordingInbox
    telnyx: SimulatedTelnyx
    clock: StoppedClock

    async def post(self, body: bytes, headers: Mapping[str, str] | None = None) -> ClientResponse:
        signed = self.telnyx.signed(body) if headers is None else headers
        return await self.client.post(WEBHOOK_PATH, data=body, headers=signed)


@pytest.fixture
async def server(aiohttp_client: AiohttpClient) -> WebhookServer:
    clock, inbox = StoppedClock(), RecordingInbox()
    telnyx = SimulatedTelnyx(clock)
    verifier = Verifier([base64.b64decode(telnyx.public_key)])
    webhook = TelnyxWebhook(verifier, inbox, [BOT_NUMBER], clock)
    client = await aiohttp_client(app.build_application(webhook, Readiness({})))
    return WebhookServer(client, inbox, telnyx, clock)


def event(
    text: str | None = "VERIFY", *, phone: str = PHONE, to: str = BOT_NUMBER, **more: Any
) -> bytes:
    payload = payloads.inbound(phone, to, text)
    payload |= {"from" if name == "sender" else name: value for name, value in more.items()}
    return envelope("message.received", payload)


def envelope(event_type: str, payload: object, name: str | None = None) -> bytes:
    data = {"event_type": event_type, "id": name or str(uuid.uuid4()), "payload": payload}
    return json.dumps({"data": data, "meta": {"attempt": 1}}).encode()


async def counts(database: Database) -> dict[str, int]:
    return {table.__tablename__: await row_count(database, table) for table in TABLES}


NOTHING = {table.__tablename__: 0 for table in TABLES}


async def test_a_text_is_committed_by_the_time_it_is_answered_with_200(sandbox: Sandbox) -> None:
    assert await sandbox.telnyx.post(event()) == 200
    stored = await counts(sandbox.bot.database)
    assert stored["processed_webhooks"] >= 1
    assert stored["conversations"] == stored["phone_limits"] == stored["tokens"] == 1
    assert stored["outbox"] == 1


async def test_the_documented_body_leads_to_exactly_one_request_with_the_code(
    make_sandbox: MakeSandbox,
) -> None:
    sandbox = await make_sandbox(from_number="+17735550002")
    body = b"""{
      "data": {
        "event_type": "message.received",
        "id": "b301ed3f-1490-491f-995f-6e64e69674d4",
        "occurred_at": "2024-01-15T20:16:07.588+00:00",
        "payload": {
          "completed_at": null,
          "cost": {"amount": "0.0000", "currency": "USD"},
          "direction": "inbound",
          "encoding": "GSM-7",
          "errors": [],
          "from": {
            "carrier": "T-Mobile USA",
            "line_type": "long_code",
            "phone_number": "+13125550001"
          },
          "id": "84cca175-9755-4859-b67f-4730d7f58aa3",
          "media": [],
          "parts": 1,
          "record_type": "message",
          "tags": [],
          "text": "VERIFY",
          "to": [
            {
              "carrier": "Telnyx",
              "line_type": "Wireless",
              "phone_number": "+17735550002",
              "status": "webhook_delivered"
            }
          ],
          "type": "SMS"
        },
        "record_type": "event"
      },
      "meta": {"attempt": 1, "delivered_to": "https://example.com/webhooks"}
    }"""

    assert await sandbox.telnyx.post(body) == 200
    await sandbox.quiet()

    (request,) = sandbox.telnyx.requests
    assert request.body["to"] == "+13125550001"
    assert request.body["from"] == "+17735550002"
    assert re.search(r"\b\d{6}\b", request.body["text"])


async def test_a_duplicate_is_answered_with_200_and_changes_nothing(sandbox: Sandbox) -> None:
    payload = payloads.inbound(PHONE, BOT_NUMBER, "VERIFY")
    first, again = (envelope("message.received", payload) for _ in range(2))
    assert first != again

    answers = [await sandbox.telnyx.post(body) for body in (first, first, again, again)]
    at_once = await asyncio.gather(*(sandbox.telnyx.post(first) for _ in range(10)))
    await sandbox.quiet()

    assert {*answers, *at_once} == {200}
    assert len(sandbox.telnyx.requests) == 1


NOT_OURS = [
    event(to=FOREIGN_NUMBER),
    event(phone=BOT_NUMBER),
    event(phone="12345"),
    event(phone="TELNYX"),
    event(None),
    event(id="x" * 129),
    event(sender=None),
    envelope("call.initiated", {}),
    envelope("message.received", None),
    envelope("message.finalized", {"id": "x", "to": [{"status": "brand_new"}]}),
    b'{"data": {}}',
]


async def test_an_ignored_webhook_is_answered_with_200_and_not_stored(
    sandbox: Sandbox,
) -> None:
    assert [await sandbox.telnyx.post(body) for body in NOT_OURS] == [200] * len(NOT_OURS)
    assert await counts(sandbox.bot.database) == NOTHING


@pytest.mark.parametrize("body", NOT_OURS, ids=range(len(NOT_OURS)))
async def test_an_ignored_webhook_does_not_reach_the_inbox(
    server: WebhookServer, body: bytes
) -> None:
    assert (await server.post(body)).status == 200
    assert server.inbox.events == []


async def test_a_report_on_a_text_of_ours_is_answered_with_200(server: WebhookServer) -> None:
    payload = {"id": "x", "to": [{"status": "delivered"}]}
    answer = await server.post(envelope("message.finalized", payload))
    assert answer.status == 200
    assert len(server.inbox.events) == 1


def unsigned(**changes: str | None) -> dict[str, str]:
    """Return headers signed with another key, then changed."""
    stranger = SimulatedTelnyx(StoppedClock()).signed(event())
    names = {"signature": SIGNATURE_HEADER, "timestamp": TIMESTAMP_HEADER}
    for name, value in changes.items():
        stranger.pop(names[name])
        if value is not None:
            stranger[names[name]] = value
    return stranger


@pytest.mark.parametrize(
    "headers",
    [
        unsigned(),
        unsigned(signature=None),
        unsigned(timestamp=None),
        unsigned(signature=None, timestamp=None),
        unsigned(signature=""),
        unsigned(signature="!"),
        unsigned(signature="A" * 88),
        unsigned(timestamp="soon"),
        unsigned(timestamp="9" * 400),
        unsigned(timestamp="-1"),
    ],
    ids=range(10),
)
async def test_an_invalid_signature_is_answered_with_401_and_does_not_reach_the_inbox(
    server: WebhookServer, headers: dict[str, str]
) -> None:
    answer = await server.post(event(), headers)
    assert answer.status == 401
    assert server.inbox.events == []


@pytest.mark.parametrize("seconds", [-301, 301])
async def test_a_stale_signature_is_answered_with_401(server: WebhookServer, seconds: int) -> None:
    body = event()
    signed_at = NOON.timestamp() + seconds
    timestamp = str(int(signed_at))
    signature = server.telnyx._key.sign(timestamp.encode() + b"|" + body).signature
    headers = {
        TIMESTAMP_HEADER: timestamp,
        SIGNATURE_HEADER: base64.b64encode(signature).decode(),
    }

    assert (await server.post(body, headers)).status == 401
    assert server.inbox.events == []


async def test_the_signature_of_another_body_is_answered_with_401(server: WebhookServer) -> None:
    answer = await server.post(event("VERIFY"), server.telnyx.signed(event("STOP")))
    assert answer.status == 401


async def test_a_repeated_header_is_answered_with_401(server: WebhookServer) -> None:
    body = event()
    headers = server.telnyx.signed(body)
    for name in (SIGNATURE_HEADER, TIMESTAMP_HEADER):
        twice = [*headers.items(), (name, headers[name])]
        answer = await server.client.post(WEBHOOK_PATH, data=body, headers=twice)
        assert answer.status == 401
    assert (await server.post(body)).status == 200


async def test_the_response_to_an_invalid_signature_does_not_say_what_is_wrong(
    server: WebhookServer,
) -> None:
    answers = [await server.post(event(), unsigned(timestamp=stamp)) for stamp in ("1", "soon")]
    first, second = [await answer.text() for answer in answers]
    assert first == second


async def test_an_invalid_signature_does_not_wait_for_the_database(
    sandbox: Sandbox, database_url: URL
) -> None:
    async with locked(sandbox, database_url), ClientSession() as session:
        url = sandbox.telnyx.webhook_url
        async with session.post(url, data=event(), headers=unsigned()) as answer:
            assert answer.status == 401


async def test_bad_signatures_are_logged_once_a_minute_with_what_to_check(
    server: WebhookServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = StoppedClock()
    monkeypatch.setattr(
        "bot.web.http.log_throttle.datetime", SimpleNamespace(now=lambda _: clock.now())
    )
    with capture_logs() as logged:
        for seconds in (0, 1, 58, 0.5):
            clock.travel(timedelta(seconds=seconds))
            for _ in range(3):
                await server.post(event(), unsigned())
        first = list(logged)
        clock.travel(timedelta(seconds=1))
        for _ in range(3):
            await server.post(event(), unsigned())
        second = logged[len(first) :]

    (only,), (next_one,) = first, second
    assert "TELNYX_PUBLIC_KEY" in str(only)
    assert "TELNYX_PUBLIC_KEY" in str(next_one)
    assert next_one["count"] == 12
    assert PHONE not in str(logged)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"7",
        b'"data"',
        b"{}",
        b'{"data": null}',
        b'{"data": []}',
        b'{"data": "x"}',
        b"{",
        b"\xff\xfe",
        b"data=x",
        b"[" * 60_000,
        b'{"data": ' * 7_000,
        b'{"data": {"x": ' + b"9" * 60_000 + b"}}",
    ],
    ids=range(15),
)
async def test_a_signed_body_that_is_not_an_event_is_answered_with_400(
    server: WebhookServer, body: bytes
) -> None:
    assert (await server.post(body)).status == 400
    assert server.inbox.events == []


def padded(length: int) -> bytes:
    """Return an event of exactly this length in bytes."""
    body = event()
    return body + b" " * (length - len(body))


async def in_chunks(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 16_000):
        yield body[start : start + 16_000]


async def test_a_body_of_64_kib_is_taken_and_one_byte_more_is_answered_with_413(
    server: WebhookServer,
) -> None:
    assert MAX_BODY_BYTES == 64 * 1024
    assert (await server.post(padded(MAX_BODY_BYTES))).status == 200
    assert (await server.post(padded(MAX_BODY_BYTES + 1))).status == 413
    assert len(server.inbox.events) == 1


async def test_a_body_without_a_length_is_measured_as_it_arrives(server: WebhookServer) -> None:
    for length, status in ((MAX_BODY_BYTES, 200), (MAX_BODY_BYTES + 1, 413)):
        body = padded(length)
        answer = await server.client.post(
            WEBHOOK_PATH, data=in_chunks(body), headers=server.telnyx.signed(body)
        )
        assert answer.status == status
    assert len(server.inbox.events) == 1


@pytest.mark.parametrize("length", [MAX_BODY_BYTES + 1, 10**15])
async def test_a_length_that_is_too_large_is_refused_before_the_body_arrives(
    server: WebhookServer, length: int
) -> None:
    async with connected(server) as (reader, writer):
        writer.write(request(f"Content-Length: {length}"))
        assert await status_of(reader) == 413


async def test_an_endless_body_is_refused_while_it_arrives(server: WebhookServer) -> None:
    async with connected(server) as (reader, writer):
        writer.write(request("Transfer-Encoding: chunked"))
        for _ in range(5):
            writer.write(b"4000\r\n" + bytes(0x4000) + b"\r\n")
        assert await status_of(reader) == 413


@pytest.mark.parametrize("head", ["Content-Length: 100", "Transfer-Encoding: chunked"])
@pytest.mark.parametrize("begun", [b"", b'5\r\n{"dat\r\n'], ids=["nothing", "a little"])
async def test_a_body_that_stalls_is_answered_with_408(
    server: WebhookServer, monkeypatch: pytest.MonkeyPatch, head: str, begun: bytes
) -> None:
    monkeypatch.setattr("bot.web.telnyx.BODY_TIMEOUT", 0.05)
    async with connected(server) as (reader, writer):
        writer.write(request(head) + begun)
        assert await status_of(reader) == 408
    assert server.inbox.events == []


async def test_a_body_that_trickles_does_not_get_a_longer_time(
    server: WebhookServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.web.telnyx.BODY_TIMEOUT", 0.2)
    async with connected(server) as (reader, writer):
        writer.write(request("Content-Length: 60000"))

        async def trickle() -> None:
            while True:
                writer.write(b" ")
                await asyncio.sleep(0.01)

        trickling = asyncio.create_task(trickle())
        try:
            assert await status_of(reader) == 408
        finally:
            trickling.cancel()
            await asyncio.wait([trickling])


def request(*head: str) -> bytes:
    lines = [f"POST {WEBHOOK_PATH} HTTP/1.1", "Host: 127.0.0.1", *head, "", ""]
    return "\r\n".join(lines).encode()


@asynccontextmanager
async def connected(
    server: WebhookServer,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.client.port)
    try:
        yield reader, writer
    finally:
        writer.close()
        await writer.wait_closed()


async def status_of(reader: asyncio.StreamReader) -> int:
    async with asyncio.timeout(TEST_TIMEOUT):
        line = await reader.readline()
    return int(line.split()[1])


@pytest.mark.parametrize("fault", [UnavailableError("x"), RuntimeError("x"), ValueError("x")])
async def test_an_event_that_cannot_be_stored_is_answered_with_503_and_retry_after(
    server: WebhookServer, fault: Exception
) -> None:
    server.inbox.fault = fault
    answer = await server.post(event())
    assert answer.status == 503
    assert int(answer.headers["Retry-After"]) > 0


async def test_webhooks_are_accepted_again_after_an_error(server: WebhookServer) -> None:
    server.inbox.fault = RuntimeError("x")
    assert (await server.post(event())).status == 503
    server.inbox.fault = None
    assert (await server.post(event())).status == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", WEBHOOK_PATH, 405),
        ("PUT", WEBHOOK_PATH, 405),
        ("POST", WEBHOOK_PATH + "/", 404),
        ("POST", "/", 404),
        ("GET", "/../etc/passwd", 404),
    ],
)
async def test_no_other_path_takes_webhooks(
    server: WebhookServer, method: str, path: str, status: int
) -> None:
    assert (await server.client.request(method, path)).status == status


@asynccontextmanager
async def locked(sandbox: Sandbox, url: URL) -> AsyncIterator[None]:
    """Lock the database against writes, as another process might."""
    await sandbox.quiet()
    if url.get_backend_name() == "sqlite":
        async with locked_sqlite(url):
            yield
        return
    dsn = url.set(drivername="postgresql").render_as_string(hide_password=False)
    connection = await asyncpg.connect(dsn)
    try:
        async with connection.transaction():
            await connection.execute("LOCK TABLE phone_limits IN ACCESS EXCLUSIVE MODE")
            yield
    finally:
        await connection.close()


@asynccontextmanager
async def locked_sqlite(url: URL) -> AsyncIterator[None]:
    with closing(sqlite3.connect(str(url.database), timeout=0, isolation_level=None)) as other:
        async with asyncio.timeout(TEST_TIMEOUT):
            while True:
                try:
                    other.execute("BEGIN IMMEDIATE")
                except sqlite3.OperationalError:
                    await asyncio.sleep(0.005)
                else:
                    break
        yield
        other.execute("ROLLBACK")


@pytest.fixture
async def hurried(make_sandbox: MakeSandbox) -> Sandbox:
    """Run a bot with a short timeout for storing a webhook."""
    return await make_sandbox(deadlines=replace(LONG_DEADLINES, answer=0.2))


async def test_while_the_database_is_locked_webhooks_get_503_and_nothing_of_them_is_stored_later(
    hurried: Sandbox, database_url: URL
) -> None:
    sandbox = hurried
    bodies = [event(phone=f"+1312555{number:04}") for number in range(200, 210)]
    async with locked(sandbox, database_url), ClientSession() as session:

        async def post(body: bytes) -> tuple[int, str | None]:
            headers = sandbox.telnyx.signed(body)
            async with session.post(
                sandbox.telnyx.webhook_url, data=body, headers=headers
            ) as answer:
                return answer.status, answer.headers.get("Retry-After")

        async with asyncio.timeout(TEST_TIMEOUT):
            answers = await asyncio.gather(*(post(body) for body in bodies))
    assert {status for status, _ in answers} == {503}
    assert all(int(retry_after or 0) > 0 for _, retry_after in answers)

    async with asyncio.timeout(TEST_TIMEOUT):
        while await sandbox.telnyx.post(event(phone=OTHER_PHONE, id="after")) != 200:
            pass
    await sandbox.quiet()

    stored = await counts(sandbox.bot.database)
    assert (stored["conversations"], stored["phone_limits"], stored["outbox"]) == (1, 1, 1)
    assert [text.phone for text in sandbox.telnyx.texts] == [OTHER_PHONE]


async def test_an_event_refused_in_an_outage_is_accepted_when_it_is_sent_again(
    hurried: Sandbox, database_url: URL
) -> None:
    sandbox, body = hurried, event()
    async with locked(sandbox, database_url):
        assert await sandbox.telnyx.post(body) == 503

    async with asyncio.timeout(TEST_TIMEOUT):
        while await sandbox.telnyx.post(body) != 200:
            pass
    await sandbox.quiet()

    assert await sandbox.telnyx.post(body) == 200
    assert len(await outbox_rows(sandbox.bot.database)) == 1
    assert [text.phone for text in sandbox.telnyx.texts] == [PHONE]


@on_sqlite
async def test_a_body_with_a_content_encoding_is_verified_as_the_bytes_that_were_signed(
    sandbox: Sandbox,
) -> None:
    plain, packed = event(), gzip.compress(event())
    bomb = gzip.compress(bytes(50_000_000))
    assert len(bomb) < MAX_BODY_BYTES
    encoded = {"Content-Encoding": "gzip"}
    cases = [
        (packed, sandbox.telnyx.signed(packed), 400),
        (packed, sandbox.telnyx.signed(plain), 401),
        (plain, sandbox.telnyx.signed(plain), 200),
        (b"\x1f\x8b broken", sandbox.telnyx.signed(b"\x1f\x8b broken"), 400),
        (bomb, sandbox.telnyx.signed(bomb), 400),
    ]
    async with ClientSession(auto_decompress=False) as session:
        for body, headers, status in cases:
            url = sandbox.telnyx.webhook_url
            async with session.post(url, data=body, headers=headers | encoded) as answer:
                assert answer.status == status


json_values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(st.characters(exclude_categories=()), max_size=30),
        st.sampled_from([PHONE, BOT_NUMBER, "VERIFY", "STOP", "NOT ME", "message.received"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["data", "payload", "id", "to", "code"]), inner, max_size=3
        ),
    ),
    max_leaves=6,
)
parties = st.fixed_dictionaries({"phone_number": st.sampled_from([PHONE, OTHER_PHONE, BOT_NUMBER])})
payloads_of_texts = st.fixed_dictionaries(
    {},
    optional={
        "id": st.one_of(st.uuids().map(str), st.text(max_size=10), json_values),
        "from": st.one_of(parties, json_values),
        "to": st.one_of(st.lists(parties, max_size=2), json_values),
        "cc": json_values,
        "media": json_values,
        "errors": json_values,
        "autoresponse_type": st.one_of(st.sampled_from(["STOP", "START", "HELP"]), json_values),
        "text": st.one_of(
            st.text(st.characters(exclude_categories=()), max_size=2000), json_values
        ),
    },
)
usual = {
    "id": st.uuids().map(str),
    "from": parties,
    "to": st.just([{"phone_number": BOT_NUMBER, "status": "delivered"}]),
    "text": st.text(st.characters(exclude_categories=()), max_size=300),
}
events = st.builds(
    envelope,
    st.sampled_from(["message.received", "message.sent", "message.finalized"]),
    st.one_of(payloads_of_texts, st.fixed_dictionaries(usual)),
)
bodies = st.one_of(
    st.binary(max_size=300), json_values.map(lambda value: json.dumps(value).encode()), events
)


@few
@given(bodies)
async def test_whatever_is_signed_is_answered_with_200_or_400(
    sandbox: Sandbox, body: bytes
) -> None:
    assert await sandbox.telnyx.post(body) in (200, 400)


@few
@given(st.lists(bodies, min_size=2, max_size=8))
async def test_whatever_is_signed_is_answered_with_200_or_400_even_concurrently(
    sandbox: Sandbox, together: list[bytes]
) -> None:
    answers = await asyncio.gather(*(sandbox.telnyx.post(body) for body in together))
    assert set(answers) <= {200, 400}


@on_sqlite
@few
@given(
    st.binary(max_size=100),
    st.dictionaries(
        st.sampled_from([SIGNATURE_HEADER, TIMESTAMP_HEADER, "Content-Type", "Content-Encoding"]),
        st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=100),
    ),
)
async def test_whatever_is_not_signed_is_answered_with_401(
    sandbox: Sandbox, body: bytes, headers: dict[str, str]
) -> None:
    async with (
        ClientSession() as session,
        session.post(sandbox.telnyx.webhook_url, data=body, headers=headers) as answer,
    ):
        assert answer.status == 401
