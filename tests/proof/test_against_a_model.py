"""The bot, through its webhooks, against a small model of the conversation."""

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
from tests.kit.state_machines import SandboxMachine, run_machine
from tests.proof.model import Expectation, Outcome

if TYPE_CHECKING:
    from sqlalchemy import URL

    from tests.conftest import MakeDatabase


_numbers = itertools.count(1)
_WORDINGS = {
    "VERIFY": ("VERIFY", "verify please", "Verify!"),
    "RESEND": ("RESEND", "resend"),
    "NOT ME": ("NOT ME", "not me!"),
    "STOP": ("STOP", "please stop texting me", "unsubscribe"),
    "START": ("START",),
    "CHATTER": ("hello", "what is this?", "HELP", "STATUS", "ok 👍", "call 911"),
}
_JUMPS = (5, 29, 31, 299, 601, 901, 1801, 3601, 86401)


class Conversations(SandboxMachine):
    """Two people text in any order, and time passes."""

    @initialize()
    def meet(self) -> None:
        self.people = {f"+1312{next(_numbers):07}": Expectation() for _ in range(2)}
        self.codes: dict[str, list[str]] = {phone: [] for phone in self.people}

    @rule(person=st.integers(0, 1), kind=st.sampled_from(sorted(_WORDINGS)), data=st.data())
    def text(self, person: int, kind: str, data: st.DataObject) -> None:
        self._expect(person, kind, data.draw(st.sampled_from(_WORDINGS[kind])))

    @rule(
        person=st.integers(0, 1), spelling=st.sampled_from(["{}", " {} ", "my code is {}", "{}."])
    )
    def guess_right(self, person: int, spelling: str) -> None:
        phone = list(self.people)[person]
        if self.codes[phone]:
            self._expect(person, "CODE", spelling.format(self.codes[phone][-1]))

    @rule(person=st.integers(0, 1), times=st.integers(1, 6))
    def request_codes_after_each_cooldown(self, person: int, times: int) -> None:
        for _ in range(times):
            self._expect(person, "VERIFY", "VERIFY")
            self.wait(31)

    @rule(person=st.integers(0, 1), times=st.integers(1, 6))
    def guess_wrong(self, person: int, times: int) -> None:
        phone = list(self.people)[person]
        last = self.codes[phone][-1] if self.codes[phone] else "123456"
        wrong = [last[:-1] + digit for digit in "0123456789" if digit != last[-1]]
        for guess in wrong[:times]:
            self._expect(person, "WRONG CODE", guess)

    @rule(person=st.integers(0, 1), wait=st.sampled_from([899, 900, 901, 1799, 1800, 1801]))
    def guess_until_locked_and_wait(self, person: int, wait: int) -> None:
        self._expect(person, "VERIFY", "VERIFY")
        self.guess_wrong(person, 5)
        self.wait(wait)
        self._expect(person, "VERIFY", "VERIFY")

    @rule(person=st.integers(0, 1), wait=st.sampled_from([3599, 3600, 3601]))
    def text_not_me_and_verify_later(self, person: int, wait: int) -> None:
        self._expect(person, "NOT ME", "NOT ME")
        self.wait(wait)
        self._expect(person, "VERIFY", "VERIFY")

    @rule(person=st.integers(0, 1))
    def guess_an_old_code(self, person: int) -> None:
        old = self.codes[list(self.people)[person]][:-1]
        if old and old[0] != self.codes[list(self.people)[person]][-1]:
            self._expect(person, "WRONG CODE", old[0])

    @rule(person=st.integers(0, 1))
    def guess_the_code_of_the_other(self, person: int) -> None:
        phone, other = list(self.people)[person], list(self.people)[1 - person]
        if self.codes[other] and self.codes[other][-1:] != self.codes[phone][-1:]:
            self._expect(person, "WRONG CODE", self.codes[other][-1])

    @rule(seconds=st.sampled_from(_JUMPS))
    def wait(self, seconds: int) -> None:
        self.sandbox.clock.travel(timedelta(seconds=seconds))

    @rule()
    def deliver_the_next_webhook_twice(self) -> None:
        self.sandbox.telnyx.arm(WebhookFault.TWICE)

    def _expect(self, person: int, kind: str, text: str) -> None:
        phone, expected = list(self.people.items())[person]
        outcome = expected.receive(kind, self.sandbox.clock.now().timestamp())
        texts = self.runner.run(self.sandbox.text(phone, text))
        by_bot = [sent.text for sent in texts if sent.author == "bot"]
        assert len(by_bot) <= 1, by_bot
        assert outcome is not Outcome.NOTHING or not by_bot, (text, by_bot)
        codes = [code for code in map(code_in, by_bot) if code]
        assert bool(codes) is (outcome in (Outcome.NEW_CODE, Outcome.SAME_CODE)), (
            text,
            outcome,
            by_bot,
        )
        if outcome is Outcome.SAME_CODE:
            assert codes == self.codes[phone][-1:]
        elif outcome is Outcome.NEW_CODE:
            self.codes[phone] += codes
        succeeded = any("this number is verified" in sent for sent in by_bot)
        assert succeeded is (outcome is Outcome.SUCCESS), (text, outcome, by_bot)
        assert self.runner.run(self._state(phone)) == expected.state, text

    async def _state(self, phone: str) -> str:
        (stored,) = await self.sandbox.bot.database.read(conversations.find, phone)
        return stored.conversation.state


def test_every_conversation_goes_as_the_model_says(database_url: URL) -> None:
    with seeded("model") as rng:
        run_machine(Conversations, database_url, rng, max_examples=20, stateful_step_count=30)


@pytest.mark.soak
def test_every_conversation_goes_as_the_model_says_for_long(
    make_database: MakeDatabase, request: pytest.FixtureRequest
) -> None:
    for _, rng in soak_rounds(request.node.name, 100):
        run_machine(Conversations, make_database(), rng, max_examples=10, stateful_step_count=100)
