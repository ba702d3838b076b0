"""Clocks that can be moved ahead."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from bot.services.clock import SystemClock

NOON = datetime(2026, 1, 15, 12, 0, tzinfo=UTC)
"""When a clock that stands still stands, unless told otherwise: noon of a winter's day."""

_LENGTH = re.compile(r"(\d{1,6}(?:\.\d)?)\s*(s|m|h|d)")
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


class StoppedClock(TravelClock):
    """A clock that stands still wherever it has been moved to."""

    def __init__(self, at: datetime = NOON) -> None:
        super().__init__()
        self._at = at

    def now(self) -> datetime:
        """Return the time it stands at."""
        return self._at + self._ahead


def to_length(written: str) -> timedelta:
    """Read a length like `30s`, `11m`, `2h` or `1d`; raises ValueError."""
    match = _LENGTH.fullmatch(written.strip())
    if match is None:
        raise ValueError("a length is like 30s, 11m, 2h or 1d")
    return timedelta(**{_UNITS[match[2]]: float(match[1])})
