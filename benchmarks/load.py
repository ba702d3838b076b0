"""Signed webhooks by the ten thousand, each from another phone, and wrk to send them."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from bot.carrier.webhooks import SIGNATURE_HEADER, TIMESTAMP_HEADER
from bot.simulator import payloads
from bot.web.routes import WEBHOOK_PATH

if TYPE_CHECKING:
    from nacl.signing import SigningKey

BOT_NUMBER = "+13125550100"
_SCRIPT = Path(__file__).with_name("post.lua")
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}
_FIRST_AREA, _AREAS = 201, 789


@dataclass(frozen=True, slots=True)
class Measured:
    """What wrk saw: requests a second, latencies in seconds, and answers that were not 200."""

    rate: float
    p50: float
    p99: float
    requests: int
    refused: int


@dataclass(frozen=True, slots=True)
class Prepared:
    """Requests in a file, all of one length in bytes."""

    file: Path
    length: int


def phone(number: int) -> str:
    """Name the number-th phone (E.164), valid in North America."""
    area = _FIRST_AREA + number // 10**6 % _AREAS
    return (
        f"+1{area}555{number % 10**4:04}"
        if number < 10**4
        else f"+1{area}{2_000_000 + number % 10**6:07}"
    )


def prepare(file: Path, key: SigningKey, host: str, first: int, count: int) -> Prepared:
    """Write `count` signed requests in which as many phones, from `first` on, text VERIFY."""
    bodies = [_body(first + number) for number in range(count)]
    longest = max(map(len, bodies))
    with file.open("wb") as out:
        for body in bodies:
            request = _request(key, host, body.ljust(longest))
            out.write(request)
    return Prepared(file, len(request))


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


async def send(prepared: Prepared, url: str, connections: int, seconds: int, cpu: int) -> Measured:
    """Have wrk send prepared requests for a while, from one processor."""
    process = await asyncio.create_subprocess_exec(
        *("taskset", "-c", str(cpu), "wrk", "-t1", f"-c{connections}", f"-d{seconds}s"),
        *("--latency", "--timeout", "10s", "-s", str(_SCRIPT), url, "--"),
        *(str(prepared.file), str(prepared.length)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    return _read(out.decode())


def _read(report: str) -> Measured:
    found = re.search(r"Requests/sec:\s+([\d.]+)", report)
    if found is None or "used up" in report or "Socket errors" in report:
        raise RuntimeError(f"wrk did not get through:\n{report}")
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", report)
    requests = re.search(r"(\d+) requests in", report)
    return Measured(
        rate=float(found[1]),
        p50=_latency(report, "50%"),
        p99=_latency(report, "99%"),
        requests=int(requests[1]) if requests else 0,
        refused=int(refused[1]) if refused else 0,
    )


def _latency(report: str, which: str) -> float:
    found = re.search(rf"^\s+{which}\s+([\d.]+)(us|ms|s|m)$", report, re.MULTILINE)
    if found is None:
        raise RuntimeError(f"wrk names no {which} latency:\n{report}")
    return float(found[1]) * _UNITS[found[2]]
