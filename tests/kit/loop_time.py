"""The event loop's clock, moved ahead, so that a test need not wait for a timeout."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def advance(seconds: float) -> Callable[[], float]:
    """Move the running loop's clock ahead, so that due timers run next; return that clock.

    The change lasts as long as the loop: one test.
    """
    loop = asyncio.get_running_loop()
    before = loop.time

    def moved() -> float:
        return before() + seconds

    setattr(loop, "time", moved)  # noqa: B010 - mypy refuses the assignment
    return moved
