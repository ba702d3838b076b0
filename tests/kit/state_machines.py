"""State machines of Hypothesis that play on a stage."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from bot.simulator.clock import StoppedClock
from bot.simulator.sandbox import open_sandbox

if TYPE_CHECKING:
    import random

    from sqlalchemy import URL

    from bot.simulator.sandbox import Sandbox


class Player(RuleBasedStateMachine):
    """A machine with a stage, and with what runs its coroutines."""

    runner: asyncio.Runner
    sandbox: Sandbox


def play(machine: type[Player], url: URL, chance: random.Random, **size: Any) -> None:
    """Have the machine run on one stage; each run is to meet new people."""
    seed(chance.getrandbits(64))(machine)
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        unpaced = open_sandbox(url, StoppedClock(), send_rate_account=0)
        sandbox = runner.run(stack.enter_async_context(unpaced))
        try:
            machine.runner, machine.sandbox = runner, sandbox
            run_state_machine_as_test(
                machine,
                settings=settings(
                    deadline=None,
                    database=None,
                    suppress_health_check=list(HealthCheck),
                    print_blob=True,
                    phases=[Phase.generate],  # shrinking takes minutes; the seed has it again
                    **size,
                ),
            )
        finally:
            runner.run(stack.aclose())
