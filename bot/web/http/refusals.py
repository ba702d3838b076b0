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
"""The most refusals that wait at the same time, which limits their memory."""


class Refusals:
    """Delays refusals. Only the request and a timer exist meanwhile: no body, and no work."""

    def __init__(
        self,
        delay: float = REFUSAL_DELAY,
        *,
        jitter: float = REFUSAL_JITTER,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        self._delay = delay
        self._jitter = jitter
        self._max_waiting = max_waiting
        self._waiting = 0
        self._stopped = asyncio.Event()

    @property
    def waiting(self) -> int:
        """Return how many refusals are waiting."""
        return self._waiting

    def stop(self) -> None:
        """End the wait of all refusals, so that the process need not wait for them."""
        self._stopped.set()

    async def wait(self, request: web.Request) -> None:
        """Wait before a request is refused; its body is discarded.

        Return at once if the most that may wait are waiting already, or after `stop`.
        """
        if self._waiting >= self._max_waiting:
            return
        self._waiting += 1
        delay = self._delay * random.uniform(1, 1 + self._jitter)  # noqa: S311 - no secret
        try:
            with _receiving_nothing(request), suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._stopped.wait()
        finally:
            self._waiting -= 1


@contextmanager
def _receiving_nothing(request: web.Request) -> Iterator[None]:
    """Discard what has arrived of the body, and leave the rest to the sender's system.

    Otherwise aiohttp would buffer up to 128 KiB for each connection.
    """
    if request.content.exception() is None:
        request.content.read_nowait()
    transport = request.transport
    if transport is None:  # the client is gone
        yield
        return
    with suppress(RuntimeError):  # it is closing
        transport.pause_reading()
    try:
        yield
    finally:
        with suppress(RuntimeError):
            transport.resume_reading()
