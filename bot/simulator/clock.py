"""A clock that can be moved ahead."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING

from bot.services.clock import SystemClock

if TYPE_CHECKING:
    from datetime import datetime

_LENGTH = re.compile(r"(\d{1,6})\s*(s|m|h|d)")
_FURTHEST = timedelta(days=3650)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class TravelClock(SystemClock):
    """The time of the system and what it has been moved ahead by."""

    def __init__(self) -> None:
        super().__init__()
        self._ahead = timedelta()

    def now(self) -> datetime:
        """Return the moved time."""
        return super().now() + self._ahead

    def wall(self) -> datetime:
        """Return the moved time: the pretend Telnyx signs by this clock too."""
        return self.now()

    def travel(self, length: timedelta) -> None:
        """Move ahead; raises ValueError beyond ten years."""
        if self._ahead + length > _FURTHEST:
            raise ValueError("that is further ahead than this clock goes")
        self._ahead += length


def to_length(written: str) -> timedelta:
    """Read a length like `30s`, `11m`, `2h` or `1d`; raises ValueError."""
    match = _LENGTH.fullmatch(written.strip())
    if match is None:
        raise ValueError("a length is like 30s, 11m, 2h or 1d")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})
