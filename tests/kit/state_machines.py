"""Hypothesis state machines that run in a sandbox."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test
from msgspec.structs import replace

from bot.simulator.clock import StoppedClock
from bot.simulator.sandbox import open_sandbox

if TYPE_CHECKING:
    import random

    from sqlalchemy import URL

    from bot.simulator.sandbox import Sandbox


class SandboxMachine(RuleBasedStateMachine):
    """A state machine with a sandbox and a runner for coroutines."""

    runner: asyncio.Runner
    sandbox: Sandbox


def run_machine(machine: type[SandboxMachine], url: URL, rng: random.Random, **size: Any) -> None:
    """Run a state machine in one sandbox; each of its runs must use new phones.

    Codes do not grow: the models do not know of it.
    """
    seed(rng.getrandbits(64))(machine)
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        opening = open_sandbox(url, StoppedClock(), send_rate_account=0)
        sandbox = runner.run(stack.enter_async_context(opening))
        rules = sandbox.bot.rules
        # All parts of the bot hold the same rules.
        object.__setattr__(rules, "policy", replace(rules.policy, growth=()))
        try:
            machine.runner, machine.sandbox = runner, sandbox
            run_state_machine_as_test(
                machine,
                settings=settings(
                    deadline=None,
                    database=None,
                    suppress_health_check=list(HealthCheck),
                    print_blob=True,
                    phases=[Phase.generate],  # shrinking takes minutes; the seed repeats the run
                    **size,
                ),
            )
        finally:
            runner.run(stack.aclose())
