"""`bot …`, killed (SIGKILL) when it reaches a named point for the n-th time.

A claim's lease is shortened, so that a test need not wait half a minute for a dead process's
claims. So are the retry delays of app events: a crash counts as an attempt, and after two the next
one is minutes away.
"""

from __future__ import annotations

import os
import signal
from datetime import timedelta
from functools import wraps
from typing import TYPE_CHECKING, Any

from aiohttp import ClientResponse

from bot.app_events.client import Client
from bot.carrier.client import Carrier
from bot.cli.main import main
from bot.services.delivery import notifier
from bot.services.delivery.notifier import AppEventDelivery
from bot.services.delivery.sender import TextDelivery
from bot.services.intake import inbox
from bot.services.intake.inbox import Inbox
from bot.store.queues import app_events, outbox

if TYPE_CHECKING:
    from collections.abc import Callable

LEASE = timedelta(seconds=2)
RETRY_DELAY = timedelta(seconds=1)

_calls_left = 0


def _crash_when_due() -> None:
    """Kill the process at the n-th call, without any cleanup."""
    global _calls_left  # noqa: PLW0603 - one counter for one process
    _calls_left -= 1
    if _calls_left == 0:
        os.kill(os.getpid(), signal.SIGKILL)


def _crash_before(owner: Any, name: str) -> None:
    """Crash before an asynchronous method."""
    method: Callable[..., Any] = getattr(owner, name)

    @wraps(method)
    async def crashing(*args: Any, **kwargs: Any) -> Any:
        _crash_when_due()
        return await method(*args, **kwargs)

    setattr(owner, name, crashing)


def _crash_after(owner: Any, name: str) -> None:
    """Crash after an asynchronous method."""
    method: Callable[..., Any] = getattr(owner, name)

    @wraps(method)
    async def crashing(*args: Any, **kwargs: Any) -> Any:
        result = await method(*args, **kwargs)
        _crash_when_due()
        return result

    setattr(owner, name, crashing)


def _crash_within_the_inbox_transaction() -> None:
    """Crash when everything is written but nothing is committed."""
    apply = inbox.apply

    @wraps(apply)
    def crashing(*args: Any) -> Any:
        results = apply(*args)
        _crash_when_due()
        return results

    setattr(inbox, "apply", crashing)  # noqa: B010 - mypy refuses another signature


POINTS: dict[str, Callable[[], None]] = {
    "before the inbox commits": _crash_within_the_inbox_transaction,
    "after the inbox has committed": lambda: _crash_after(Inbox, "_commit"),
    "after the claim": lambda: _crash_before(TextDelivery, "deliver"),
    "request written": lambda: _crash_before(ClientResponse, "start"),
    "response received": lambda: _crash_after(Carrier, "send"),
    "before settling": lambda: _crash_after(TextDelivery, "_send"),
    "after settling": lambda: _crash_after(TextDelivery, "deliver"),
}

EVENT_POINTS: dict[str, Callable[[], None]] = {
    "after the claim of an event": lambda: _crash_before(AppEventDelivery, "deliver"),
    "event written": lambda: _crash_before(ClientResponse, "start"),
    "event answered": lambda: _crash_after(Client, "post"),
    "before settling an event": lambda: _crash_after(AppEventDelivery, "_post"),
    "after settling an event": lambda: _crash_after(AppEventDelivery, "deliver"),
}
"""Points of a bot that sends app events."""


def run_until_crash(arguments: list[str]) -> None:
    """Run `bot …` until it reaches POINT for the N-th time: the first two arguments; 0 is never."""
    global _calls_left  # noqa: PLW0603 - as above
    point, nth, *rest = arguments
    _calls_left = int(nth)
    outbox.LEASE = app_events.LEASE = LEASE
    notifier.RETRY_DELAYS = (RETRY_DELAY,) * len(notifier.RETRY_DELAYS)
    (POINTS | EVENT_POINTS)[point]()
    main(rest, prog_name="bot")
