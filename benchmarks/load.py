"""Signed webhooks, each from a different phone, and wrk to post them."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.servers import BOT_NUMBER, OTHERS_CPU, pinned
from bot.carrier.webhooks import SIGNATURE_HEADER, TIMESTAMP_HEADER
from bot.simulator.telnyx import payloads
from bot.web.app import WEBHOOK_PATH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nacl.signing import SigningKey

    from benchmarks.servers import Server

_SCRIPT = Path(__file__).with_name("post.lua")
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}
_FIRST_AREA, _AREAS = 201, 789


MAX_RATE, MAX_RATE_WITH_DATABASE = 30000, 9000
"""Requests prepared for each second: more than a server can process."""
PHONES_APART = 10**6
"""Distance between the first phones of two loads that must not share a phone."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """The results of wrk: requests a second, latencies in seconds.

    `cpu` is the server's CPU time for each request (seconds), which depends less on other load on a
    shared machine than the latencies do.
    """

    rate: float
    p50: float
    p99: float
    requests: int
    cpu: float


def phone(number: int) -> str:
    """Return the phone (E.164, valid in North America) of the person with this number."""
    area = _FIRST_AREA + number // 10**6 % _AREAS
    return (
        f"+1{area}555{number % 10**4:04}"
        if number < 10**4
        else f"+1{area}{2_000_000 + number % 10**6:07}"
    )


def signed(key: SigningKey, host: str, first: int, count: int) -> list[bytes]:
    """Return `count` signed requests in which different phones, from `first` on, text VERIFY.

    All have the same length in bytes.
    """
    bodies = [_body(first + number) for number in range(count)]
    longest = max(map(len, bodies))
    return [_request(key, host, body.ljust(longest)) for body in bodies]


def _body(number: int) -> bytes:
    payload = payloads.inbound(phone(number), BOT_NUMBER, "VERIFY")
    event = payloads.event("message.received", payload, datetime.now(UTC), "")
    return json.dumps(event).encode()


def _request(key: SigningKey, host: str, body: bytes) -> bytes:
    timestamp = str(int(time.time())).encode()
    signature = base64.b64encode(key.sign(timestamp + b"|" + body).signature)
    head = (
        f"POST {WEBHOOK_PATH} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n{TIMESTAMP_HEADER}: {timestamp.decode()}\r\n"
        f"{SIGNATURE_HEADER}: {signature.decode()}\r\n\r\n"
    )
    return head.encode() + body


async def run_wrk(  # noqa: PLR0913 - the parameters of a measurement
    server: Server,
    key: SigningKey,
    connections: int,
    seconds: int,
    *,
    max_rate: int = MAX_RATE_WITH_DATABASE,
    first: int = 0,
    cpu: int | None = OTHERS_CPU,
) -> Measurement:
    """Post webhooks with wrk for some seconds, each from a different phone, from `first` on.

    wrk runs on one processor, or any if `cpu` is None. Exits if a webhook is not answered 200.
    """
    requests = signed(key, server.host, first, max_rate * (seconds + 1))
    with tempfile.NamedTemporaryFile() as file:
        file.writelines(requests)
        file.flush()
        process = await asyncio.create_subprocess_exec(
            *(*pinned(cpu), "wrk", "-t1", f"-c{connections}", f"-d{seconds}s"),
            *("--latency", "--timeout", "10s", "-s", str(_SCRIPT), server.url, "--"),
            *(file.name, str(len(requests[0]))),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        cpu_before = server.cpu_time()
        out, _ = await process.communicate()
    return _parse(out.decode(), server.cpu_time() - cpu_before)


async def post(host: str, requests: Sequence[bytes], pause: float = 0.0) -> list[float]:
    """Post requests on one connection, each after the previous response and a pause.

    Return when each was sent (monotonic seconds). Exit if one is not answered 200.
    """
    reader, writer = await asyncio.open_connection(*host.split(":"))
    sent_at = []
    for request in requests:
        await asyncio.sleep(pause)
        sent_at.append(time.monotonic())
        writer.write(request)
        answer = await reader.readuntil(b"\r\n\r\n")
        if not answer.startswith(b"HTTP/1.1 200 "):
            sys.exit("a webhook was not answered 200")
    writer.close()
    return sent_at


def _parse(report: str, cpu_seconds: float) -> Measurement:
    found = re.search(r"Requests/sec:\s+([\d.]+)", report)
    if found is None or "used up" in report or "Socket errors" in report:
        raise RuntimeError(f"wrk failed:\n{report}")
    if refused := re.search(r"Non-2xx or 3xx responses: (\d+)", report):
        sys.exit(f"{refused[1]} webhooks were not answered 200")
    counted = re.search(r"(\d+) requests in", report)
    requests = int(counted[1]) if counted else 0
    return Measurement(
        rate=float(found[1]),
        p50=_latency(report, "50%"),
        p99=_latency(report, "99%"),
        requests=requests,
        cpu=cpu_seconds / max(requests, 1),
    )


def _latency(report: str, percentile: str) -> float:
    found = re.search(rf"^\s+{percentile}\s+([\d.]+)(us|ms|s|m)$", report, re.MULTILINE)
    if found is None:
        raise RuntimeError(f"no {percentile} latency from wrk:\n{report}")
    return float(found[1]) * _UNITS[found[2]]
