"""Limits on reads before anything is known about a request but a valid key or session.

Webhooks and the sender keep their database connections, and one network cannot keep others out.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from bot.store.engine.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MAX_LOOKUPS = 6
"""One less than the connections that all reads on PostgreSQL share."""
MAX_LOOKUPS_OF_SESSIONS = 5
"""Anybody can have a session of the form, so these leave a lookup to those with a key."""
MAX_LOOKUPS_OF_NETWORK = 4
LOOKUP_TIMEOUT = 1.5
"""Seconds a request waits while the most that may run are running."""


class TooManyLookupsError(Exception):
    """The requests of one network waited too long for each other."""


class LookupGate:
    """Lets a few requests read at the same time: MAX_LOOKUPS, and fewer of one network.

    The API and the form share it, so that a network has as many in both together.
    """

    def __init__(self, timeout: float = LOOKUP_TIMEOUT) -> None:
        self._timeout = timeout
        self._all = asyncio.Semaphore(MAX_LOOKUPS)
        self._sessions = asyncio.Semaphore(MAX_LOOKUPS_OF_SESSIONS)
        # A network is forgotten as soon as none of its requests refers to its semaphore.
        self._networks: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    @asynccontextmanager
    async def enter(self, network: str, *, of_session: bool = False) -> AsyncIterator[None]:
        """Wait until one more request of `network` may read, for `timeout` seconds.

        Then raise TooManyLookupsError if it waited for its own network, else UnavailableError.
        `of_session` means that a session of the form is looked up, not a key.
        """
        deadline = asyncio.get_running_loop().time() + self._timeout
        of_network = self._networks.setdefault(network, asyncio.Semaphore(MAX_LOOKUPS_OF_NETWORK))
        others = [self._sessions, self._all] if of_session else [self._all]
        async with AsyncExitStack() as stack:
            if not await _acquired(of_network, deadline):
                raise TooManyLookupsError("too many lookups of this network are waiting")
            stack.callback(of_network.release)
            for semaphore in others:
                if not await _acquired(semaphore, deadline):
                    raise UnavailableError("too many lookups are waiting")
                stack.callback(semaphore.release)
            yield


async def _acquired(semaphore: asyncio.Semaphore, deadline: float) -> bool:
    """Acquire a semaphore; return False if it is not free before `deadline`, a time of the loop."""
    try:
        async with asyncio.timeout_at(deadline):
            await semaphore.acquire()
    except TimeoutError:
        return False
    return True
