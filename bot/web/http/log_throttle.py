"""Warnings that whoever asks us could bring about at will."""

from __future__ import annotations

import time
from collections import Counter

import structlog

_LOG_INTERVAL = 60.0

_log = structlog.get_logger(__name__)


class LogThrottle:
    """Logs each kind of complaint at most once a minute: a stranger must not fill the log."""

    def __init__(self) -> None:
        self._due: dict[str, float] = {}
        self._unlogged: Counter[str] = Counter()

    def log(self, what: str, **details: str) -> None:
        """Log a warning with its details and how often it was due since the last one."""
        self._unlogged[what] += 1
        now = time.monotonic()
        if now >= self._due.get(what, 0.0):
            _log.warning(what, **details, count=self._unlogged.pop(what))
            self._due[what] = now + _LOG_INTERVAL
