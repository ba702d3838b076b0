"""Repeats a check of a background task; a failed check is logged, and the next one may succeed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NoReturn

import structlog

from bot.store.engine.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

CHECK_INTERVAL = 1.0
"""Seconds between two checks."""

_log = structlog.get_logger(__name__)


async def repeat(check: Callable[[], Awaitable[None]], failure: str) -> NoReturn:
    """Run a check once a second until cancelled; `failure` is the log event of a failed one.

    The first check waits too, so that a start that fails finds no query in progress.
    """
    while True:
        await asyncio.sleep(CHECK_INTERVAL)
        try:
            await check()
        except UnavailableError as error:
            _log.warning(failure, reason=str(error))
        except Exception:  # noqa: BLE001 - the next check may succeed
            _log.exception(failure)
