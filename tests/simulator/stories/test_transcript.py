"""Transcripts of sessions in which time passes without `/later`, as at a terminal."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bot.simulator import phone_status
from bot.simulator.clock import StoppedClock, parse_duration
from bot.simulator.sandbox import PHONE, open_sandbox
from bot.simulator.stories.player import SHAPES, Player, start_time_of
from bot.simulator.stories.transcript import code_in, transcript
from bot.simulator.telnyx.faults import NAMED_FAULTS
from bot.store.queues import outbox
from bot.store.tables import OutboxState

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bot.conversation.inputs import Shape
    from bot.simulator.sandbox import Sandbox
    from tests.conftest import MakeDatabase

pytestmark = [
    pytest.mark.parametrize("make_database", ["sqlite"], indirect=True),
    pytest.mark.usefixtures("migrated_sqlite"),  # made before a loop runs
]

PHONES = (PHONE, "+13125550002", "+447700900003")
STEP = timedelta(seconds=0.5)

few_examples = settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@dataclass
class Session:
    """A sandbox and the actions in it, one on each line.

    A line is one of the story language, in which `{n}` is the n-th code, or `... 5s`: time passes
    without `/later`.
    """

    sandbox: Sandbox
    phone: str = PHONE

    @property
    def codes(self) -> list[str]:
        found = (code_in(text.text) for text in self.sandbox.telnyx.texts)
        return list(dict.fromkeys(code for code in found if code))

    async def act(self, *lines: str) -> None:
        for line in lines:
            word, _, rest = line.partition(" ")
            match word:
                case "...":
                    await self._wait(parse_duration(rest))
                case "/later" if not await self._is_order_undefined():
                    await self.sandbox.travel(self.phone, parse_duration(rest))
                case "/fault":
                    self.sandbox.arm(rest)
                case "/phone":
                    self.phone = rest
                case ">" | "/mms" | "/group":
                    await self._text(rest, SHAPES[word])
            await self._record_states()

    def written(self) -> str:
        return transcript(self.sandbox.telnyx.journal.entries, self.sandbox.clock.now())

    async def _text(self, text: str, shape: Shape) -> None:
        for number, code in enumerate(self.codes):
            text = text.replace(f"{{{number}}}", code)
        await self.sandbox.text(self.phone, text, shape)

    async def _wait(self, duration: timedelta) -> None:
        """Let time pass in small steps, and wait in each until nothing more is due."""
        until = self.sandbox.clock.now() + duration
        while (left := until - self.sandbox.clock.now()) > timedelta():
            if await self._is_order_undefined():
                return
            self.sandbox.clock.travel(min(left, STEP))
            self.sandbox._sender.wake()
            await self.sandbox.quiet()
            await self._record_states()

    async def _is_order_undefined(self) -> bool:
        """Return whether an armed fault could affect any of several queued texts."""
        telnyx, counts = self.sandbox.telnyx, await self.sandbox.bot.database.read(outbox.counts)
        faults = len(telnyx.faults) + len(telnyx.report_faults)
        return faults > 0 and counts.get(OutboxState.QUEUED, 0) > 1

    async def _record_states(self) -> None:
        policy, now = self.sandbox.bot.rules.policy, self.sandbox.clock.now()
        read = self.sandbox.bot.database.read
        for status in await read(phone_status.find, set(PHONES), policy, now):
            self.sandbox.telnyx.journal.add(status)


@asynccontextmanager
async def session(make_database: MakeDatabase) -> AsyncIterator[Session]:
    async with open_sandbox(make_database(), StoppedClock()) as sandbox:
        yield Session(sandbox)


async def recorded(make_database: MakeDatabase, *lines: str) -> str:
    async with session(make_database) as running:
        await running.act(*lines)
        return running.written()


async def played_again(make_database: MakeDatabase, script: str) -> None:
    async with open_sandbox(make_database(), StoppedClock(start_time_of(script))) as sandbox:
        await Player(sandbox).play(script)


@pytest.mark.parametrize(
    ("lines", "written"),
    [
        pytest.param(
            ["/later 2h", "> VERIFY", "... 31s", "> RESEND", "... 5s", "> STATUS"],
            ["= awaiting_code", "/later 31s", "/later 5s"],
            id="a move of the clock comes first",
        ),
        pytest.param(
            ["/later 2h", "> VERIFY", "> {0}", "> STATUS"], ["/later 2h"], id="a verified time"
        ),
        pytest.param(
            ["/fault 500", "/fault 500", "> VERIFY", "... 6s", "> {0}"],
            ["/later 1s", "/later 3s", "/later 2s", "> {code}"],
            id="two tries fail while time passes",
        ),
        pytest.param(
            ["/fault 500", "/fault 40300", "> VERIFY", "... 5s", "> STATUS"],
            ["> VERIFY", "= awaiting_code", "/later 1s", "= opted_out", "/later 4s", "> STATUS"],
            id="an opt-out comes to light while time passes",
        ),
        pytest.param(
            ["/fault 500", "/fault failed", "> VERIFY", "... 2s", "> STATUS"],
            ["/later 1s", "/later 1s", "> STATUS"],
            id="a text fails on its way while time passes",
        ),
        pytest.param(
            ["/fault 429", "> VERIFY", "... 3.5s", "> {0}", "... 0.6s"],
            ["/later 2s", "> {code}", "= verified"],
            id="a text comes while time passes",
        ),
        pytest.param(
            ["> VERIFY", "... 0.4s", "> STATUS", "... 0.1s", "> STATUS"],
            ["/later 0.4s", "> STATUS", "/later 0.1s", "> STATUS"],
            id="no states after a short pause",
        ),
        pytest.param(
            ["> VERIFY", "> FACADE", "> facade", "> 999999", "> my code is 999999"],
            ["> FACADE", "> facade", "> {wrong}", "> my code is 999999"],
            id="a word that would be a code in hex",
        ),
        pytest.param(
            ["> VERIFY", "/later 123456.7s", "> STATUS", "... 10.5s", "> STATUS"],
            ["/later 123456.7s", "/later 10.5s"],
            id="a long time to a tenth of a second",
        ),
        pytest.param(
            ["> VERIFY", "/later 1234.5h", "> STATUS", "/later 100000.7m", "> STATUS"],
            ["/later 74070m", "/later 100000.7m"],
            id="a time that is too long in seconds",
        ),
    ],
)
async def test_a_session_with_pauses_goes_the_same_way_again(
    lines: list[str], written: list[str], make_database: MakeDatabase
) -> None:
    script = await recorded(make_database, *lines)
    rest = iter(script.splitlines())
    assert [line for line in written if line not in rest] == [], script
    await played_again(make_database, script)


WORDS = ["VERIFY", "RESEND", "STATUS", "HELP", "NOT ME", "STOP", "START", "opt out", "hello"]
CODES = ["{0}", "{1}", "{2}", "it's {0}", "000000", "12345", "FACADE", "", "two\nlines"]
texts = st.sampled_from(["VERIFY", *WORDS, *CODES])
actions = st.one_of(
    st.builds("{} {}".format, st.sampled_from([">", ">", ">", "/mms", "/group"]), texts),
    st.builds("/phone {}".format, st.sampled_from(PHONES)),
    st.builds("/fault {}".format, st.sampled_from(sorted(set(NAMED_FAULTS) - {"hang"}))),
    st.builds("/later {}".format, st.sampled_from(["0.3s", "1s", "40s", "11m", "2h", "1.5d"])),
    st.builds("... {}".format, st.sampled_from(["0.1s", "0.7s", "2.5s", "5s"])),
)


@few_examples
@given(lines=st.lists(actions, min_size=4, max_size=10))
@example(lines=["/fault 500", "/fault drop", "> VERIFY", "... 2.5s", "/fault late", "> {0}"])
async def test_any_session_goes_the_same_way_when_it_is_played_again(
    lines: list[str], make_database: MakeDatabase
) -> None:
    await played_again(make_database, await recorded(make_database, *lines))
