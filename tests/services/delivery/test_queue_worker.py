from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from bot.services.delivery.queue_worker import BatchSettler
from bot.store.engine.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence


class Recorder:
    """Records groups, each once the gate is open; `faults` are raised first, one a group."""

    def __init__(self, *faults: Exception) -> None:
        self.groups: list[list[str]] = []
        self.faults = list(faults)
        self.locked: set[str] = set()
        self.gate = asyncio.Event()
        self.gate.set()

    async def record(self, attempts: Sequence[str]) -> list[str]:
        self.groups.append(list(attempts))
        locked = [attempt for attempt in attempts if attempt in self.locked]
        await self.gate.wait()
        if self.faults:
            raise self.faults.pop(0)
        return locked


async def test_attempts_that_finish_during_a_transaction_share_the_next_one() -> None:
    recorder = Recorder()
    recorder.gate.clear()
    settler = BatchSettler("texts", recorder.record)
    tasks = [asyncio.create_task(settler.settle(name)) for name in "abc"]
    await asyncio.sleep(0)
    tasks += [asyncio.create_task(settler.settle(name)) for name in "de"]
    await asyncio.sleep(0)
    recorder.gate.set()
    await asyncio.gather(*tasks)
    assert recorder.groups == [["a"], ["b", "c", "d", "e"]]


async def test_an_outage_is_waited_out_and_then_the_attempt_is_left_to_its_lease() -> None:
    recorder = Recorder(*[UnavailableError("gone")] * 5)
    settler = BatchSettler("texts", recorder.record, retry_delays=(0.0,) * 4)
    await settler.settle("a")
    assert recorder.groups == [["a"]] * 4
    await settler.settle("b")
    assert recorder.groups[4:] == [["b"]] * 2


async def test_a_locked_attempt_is_recorded_with_the_next_group() -> None:
    recorder = Recorder()
    recorder.locked.add("a")
    settler = BatchSettler("texts", recorder.record, retry_delays=(3600.0, 0.0))
    locked = asyncio.create_task(settler.settle("a"))
    await asyncio.sleep(0)
    await settler.settle("b")
    recorder.locked.clear()
    await settler.settle("c")
    assert recorder.groups == [["a"], ["a", "b"], ["a", "c"]]
    locked.cancel()
    await asyncio.wait([locked])


async def test_an_attempt_given_up_while_its_group_is_recorded_fails_no_other() -> None:
    recorder = Recorder()
    recorder.locked.add("a")
    settler = BatchSettler("texts", recorder.record, retry_delays=(0.01,))
    locked = asyncio.create_task(settler.settle("a"))
    await asyncio.sleep(0)
    recorder.gate.clear()
    recorder.locked.clear()
    other = asyncio.create_task(settler.settle("b"))
    await locked
    recorder.gate.set()
    await other
    assert recorder.groups == [["a"], ["a", "b"]]
