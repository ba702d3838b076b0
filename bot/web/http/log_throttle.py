"""A throttle for warnings that any caller could cause at will."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import structlog

from bot.conversation.limits import TokenBucket

_LOG_RATE = TokenBucket(interval=timedelta(minutes=1))

_log = structlog.get_logger(__name__)


class LogThrottle:
    """Logs each kind of warning at most once a minute, so that strangers cannot fill the log."""

    def __init__(self) -> None:
        self._full_at: dict[str, datetime] = {}
        self._unlogged: Counter[str] = Counter()

    def log(self, event: str, **details: str) -> None:
        """Log a warning with its details, and with how often it occurred since the last one."""
        self._unlogged[event] += 1
        now = datetime.now(UTC)
        self._full_at[event], free_at = _LOG_RATE.take(self._full_at.get(event, now), now)
        if free_at is None:
            _log.warning(event, **details, count=self._unlogged.pop(event))
