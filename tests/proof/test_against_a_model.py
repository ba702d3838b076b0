"""The bot behind its real door, against a small model of what a person may expect."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from bot.simulator.stories.transcript import code_in
from bot.simulator.telnyx.faults import WebhookFault
from bot.store import conversations
from tests.kit.seeds import seeded, soak_rounds
from tests.kit.state_machines import Player, play
from tests.proof.model import Came, Expectation

if TYPE_CHECKING:
    from sqlalchemy import URL

    from tests.conftest import MakeDatabase


_numbers = itertools.count(1)
_SPOKEN = {
    "VERIFY": ("VERIFY", "verify please", "Verify!"),
    "RESEND": ("RESEND", "resend"),
    "NOT ME": ("NOT ME", "not me!"),
    "STOP": ("STOP", "please stop texting me", "unsubscribe"),
    "START": ("START",),
    "CHATTER": ("hello", "what is this?", "HELP", "STATUS", "ok 👍", "call 911"),
}
_JUMPS = (5, 29, 31, 299, 601, 901, 1801, 3601, 86401)


class Conversations(Player):
    """Two people text in any order, and time passes."""

    @initialize()
    def meet(self) -> None:
        self.people = {f"+1312{next(_numbers):07}": Expectation() for _ in range(2)}
        self.codes: dict[str, list[str]] = {phone: [] for phone in self.people}

    @rule(who=st.integers(0, 1), what=st.sampled_from(sorted(_SPOKEN)), data=st.data())
    def say(self, who: int, what: str, data: st.DataObject) -> None:
        self._expect(who, what, data.draw(st.sampled_from(_SPOKEN[what])))

    @rule(who=st.integers(0, 1), spelling=st.sampled_from(["{}", " {} ", "my code is {}", "{}."]))
    def guess_right(self, who: int, spelling: str) -> None:
        phone = list(self.people)[who]
        if self.codes[phone]:
            self._expect(who, "CODE", spelling.format(self.codes[phone][-1]))

    @rule(who=st.integers(0, 1), times=st.integers(1, 6))
    def ask_patiently(self, who: int, times: int) -> None:
        for _ in range(times):
            self._expect(who, "VERIFY", "VERIFY")
            self.wait(31)

    @rule(who=st.integers(0, 1), times=st.integers(1, 6))
    def guess_wrong(self, who: int, times: int) -> None:
        phone = list(self.people)[who]
        last = self.codes[phone][-1] if self.codes[phone] else "123456"
        wrong = [last[:-1] + digit for digit in "0123456789" if digit != last[-1]]
        for guess in wrong[:times]:
            self._expect(who, "WRONG CODE", guess)

    @rule(who=st.integers(0, 1), wait=st.sampled_from([899, 900, 901, 1799, 1800, 1801]))
    def guess_until_locked_and_wait(self, who: int, wait: int) -> None:
        self._expect(who, "VERIFY", "VERIFY")
        self.guess_wrong(who, 5)
        self.wait(wait)
        self._expect(who, "VERIFY", "VERIFY")

    @rule(who=st.integers(0, 1), wait=st.sampled_from([3599, 3600, 3601]))
    def refuse_and_come_back(self, who: int, wait: int) -> None:
        self._expect(who, "NOT ME", "NOT ME")
        self.wait(wait)
        self._expect(who, "VERIFY", "VERIFY")

    @rule(who=st.integers(0, 1))
    def guess_an_old_code(self, who: int) -> None:
        old = self.codes[list(self.people)[who]][:-1]
        if old and old[0] != self.codes[list(self.people)[who]][-1]:
            self._expect(who, "WRONG CODE", old[0])

    @rule(who=st.integers(0, 1))
    def guess_the_code_of_the_other(self, who: int) -> None:
        phone, other = list(self.people)[who], list(self.people)[1 - who]
        if self.codes[other] and self.codes[other][-1:] != self.codes[phone][-1:]:
            self._expect(who, "WRONG CODE", self.codes[other][-1])

    @rule(seconds=st.sampled_from(_JUMPS))
    def wait(self, seconds: int) -> None:
        self.sandbox.clock.travel(timedelta(seconds=seconds))

    @rule()
    def have_the_next_webhook_come_twice(self) -> None:
        self.sandbox.telnyx.arm(WebhookFault.TWICE)

    def _expect(self, who: int, what: str, text: str) -> None:
        phone, expected = list(self.people.items())[who]
        to_come = expected.hear(what, self.sandbox.clock.now().timestamp())
        came = self.runner.run(self.sandbox.text(phone, text))
        by_bot = [sent.text for sent in came if sent.author == "bot"]
        assert len(by_bot) <= 1, by_bot
        assert to_come is not Came.NOTHING or not by_bot, (text, by_bot)
        codes = [code for code in map(code_in, by_bot) if code]
        assert bool(codes) is (to_come in (Came.NEW_CODE, Came.SAME_CODE)), (text, to_come, by_bot)
        if to_come is Came.SAME_CODE:
            assert codes == self.codes[phone][-1:]
        elif to_come is Came.NEW_CODE:
            self.codes[phone] += codes
        succeeded = any("this number is verified" in sent for sent in by_bot)
        assert succeeded is (to_come is Came.SUCCESS), (text, to_come, by_bot)
        assert self.runner.run(self._state(phone)) == expected.state, text

    async def _state(self, phone: str) -> str:
        (known,) = await self.sandbox.bot.database.read(conversations.find, phone)
        return known.conversation.state


def test_every_conversation_goes_as_the_model_says(database_url: URL) -> None:
    with seeded("model") as chance:
        play(Conversations, database_url, chance, max_examples=20, stateful_step_count=30)


@pytest.mark.soak
def test_every_conversation_goes_as_the_model_says_for_long(
    make_database: MakeDatabase, request: pytest.FixtureRequest
) -> None:
    for _, chance in soak_rounds(request.node.name, 100):
        play(Conversations, make_database(), chance, max_examples=10, stateful_step_count=100)
