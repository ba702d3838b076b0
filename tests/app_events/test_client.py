from __future__ import annotations

import asyncio
import socket
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp.resolver import DefaultResolver

from bot import __version__
from bot.app_events import addresses, client
from bot.app_events.client import MAX_RETRY_AFTER, open_client
from bot.app_events.results import REFUSED, EndpointGone, PostAccepted, PostLater, advice
from tests.kit.event_receiver import EVENTS_SECRET, NEXT_EVENTS_SECRET, EventReceiver
from tests.kit.ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bot.app_events.results import PostResult

NAME = "msg_0123456789abcdef0123456789abcdef"
BODY = '{"type":"verification.verified","data":{"metadata":{"who":"Zoë"}}}'
SECRETS = [EVENTS_SECRET]
NOW = datetime(2026, 1, 15, 12, 0, tzinfo=UTC)


@pytest.fixture
async def receiver() -> AsyncIterator[EventReceiver]:
    async with EventReceiver().running() as receiver:
        yield receiver


async def post(url: str, *, to_private: bool = True, at: datetime | None = None) -> PostResult:
    async with open_client(url, SECRETS, to_private=to_private) as app:
        return await app.post(name=NAME, body=BODY, at=at or datetime.now(UTC))


@asynccontextmanager
async def answering(raw: bytes, *, forever: bytes = b"") -> AsyncIterator[str]:
    """Answer any request with the first bytes, and then repeat the other ones without end."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(raw)
        try:
            while forever:
                writer.write(forever)
                await writer.drain()
            await writer.drain()
            await reader.read()
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


@asynccontextmanager
async def watched(host: str, port: int = 0) -> AsyncIterator[tuple[int, list[Any]]]:
    """Listen on a port and record the connections; yield the port and the list of them."""
    connected: list[Any] = []

    def note(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.append(writer.get_extra_info("peername"))
        writer.close()

    async with await asyncio.start_server(note, host, port) as server:
        yield server.sockets[0].getsockname()[1], connected


def looked_up(monkeypatch: pytest.MonkeyPatch, *answers: str) -> None:
    """Resolve every host name to these addresses."""

    async def resolve(_self: object, host: str, port: int = 0, **_: object) -> list[dict[str, Any]]:
        return [
            {
                "hostname": host,
                "host": answer,
                "port": port,
                "family": socket.AF_INET6 if ":" in answer else socket.AF_INET,
                "proto": 0,
                "flags": socket.AI_NUMERICHOST,
            }
            for answer in answers
        ]

    monkeypatch.setattr(DefaultResolver, "resolve", resolve)


async def test_an_event_is_posted_as_it_is_and_signed(receiver: EventReceiver) -> None:
    assert await post(receiver.url) == PostAccepted()
    (received,) = receiver.received
    assert (received.id, received.body) == (NAME, BODY.encode())
    assert received.headers["Content-Type"] == "application/json"
    assert received.headers["User-Agent"] == f"Textproof/{__version__}"


async def test_while_a_secret_is_replaced_the_app_may_know_either(receiver: EventReceiver) -> None:
    secrets = [NEXT_EVENTS_SECRET, EVENTS_SECRET]
    for secret in (EVENTS_SECRET, NEXT_EVENTS_SECRET):
        receiver.secret = secret
        async with open_client(receiver.url, secrets, to_private=True) as app:
            assert await app.post(name=NAME, body=BODY, at=datetime.now(UTC)) == PostAccepted()
    assert len(receiver.received) == 2


async def test_the_apps_cookies_are_not_kept(receiver: EventReceiver) -> None:
    receiver.answers = [(204, {"Set-Cookie": "session=1"})]
    # By host name: no cookie jar would keep a cookie of an IP address anyway.
    url = receiver.url.replace("127.0.0.1", "localhost")
    async with open_client(url, SECRETS, to_private=True) as app:
        for _ in range(2):
            await app.post(name=NAME, body=BODY, at=datetime.now(UTC))
    assert ["Cookie" in received.headers for received in receiver.received] == [False, False]


async def test_a_proxy_of_the_environment_is_not_used(
    receiver: EventReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert await post(receiver.url) == PostAccepted()


@pytest.mark.parametrize(
    ("status", "headers", "outcome"),
    [
        (200, {}, PostAccepted()),
        (201, {}, PostAccepted()),
        (204, {}, PostAccepted()),
        (299, {}, PostAccepted()),
        (410, {}, EndpointGone()),
        (400, {}, PostLater("HTTP 400")),
        (404, {}, PostLater("HTTP 404")),
        (500, {"Retry-After": "60"}, PostLater("HTTP 500")),
        (429, {}, PostLater("HTTP 429")),
        (429, {"Retry-After": "60"}, PostLater("HTTP 429", 60)),
        (503, {"Retry-After": "3600"}, PostLater("HTTP 503", 3600)),
        (503, {"Retry-After": "9" * 400}, PostLater("HTTP 503", MAX_RETRY_AFTER)),
        (503, {"Retry-After": "-5"}, PostLater("HTTP 503")),
        (503, {"Retry-After": "soon"}, PostLater("HTTP 503")),
        (503, {"Retry-After": "Fri, 99 Foo 99999 99:99:99 GMT"}, PostLater("HTTP 503")),
    ],
)
def test_the_response_decides(status: int, headers: dict[str, str], outcome: PostResult) -> None:
    assert client.classify(status, headers, NOW) == outcome


@pytest.mark.parametrize(
    ("wait", "seconds"),
    [
        (timedelta(minutes=2), 120.0),
        (timedelta(days=400), MAX_RETRY_AFTER),
        (timedelta(minutes=-2), None),
    ],
)
def test_a_date_in_retry_after_is_parsed(wait: timedelta, seconds: float | None) -> None:
    headers = {"Retry-After": format_datetime(NOW + wait, usegmt=True)}
    assert client.classify(503, headers, NOW) == PostLater("HTTP 503", seconds)


@pytest.mark.parametrize(
    "value",
    [
        *("Thu, 15 Jan 2026 12:02:00 GMT", "Thursday, 15-Jan-26 12:02:00 GMT"),
        *("Thu Jan 15 12:02:00 2026", "Thu, 15 Jan 2026 12:02:00 -0000"),
    ],
)
def test_every_http_date_format_is_parsed(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/Chicago")
    time.tzset()
    assert client.classify(503, {"Retry-After": value}, NOW) == PostLater("HTTP 503", 120)
    monkeypatch.undo()
    time.tzset()


async def test_retry_after_is_read_from_a_real_response(receiver: EventReceiver) -> None:
    receiver.answers = [(429, {"retry-after": "7"})]
    assert await post(receiver.url) == PostLater("HTTP 429", 7)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(status: int, receiver: EventReceiver) -> None:
    receiver.answers = [(status, {"Location": f"{receiver.url}/elsewhere"})]
    outcome = await post(receiver.url)
    assert outcome == PostLater(f"HTTP {status}")
    assert len(receiver.received) == 1
    assert "redirect" in advice(f"HTTP {status}")


async def test_an_endless_response_body_is_not_read() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n"
    async with answering(head, forever=b"x" * 65536) as url:
        assert await post(url) == PostAccepted()


async def test_endless_response_headers_are_a_fault() -> None:
    async with answering(b"HTTP/1.1 200 OK\r\nX: ", forever=b"x" * 65536) as url:
        outcome = await post(url)
    assert isinstance(outcome, PostLater)


async def test_no_answer_in_time_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "POST_TIMEOUT", 0.05)
    async with answering(b"") as url:
        assert await post(url) == PostLater("timeout")


@pytest.mark.parametrize("raw", [b"HTTP/1.1 200", b"hello\r\n\r\n", b"HTTP/1.1 999999 No\r\n\r\n"])
async def test_an_invalid_response_is_a_fault(raw: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "POST_TIMEOUT", 1)
    async with answering(raw) as url:
        outcome = await post(url)
    assert isinstance(outcome, PostLater)
    assert "127.0.0.1" not in outcome.fault


async def test_an_unreachable_app_is_a_fault_that_does_not_quote_the_url() -> None:
    url = f"http://user:hunter2@127.0.0.1:{free_port()}/?token=hunter2"
    outcome = await post(url)
    assert outcome == PostLater("ClientConnectorError")
    assert "EVENTS_URL" in advice("ClientConnectorError")


@pytest.mark.parametrize("host", ["a" * 70 + ".example", "exa mple", "[::1", "\N{SNOWMAN}" * 80])
async def test_an_invalid_host_is_a_fault(host: str) -> None:
    assert isinstance(await post(f"http://{host}/"), PostLater)


# Only public addresses.


async def test_events_to_public_addresses_need_https() -> None:
    with pytest.raises(ValueError, match="https"):
        await post("http://app.example/", to_private=False)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "0.0.0.0", "[::ffff:127.0.0.1]", "localhost"],  # noqa: S104 - to be refused
)
async def test_no_connection_is_made_to_this_machine(host: str) -> None:
    async with watched("127.0.0.1") as (port, connected):
        assert await post(f"https://{host}:{port}/", to_private=False) == PostLater(REFUSED)
        assert connected == []
    assert "EVENTS_TO_PRIVATE" in advice(REFUSED)


@pytest.mark.parametrize(
    "host", ["127.0.0.1.", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "0"]
)
async def test_no_other_spelling_of_this_machines_address_connects_to_it(host: str) -> None:
    async with watched("127.0.0.1") as (port, connected):
        assert isinstance(await post(f"https://{host}:{port}/", to_private=False), PostLater)
        assert connected == []


@pytest.mark.parametrize(
    "host",
    [
        *("10.0.0.1", "169.254.169.254", "192.168.0.1", "224.0.0.1"),
        *("[::1]", "[fe80::1]", "[fd00:ec2::254]", "[64:ff9b::a9fe:a9fe]", "[2002:7f00:1::]"),
    ],
)
async def test_no_private_address_in_the_url_is_connected_to(host: str) -> None:
    assert await post(f"https://{host}/latest/meta-data/", to_private=False) == PostLater(REFUSED)


@pytest.mark.parametrize(
    "answers",
    [
        ["127.0.0.1"],
        ["10.1.2.3"],
        ["169.254.169.254"],
        ["::1"],
        ["fe80::1"],
        ["::ffff:127.0.0.1"],
        ["64:ff9b::7f00:1"],
        ["127.0.0.1", "::1"],
        ["192.168.0.1", "10.0.0.1", "fd00::1"],
    ],
)
async def test_no_name_of_a_private_address_is_connected_to(
    answers: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up(monkeypatch, *answers)
    async with watched("127.0.0.1") as (port, connected):
        outcome = await post(f"https://app.example:{port}/", to_private=False)
        assert outcome == PostLater(REFUSED)
        assert connected == []


@pytest.mark.parametrize(
    "answers", [["127.0.0.1", "127.0.0.2"], ["127.0.0.2", "127.0.0.1"], ["::1", "127.0.0.2"]]
)
async def test_of_a_mixed_dns_answer_only_public_addresses_are_connected_to(
    answers: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # No test connects to another machine: this is the one address of our own that counts as public.
    monkeypatch.setattr(addresses, "is_public", lambda address: address == "127.0.0.2")
    looked_up(monkeypatch, *answers)
    async with watched("127.0.0.2") as (port, outside), watched("127.0.0.1", port) as (_, inside):
        # It speaks no TLS, so the connection fails at every address.
        assert isinstance(await post(f"https://app.example:{port}/", to_private=False), PostLater)
        assert (bool(outside), inside) == (True, [])


async def test_a_host_may_resolve_to_a_private_address_if_the_operator_allows_it(
    receiver: EventReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up(monkeypatch, "127.0.0.1")
    port = receiver.url.split(":")[2]
    assert await post(f"http://app.internal:{port}") == PostAccepted()
