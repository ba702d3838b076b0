"""A clock that stands still until it is told to move."""

from __future__ import annotations

from datetime import UTC, datetime

from bot.simulator.clock import TravelClock


class StoppedClock(TravelClock):
    """Noon of a winter's day, and whatever it has been moved ahead by since."""

    noon = datetime(2026, 1, 15, 12, 0, tzinfo=UTC)

    def now(self) -> datetime:
        """Return the time it stands at."""
        return self.noon + self._ahead
