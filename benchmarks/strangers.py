"""Strangers with made-up keys and cookies, in a process of their own, on loopback only.

`python -m benchmarks.strangers PORT CONNECTIONS SECONDS` opens connections, half of them with keys
that do not exist and half with cookies that nobody signed. Each sends its next request as soon as
the previous one is answered. When all are connected, it prints a line. After SECONDS more it ends,
and prints how many answers of each status it got meanwhile, and how many connections were lost, as
JSON.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import sys
from collections import Counter
from typing import cast

_HOST = "127.0.0.1"
_TOGETHER = 100
"""Connections opened at the same time: fewer than a server's backlog."""
_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)
LOST = "lost"


class Stranger(asyncio.Protocol):
    """One connection; `answers` counts the statuses."""

    def __init__(self, request: bytes, answers: Counter[str]) -> None:
        self._request = request
        self._answers = answers
        self._received = b""
        self.transport: asyncio.WriteTransport | None = None
        self.stopped = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.WriteTransport", transport)
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        length = _CONTENT_LENGTH.search(head + b"\r\n")
        if not separator or len(body) < (int(length[1]) if length else 0):
            return
        self._answers[head[9:12].decode()] += 1
        self._received = b""
        if self.transport is not None and not self.stopped:
            self.transport.write(self._request)

    def connection_lost(self, _: Exception | None) -> None:
        if not self.stopped:
            self._answers[LOST] += 1


def request(number: int) -> bytes:
    """Return the request of a connection, with a key or a cookie that looks right."""
    if number % 2:
        key = f"tp_{secrets.token_hex(6)}_{secrets.token_hex(32)}"
        path, header = "/v1/verifications", f"Authorization: Bearer {key}"
    else:
        cookie = f"textproof={secrets.token_urlsafe(16)}.{secrets.token_hex(32)}"
        path, header = "/status", f"Cookie: {cookie}"
    return f"GET {path} HTTP/1.1\r\nHost: {_HOST}\r\n{header}\r\n\r\n".encode()


async def run(port: int, connections: int, seconds: float) -> Counter[str]:
    """Open the connections, send requests for some seconds, and return the answers."""
    answers, strangers = Counter[str](), list[Stranger]()
    loop = asyncio.get_running_loop()

    async def connect(number: int) -> None:
        stranger = Stranger(request(number), answers)
        await loop.create_connection(lambda: stranger, _HOST, port)
        strangers.append(stranger)

    for first in range(0, connections, _TOGETHER):
        numbers = range(first, min(first + _TOGETHER, connections))
        await asyncio.gather(*map(connect, numbers))
    print("connected", flush=True)
    answers.clear()
    await asyncio.sleep(seconds)
    for stranger in strangers:
        stranger.stopped = True
        if stranger.transport is not None:
            stranger.transport.abort()
    return answers


if __name__ == "__main__":
    print(json.dumps(asyncio.run(run(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))))
