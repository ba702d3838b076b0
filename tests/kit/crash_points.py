"""`bot …`, ended as by a power cut when it comes to a named point for the n-th time.

A claim's lease is shortened, so that a test need not wait half a minute for what a dead process
had claimed; and so are the waits of events, since a crash counts as a try and two tries make it
minutes until the next.
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
WAIT = timedelta(seconds=1)

_left = 0


def _strike() -> None:
    """End the process at the n-th call, with nothing flushed and nobody told."""
    global _left  # noqa: PLW0603 - there is one count, and one process to end
    _left -= 1
    if _left == 0:
        os.kill(os.getpid(), signal.SIGKILL)


def _before(owner: Any, name: str) -> None:
    """Strike whenever an asynchronous method is about to begin."""
    method: Callable[..., Any] = getattr(owner, name)

    @wraps(method)
    async def struck(*args: Any, **kwargs: Any) -> Any:
        _strike()
        return await method(*args, **kwargs)

    setattr(owner, name, struck)


def _after(owner: Any, name: str) -> None:
    """Strike whenever an asynchronous method has done its work."""
    method: Callable[..., Any] = getattr(owner, name)

    @wraps(method)
    async def struck(*args: Any, **kwargs: Any) -> Any:
        result = await method(*args, **kwargs)
        _strike()
        return result

    setattr(owner, name, struck)


def _within_the_inbox_transaction() -> None:
    """Strike when all is written, and nothing is committed."""
    apply = inbox.apply

    @wraps(apply)
    def struck(*args: Any) -> Any:
        results = apply(*args)
        _strike()
        return results

    setattr(inbox, "apply", struck)  # noqa: B010 - mypy minds that a struck one takes anything


POINTS: dict[str, Callable[[], None]] = {
    "before the inbox commits": _within_the_inbox_transaction,
    "after the inbox has committed": lambda: _after(Inbox, "_commit"),
    "after the claim": lambda: _before(TextDelivery, "deliver"),
    "request written": lambda: _before(ClientResponse, "start"),
    "response received": lambda: _after(Carrier, "send"),
    "before settling": lambda: _after(TextDelivery, "_send"),
    "after settling": lambda: _after(TextDelivery, "deliver"),
}

EVENT_POINTS: dict[str, Callable[[], None]] = {
    "after the claim of an event": lambda: _before(AppEventDelivery, "deliver"),
    "event written": lambda: _before(ClientResponse, "start"),
    "event answered": lambda: _after(Client, "post"),
    "before settling an event": lambda: _after(AppEventDelivery, "_post"),
    "after settling an event": lambda: _after(AppEventDelivery, "deliver"),
}
"""Points that a bot comes to which tells an app of events."""


def run_until_struck(arguments: list[str]) -> None:
    """Be `bot …` until it comes to POINT for the N-th time: the first arguments; 0 is never."""
    global _left  # noqa: PLW0603 - as above
    point, nth, *rest = arguments
    _left = int(nth)
    outbox.LEASE = app_events.LEASE = LEASE
    notifier.RETRY_DELAYS = (WAIT,) * len(notifier.RETRY_DELAYS)
    (POINTS | EVENT_POINTS)[point]()
    main(rest, prog_name="bot")
