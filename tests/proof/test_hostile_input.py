"""Hostile input: every request is answered, without internal errors or growing memory."""

from __future__ import annotations

import asyncio
import base64
import json
import string
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bot.carrier.webhooks import SIGNATURE_HEADER, TIMESTAMP_HEADER
from bot.services.clock import SystemClock
from bot.simulator.clock import NOON
from bot.simulator.sandbox import BOT_NUMBER, PHONE
from bot.simulator.telnyx import payloads
from bot.simulator.telnyx.server import SimulatedTelnyx
from bot.web.app import WEBHOOK_PATH
from tests.kit.seeds import seeded, soak_rounds
from tests.kit.settings import environment
from tests.kit.timeouts import TEST_TIMEOUT

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator, Callable

    from sqlalchemy import URL

    from tests.kit.processes import BotProcess, Processes

CONCURRENCY = 50
ODD_VALUES: list[Any] = [
    *(None, True, 0, -1, 10**400, 1e308, float("nan"), float("inf"), "", "\x00", "\ud800", "+1"),
    *([], {}, [[]], {"": None}, "9" * 5000, ["x"] * 500, "\u202e321", "VERIFY", BOT_NUMBER),
]
Json = Any


def make_event(rng: random.Random) -> Json:
    """Return a valid event of any type."""
    phone = f"+1312{rng.randrange(10**7):07}"
    inbound = payloads.inbound(phone, BOT_NUMBER, make_text(rng))
    sent = payloads.outbound({"from": BOT_NUMBER, "to": phone, "text": "Hello"})
    kind, payload = rng.choice(
        [
            ("message.received", inbound),
            ("message.sent", payloads.delivery_report(sent, "sent")),
            ("message.finalized", payloads.delivery_report(sent, "delivered")),
            ("message.finalized", payloads.delivery_report(sent, "delivery_failed")),
        ]
    )
    return payloads.event(kind, payload, NOON, "")


def make_text(rng: random.Random) -> str:
    """Return a text of up to 1,600 characters from all planes, with lone surrogates."""
    length = rng.choice([0, 1, 6, 70, 160, 1600])
    make: Callable[[], str] = rng.choice(
        [
            lambda: "".join(chr(rng.randrange(0x110000)) for _ in range(length)),
            lambda: "".join(chr(rng.randrange(0xD800, 0xE000)) for _ in range(length)),
            lambda: "".join(rng.choices("\u200f\u202e\u2066\u0000 \n0123456789", k=length)),
            lambda: "".join(rng.choices(string.printable, k=length)),
            lambda: rng.choice(["VERIFY", "STOP", "START", "HELP", "STATUS", "NOT ME", "123456"]),
        ]
    )
    return make()


def change_value(rng: random.Random, value: Json) -> Json:
    """Replace, remove or repeat something somewhere in a JSON value."""
    if rng.random() < 0.15 or not isinstance(value, (dict, list)) or not value:
        return rng.choice(ODD_VALUES)
    if isinstance(value, list):
        where = rng.randrange(len(value))
        return [*value[:where], change_value(rng, value[where]), *value[where + 1 :]]
    name = rng.choice(list(value))
    if rng.random() < 0.1:
        return {key: kept for key, kept in value.items() if key != name}
    return value | {name: change_value(rng, value[name])}


def change_bytes(rng: random.Random, body: bytes) -> bytes:
    """Flip, cut, repeat or insert bytes."""
    changed = bytearray(body)
    for _ in range(rng.choice([1, 1, 2, 10])):
        where = rng.randrange(len(changed) + 1)
        match rng.randrange(4):
            case 0:
                changed[where : where + 1] = rng.randbytes(1)
            case 1:
                del changed[where : where + rng.choice([1, 10, 500])]
            case 2:
                changed[where:where] = changed[where : where + 50]
            case _:
                changed[where:where] = rng.choice([b"[" * 2000, b"\x00", b"\xff\xfe", b'"', b"{"])
    return bytes(changed)


def make_body(rng: random.Random) -> bytes:
    """Return a body, valid or damaged."""
    event = make_event(rng)
    for _ in range(rng.choice([0, 1, 1, 2, 5])):
        event = change_value(rng, event)
    body = json.dumps(event, ensure_ascii=rng.random() < 0.8).encode(errors="surrogatepass")
    return change_bytes(rng, body) if rng.random() < 0.4 else body


def damage_signature(rng: random.Random, headers: dict[str, str]) -> list[tuple[str, str]]:
    """Return signature headers that do not verify."""
    signature = bytearray(base64.b64decode(headers[SIGNATURE_HEADER]))
    signature[rng.randrange(64)] ^= 1 << rng.randrange(8)
    flipped = base64.b64encode(signature).decode()
    whole = headers[SIGNATURE_HEADER]
    others: list[Callable[[], tuple[str, str]]] = [
        lambda: (flipped, headers[TIMESTAMP_HEADER]),
        lambda: (whole[: rng.randrange(86)], headers[TIMESTAMP_HEADER]),
        lambda: (whole, str(int(headers[TIMESTAMP_HEADER]) + rng.choice([-1, 1, 10**6]))),
        lambda: (whole, rng.choice(["9" * 4000, "-1", "1e9", "nan", "", "٣", "0x10"])),
        lambda: ("=" * rng.randrange(200), headers[TIMESTAMP_HEADER]),
    ]
    bad = rng.choice(others)()
    made = [(SIGNATURE_HEADER, bad[0]), (TIMESTAMP_HEADER, bad[1])]
    return made * rng.choice([1, 1, 2])


async def post_bodies(telnyx: SimulatedTelnyx, rng: random.Random, count: int) -> None:
    """Post signed bodies to the bot, every tenth with a bad signature."""

    async def post_one() -> None:
        body = make_body(rng)
        headers = telnyx.signed(body)
        forged = rng.random() < 0.1
        sent = damage_signature(rng, headers) if forged else list(headers.items())
        async with telnyx._session.post(telnyx.webhook_url, data=body, headers=sent) as answer:
            assert answer.status in ({401} if forged else {200, 400, 503}), (answer.status, body)

    for _ in range(0, count, CONCURRENCY):
        await asyncio.gather(*(post_one() for _ in range(CONCURRENCY)))


@pytest.fixture
async def telnyx() -> AsyncIterator[SimulatedTelnyx]:
    async with SimulatedTelnyx(SystemClock()).running() as telnyx:
        yield telnyx


async def serve(url: URL, telnyx: SimulatedTelnyx, processes: Processes) -> BotProcess:
    bot = await processes.start("serve", "--web-only", env=environment(url, telnyx))
    telnyx.webhook_url = await bot.ready() + WEBHOOK_PATH
    return bot


async def test_no_body_no_header_and_no_text_makes_the_bot_fail(
    database_url: URL, telnyx: SimulatedTelnyx, processes: Processes
) -> None:
    bot = await serve(database_url, telnyx, processes)
    with seeded("fuzz") as rng:
        await post_bodies(telnyx, rng, 2000)
    assert await telnyx.text(PHONE, BOT_NUMBER, "VERIFY") == 200
    assert not [line for line in bot.log if line["level"] in ("error", "critical")]


@pytest.mark.soak
async def test_a_million_bodies_cause_no_error_and_no_growth_of_memory(
    database_url: URL,
    telnyx: SimulatedTelnyx,
    processes: Processes,
    request: pytest.FixtureRequest,
) -> None:
    on_sqlite = database_url.get_backend_name() == "sqlite"
    bot = await serve(database_url, telnyx, processes)
    sizes = []
    for number, rng in soak_rounds(request.node.name, 100 if on_sqlite else 10):
        await post_bodies(telnyx, rng, 10_000)
        sizes.append(memory(bot.pid))
        print(f"round {number}: {sizes[-1]} kB")  # noqa: T201 - progress
    after_first = sizes[1:]
    assert not after_first or max(after_first) <= 1.1 * min(after_first), sizes
    assert not [line for line in bot.log if line["level"] in ("error", "critical")]


def memory(pid: int) -> int:
    """Return the resident memory of a process (kB)."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1])


async def test_five_hundred_slow_connections_do_not_block_webhooks(
    database_url: URL, telnyx: SimulatedTelnyx, processes: Processes
) -> None:
    await serve(database_url, telnyx, processes)
    before = await p99_latency(telnyx, 0)
    started = [asyncio.Event() for _ in range(500)]
    clients = [asyncio.create_task(send_slowly(telnyx, begun)) for begun in started]
    async with asyncio.timeout(TEST_TIMEOUT):
        await asyncio.gather(*(begun.wait() for begun in started))
    during = await p99_latency(telnyx, 500)
    for client in clients:
        client.cancel()
    await asyncio.gather(*clients, return_exceptions=True)
    print(f"p99 before {before * 1000:.1f} ms, during {during * 1000:.1f} ms")  # noqa: T201


async def send_slowly(telnyx: SimulatedTelnyx, begun: asyncio.Event) -> None:
    """Send a request byte by byte, and start again when the bot closes the connection."""
    host, port = telnyx.webhook_url.split("/")[2].split(":")
    head = f"POST {WEBHOOK_PATH} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 60000\r\n\r\n"
    while True:
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(head.encode())
        try:
            while True:
                writer.write(b"x")
                await writer.drain()
                begun.set()
                await asyncio.sleep(1)
        except ConnectionError:
            continue
        finally:
            writer.close()


async def p99_latency(telnyx: SimulatedTelnyx, first: int, count: int = 200) -> float:
    """Text one after the other, and return the 99th percentile of the response time (seconds)."""
    took = []
    for number in range(first, first + count):
        began = time.monotonic()
        assert await telnyx.text(f"+1312{number:07}", BOT_NUMBER, "VERIFY") in (200, 503)
        took.append(time.monotonic() - began)
    return sorted(took)[int(count * 0.99) - 1]
