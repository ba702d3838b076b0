"""The event loop's clock, moved ahead by hand: what waits for a deadline need not wait for it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def advance(seconds: float) -> Callable[[], float]:
    """Move the running loop's clock ahead; timers that are due then run next; returns that clock.

    The loop lives as long as its test, and so does this.
    """
    loop = asyncio.get_running_loop()
    before = loop.time

    def moved() -> float:
        return before() + seconds

    setattr(loop, "time", moved)  # noqa: B010 - mypy minds an assignment
    return moved
