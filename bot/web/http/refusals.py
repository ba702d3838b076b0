"""The delay of refusals: a request without a valid key or session is answered a second later.

A program that tries keys or cookies is slowed down by it, and costs the bot next to nothing.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiohttp import web

REFUSAL_DELAY = 1.0
"""Seconds from a request to its refusal."""
REFUSAL_JITTER = 0.25
"""The share by which delays are longer, at random: requests that arrived together do not return
together, which would make a webhook wait for all of them."""
MAX_WAITING = 4096
"""The most refusals that wait at the same time; each takes 16 KiB (`docs/performance.md`)."""


class Refusals:
    """Delays refusals by at least `delay` seconds. Meanwhile only the request and a timer exist."""

    def __init__(
        self,
        delay: float = REFUSAL_DELAY,
        *,
        jitter: float = REFUSAL_JITTER,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        self.delay = delay
        self._jitter = jitter
        self._max_waiting = max_waiting
        self._waiting: set[asyncio.Future[None]] = set()
        self._stopped = False

    @property
    def waiting(self) -> int:
        """Return how many refusals are waiting."""
        return len(self._waiting)

    def stop(self) -> None:
        """End the wait of all refusals, so that the process need not wait for them."""
        self._stopped = True
        for ended in self._waiting:
            _end(ended)

    async def wait(self, request: web.Request) -> None:
        """Wait before a request is refused; its body is discarded.

        Return at once if the most that may wait are waiting already, or after `stop`.
        """
        if self._stopped or self.waiting >= self._max_waiting:
            return
        delay = self.delay * random.uniform(1, 1 + self._jitter)  # noqa: S311 - no secret
        loop = asyncio.get_running_loop()
        ended = loop.create_future()
        timer = loop.call_later(delay, _end, ended)
        self._waiting.add(ended)
        try:
            with _receiving_nothing(request):
                await ended
        finally:
            self._waiting.discard(ended)
            timer.cancel()


def _end(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)


@contextmanager
def _receiving_nothing(request: web.Request) -> Iterator[None]:
    """Discard what has arrived of the body, and leave the rest to the sender's system.

    Otherwise aiohttp would buffer up to 128 KiB for each connection.
    """
    body, transport = request.content, request.transport
    is_whole = body.is_eof()
    if body.exception() is None:
        body.read_nowait()
    if is_whole or transport is None:  # None: the client is gone
        yield
        return
    with suppress(RuntimeError):  # it is closing
        transport.pause_reading()
    try:
        yield
    finally:
        with suppress(RuntimeError):
            transport.resume_reading()
