from __future__ import annotations

import asyncio

import pytest

from bot.store.engine.errors import UnavailableError
from bot.web.http.lookup_gate import (
    MAX_LOOKUPS,
    MAX_LOOKUPS_OF_NETWORK,
    MAX_LOOKUPS_OF_SESSIONS,
    LookupGate,
    TooManyLookupsError,
)
from tests.kit.loop_time import advance
from tests.kit.timeouts import TEST_TIMEOUT

ONE, TWO, THREE = "198.51.100.1", "198.51.100.2", "2001:db8::/64"


class Lookups:
    """Lookups that run until `done` is set."""

    def __init__(self) -> None:
        self.gate = LookupGate(TEST_TIMEOUT)
        self.done = asyncio.Event()
        self.running = 0

    async def start(
        self, network: str, count: int = 1, *, of_session: bool = False
    ) -> list[asyncio.Task[None]]:
        """Start lookups of a network, and let them run or wait."""
        tasks = [asyncio.create_task(self._look_up(network, of_session)) for _ in range(count)]
        for _ in range(5):
            await asyncio.sleep(0)
        return tasks

    async def _look_up(self, network: str, of_session: bool) -> None:  # noqa: FBT001
        async with self.gate.enter(network, of_session=of_session):
            self.running += 1
            await self.done.wait()
            self.running -= 1


async def test_one_network_cannot_keep_another_from_its_lookups() -> None:
    lookups = Lookups()
    of_one = await lookups.start(ONE, 100)
    assert lookups.running == MAX_LOOKUPS_OF_NETWORK
    of_two = await lookups.start(TWO)
    assert lookups.running == MAX_LOOKUPS_OF_NETWORK + 1
    lookups.done.set()
    await asyncio.gather(*of_one, *of_two)


async def test_all_networks_together_leave_connections_to_others() -> None:
    lookups = Lookups()
    tasks = [task for network in (ONE, TWO, THREE) for task in await lookups.start(network, 4)]
    assert lookups.running == MAX_LOOKUPS
    lookups.done.set()
    await asyncio.gather(*tasks)


async def test_a_network_has_four_lookups_of_keys_and_sessions_together() -> None:
    lookups = Lookups()
    tasks = await lookups.start(ONE, 3, of_session=True)
    tasks += await lookups.start(ONE, 3)
    assert lookups.running == MAX_LOOKUPS_OF_NETWORK
    lookups.done.set()
    await asyncio.gather(*tasks)


async def test_lookups_of_sessions_leave_one_to_those_with_a_key() -> None:
    lookups = Lookups()
    tasks = [
        task
        for network in (ONE, TWO, THREE)
        for task in await lookups.start(network, 4, of_session=True)
    ]
    assert lookups.running == MAX_LOOKUPS_OF_SESSIONS
    tasks += await lookups.start("198.51.100.9", 2)
    assert lookups.running == MAX_LOOKUPS_OF_SESSIONS + 1 == MAX_LOOKUPS
    lookups.done.set()
    await asyncio.gather(*tasks)


async def test_a_lookup_that_waited_too_long_for_its_own_network_says_so() -> None:
    lookups = Lookups()
    running = await lookups.start(ONE, MAX_LOOKUPS_OF_NETWORK)
    (waiting,) = await lookups.start(ONE)
    advance(TEST_TIMEOUT)
    with pytest.raises(TooManyLookupsError):
        await waiting
    lookups.done.set()
    await asyncio.gather(*running, *await lookups.start(ONE))


async def test_a_lookup_that_waited_too_long_for_others_finds_the_service_unavailable() -> None:
    lookups = Lookups()
    running = [*await lookups.start(ONE, 4), *await lookups.start(TWO, MAX_LOOKUPS - 4)]
    (waiting,) = await lookups.start(THREE)
    advance(TEST_TIMEOUT)
    with pytest.raises(UnavailableError):
        await waiting
    lookups.done.set()
    await asyncio.gather(*running, *await lookups.start(THREE))


async def test_a_network_without_a_lookup_is_forgotten() -> None:
    lookups = Lookups()
    lookups.done.set()
    for number in range(10):
        await asyncio.gather(*await lookups.start(f"198.51.100.{number}"))
    assert len(lookups.gate._networks) == 0
