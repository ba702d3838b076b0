from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from bot.conversation.throttle import ACCOUNT, Throttle
from bot.simulator.clock import NOON
from bot.store import throttle

if TYPE_CHECKING:
    from bot.store.engine.database import Database


async def test_throttles_are_stored_by_name_and_the_account_has_one_from_the_start(
    database: Database,
) -> None:
    assert (await database.write(throttle.lock)).keys() == {ACCOUNT}
    number = "+13125550100"
    changed = {ACCOUNT: Throttle(NOON, 1, NOON), number: Throttle(NOON + timedelta(seconds=1))}
    await database.write(throttle.save, changed)
    assert await database.read(throttle.read) == changed
    await database.write(throttle.save, {number: Throttle(NOON, 2, NOON)})
    assert list(await database.write(throttle.lock)) == [ACCOUNT, number]
    assert (await database.read(throttle.read))[number].halvings == 2
