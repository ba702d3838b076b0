"""Whatever arrives at the door: an answer, no fault of our own, and no memory that grows."""

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
from tests.kit.processes import BotProcess, Processes, environment
from tests.kit.seeds import seeded, soak_rounds
from tests.kit.timeouts import TEST_TIMEOUT

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator, Callable

    from sqlalchemy import URL

AT_ONCE = 50
WEIRD: list[Any] = [
    *(None, True, 0, -1, 10**400, 1e308, float("nan"), float("inf"), "", "\x00", "\ud800", "+1"),
    *([], {}, [[]], {"": None}, "9" * 5000, ["x"] * 500, "\u202e321", "VERIFY", BOT_NUMBER),
]
Json = Any


def an_event(chance: random.Random) -> Json:
    """Make an event as Telnyx would, of any kind."""
    phone = f"+1312{chance.randrange(10**7):07}"
    texted = payloads.inbound(phone, BOT_NUMBER, a_text(chance))
    sent = payloads.outbound({"from": BOT_NUMBER, "to": phone, "text": "Hello"})
    kind, payload = chance.choice(
        [
            ("message.received", texted),
            ("message.sent", payloads.delivery_report(sent, "sent")),
            ("message.finalized", payloads.delivery_report(sent, "delivered")),
            ("message.finalized", payloads.delivery_report(sent, "delivery_failed")),
        ]
    )
    return payloads.event(kind, payload, NOON, "")


def a_text(chance: random.Random) -> str:
    """Make a text of up to 1,600 characters from all planes, surrogates that stand alone too."""
    length = chance.choice([0, 1, 6, 70, 160, 1600])
    make: Callable[[], str] = chance.choice(
        [
            lambda: "".join(chr(chance.randrange(0x110000)) for _ in range(length)),
            lambda: "".join(chr(chance.randrange(0xD800, 0xE000)) for _ in range(length)),
            lambda: "".join(chance.choices("\u200f\u202e\u2066\u0000 \n0123456789", k=length)),
            lambda: "".join(chance.choices(string.printable, k=length)),
            lambda: chance.choice(
                ["VERIFY", "STOP", "START", "HELP", "STATUS", "NOT ME", "123456"]
            ),
        ]
    )
    return make()


def with_another_value(chance: random.Random, value: Json) -> Json:
    """Replace, remove or repeat something somewhere in a JSON value."""
    if chance.random() < 0.15 or not isinstance(value, (dict, list)) or not value:
        return chance.choice(WEIRD)
    if isinstance(value, list):
        where = chance.randrange(len(value))
        return [*value[:where], with_another_value(chance, value[where]), *value[where + 1 :]]
    name = chance.choice(list(value))
    if chance.random() < 0.1:
        return {key: kept for key, kept in value.items() if key != name}
    return value | {name: with_another_value(chance, value[name])}


def with_other_bytes(chance: random.Random, body: bytes) -> bytes:
    """Flip, cut, repeat or insert bytes."""
    changed = bytearray(body)
    for _ in range(chance.choice([1, 1, 2, 10])):
        where = chance.randrange(len(changed) + 1)
        match chance.randrange(4):
            case 0:
                changed[where : where + 1] = chance.randbytes(1)
            case 1:
                del changed[where : where + chance.choice([1, 10, 500])]
            case 2:
                changed[where:where] = changed[where : where + 50]
            case _:
                changed[where:where] = chance.choice(
                    [b"[" * 2000, b"\x00", b"\xff\xfe", b'"', b"{"]
                )
    return bytes(changed)


def a_body(chance: random.Random) -> bytes:
    """Make a body, whole or damaged."""
    event = an_event(chance)
    for _ in range(chance.choice([0, 1, 1, 2, 5])):
        event = with_another_value(chance, event)
    body = json.dumps(event, ensure_ascii=chance.random() < 0.8).encode(errors="surrogatepass")
    return with_other_bytes(chance, body) if chance.random() < 0.4 else body


def damaged(chance: random.Random, headers: dict[str, str]) -> list[tuple[str, str]]:
    """Damage the headers of a signature so that none is left that verifies."""
    signature = bytearray(base64.b64decode(headers[SIGNATURE_HEADER]))
    signature[chance.randrange(64)] ^= 1 << chance.randrange(8)
    flipped = base64.b64encode(signature).decode()
    whole = headers[SIGNATURE_HEADER]
    others: list[Callable[[], tuple[str, str]]] = [
        lambda: (flipped, headers[TIMESTAMP_HEADER]),
        lambda: (whole[: chance.randrange(86)], headers[TIMESTAMP_HEADER]),
        lambda: (whole, str(int(headers[TIMESTAMP_HEADER]) + chance.choice([-1, 1, 10**6]))),
        lambda: (whole, chance.choice(["9" * 4000, "-1", "1e9", "nan", "", "٣", "0x10"])),
        lambda: ("=" * chance.randrange(200), headers[TIMESTAMP_HEADER]),
    ]
    bad = chance.choice(others)()
    made = [(SIGNATURE_HEADER, bad[0]), (TIMESTAMP_HEADER, bad[1])]
    return made * chance.choice([1, 1, 2])


async def throw(telnyx: SimulatedTelnyx, chance: random.Random, count: int) -> None:
    """Throw signed bodies at the bot, with every tenth a signature that does not verify."""

    async def one() -> None:
        body = a_body(chance)
        headers = telnyx.signed(body)
        forged = chance.random() < 0.1
        sent = damaged(chance, headers) if forged else list(headers.items())
        async with telnyx._session.post(telnyx.webhook_url, data=body, headers=sent) as answer:
            assert answer.status in ({401} if forged else {200, 400, 503}), (answer.status, body)

    for _ in range(0, count, AT_ONCE):
        await asyncio.gather(*(one() for _ in range(AT_ONCE)))


@pytest.fixture
async def telnyx() -> AsyncIterator[SimulatedTelnyx]:
    async with SimulatedTelnyx(SystemClock()).running() as telnyx:
        yield telnyx


async def listening(url: URL, telnyx: SimulatedTelnyx, processes: Processes) -> BotProcess:
    bot = await processes.start("serve", "--web-only", env=environment(url, telnyx))
    telnyx.webhook_url = await bot.ready() + WEBHOOK_PATH
    return bot


async def test_no_body_no_header_and_no_text_makes_the_bot_fail(
    database_url: URL, telnyx: SimulatedTelnyx, processes: Processes
) -> None:
    bot = await listening(database_url, telnyx, processes)
    with seeded("fuzz") as chance:
        await throw(telnyx, chance, 2000)
    assert await telnyx.text(PHONE, BOT_NUMBER, "VERIFY") == 200
    assert not [line for line in bot.log if line["level"] in ("error", "critical")]


@pytest.mark.soak
async def test_a_million_bodies_make_the_bot_neither_fail_nor_grow(
    database_url: URL,
    telnyx: SimulatedTelnyx,
    processes: Processes,
    request: pytest.FixtureRequest,
) -> None:
    on_sqlite = database_url.get_backend_name() == "sqlite"
    bot = await listening(database_url, telnyx, processes)
    sizes = []
    for number, chance in soak_rounds(request.node.name, 100 if on_sqlite else 10):
        await throw(telnyx, chance, 10_000)
        sizes.append(memory(bot.pid))
        print(f"round {number}: {sizes[-1]} kB")  # noqa: T201 - progress
    warm = sizes[1:]
    assert not warm or max(warm) <= 1.1 * min(warm), sizes
    assert not [line for line in bot.log if line["level"] in ("error", "critical")]


def memory(pid: int) -> int:
    """Read how much memory a process holds (RSS, in kB)."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1])


async def test_five_hundred_who_send_a_byte_a_second_keep_nobody_out(
    database_url: URL, telnyx: SimulatedTelnyx, processes: Processes
) -> None:
    await listening(database_url, telnyx, processes)
    quiet = await slowest(telnyx, 0)
    dripping = [asyncio.Event() for _ in range(500)]
    slow = [asyncio.create_task(drip(telnyx, begun)) for begun in dripping]
    async with asyncio.timeout(TEST_TIMEOUT):
        await asyncio.gather(*(begun.wait() for begun in dripping))
    besieged = await slowest(telnyx, 500)
    for client in slow:
        client.cancel()
    await asyncio.gather(*slow, return_exceptions=True)
    print(f"p99 quiet {quiet * 1000:.1f} ms, besieged {besieged * 1000:.1f} ms")  # noqa: T201


async def drip(telnyx: SimulatedTelnyx, begun: asyncio.Event) -> None:
    """Send a request byte by byte, and begin again when the bot has had enough."""
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


async def slowest(telnyx: SimulatedTelnyx, first: int, count: int = 200) -> float:
    """Text one after the other and return the 99th percentile of the answers (seconds)."""
    took = []
    for number in range(first, first + count):
        began = time.monotonic()
        assert await telnyx.text(f"+1312{number:07}", BOT_NUMBER, "VERIFY") in (200, 503)
        took.append(time.monotonic() - began)
    return sorted(took)[int(count * 0.99) - 1]
