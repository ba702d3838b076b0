"""Clocks that can be moved ahead."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from bot.services.clock import SystemClock

NOON = datetime(2026, 1, 15, 12, 0, tzinfo=UTC)
"""The default time of a stopped clock."""

_DURATION = re.compile(r"(\d{1,6}(?:\.\d)?)\s*(s|m|h|d)")
_MAX_AHEAD = timedelta(days=3650)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class TravelClock(SystemClock):
    """The system's time plus an offset."""

    def __init__(self) -> None:
        super().__init__()
        self._ahead = timedelta()

    def now(self) -> datetime:
        """Return the time with the offset added."""
        return super().now() + self._ahead

    def wall(self) -> datetime:
        """Return the time with the offset added: the simulated Telnyx signs by this clock too."""
        return self.now()

    def travel(self, duration: timedelta) -> None:
        """Move the clock ahead; raise ValueError beyond ten years in total."""
        if self._ahead + duration > _MAX_AHEAD:
            raise ValueError("the clock cannot be more than ten years ahead")
        self._ahead += duration


class StoppedClock(TravelClock):
    """A clock that only moves when `travel` is called."""

    def __init__(self, at: datetime = NOON) -> None:
        super().__init__()
        self._at = at

    def now(self) -> datetime:
        """Return the time at which the clock is stopped."""
        return self._at + self._ahead


def parse_duration(text: str) -> timedelta:
    """Parse a duration like `30s`, `11m`, `2h` or `1d`; raise ValueError for any other text."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError("write a duration like 30s, 11m, 2h or 1d")
    return timedelta(**{_UNITS[match[2]]: float(match[1])})
