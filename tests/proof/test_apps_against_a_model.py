"""Apps and a person at once, in any order, against a small model of the results."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule
from sqlalchemy import func, select

from bot.conversation.verification import Complete, Origin
from bot.services.verifications import VerificationRequest, Verifications
from bot.simulator.stories.transcript import code_in
from bot.store.tables import TokenRow
from tests.kit.seeds import seeded, soak_rounds
from tests.kit.state_machines import SandboxMachine, run_machine
from tests.proof.app_model import TRIES, Code, Expected

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from sqlalchemy import URL, Connection

    from tests.conftest import MakeDatabase


_numbers = itertools.count(1)
_JUMPS = (5, 31, 299, 601, 901, 1801, 3601, 86401)
_index = st.integers(0, 9)


class Requests(SandboxMachine):
    """One person, some apps, and time that passes."""

    @initialize()
    def meet(self) -> None:
        self.phone = f"+1312{next(_numbers):07}"
        self.expected = Expected()
        self.codes: dict[str, str] = {}
        self.own_code = ""

    @rule()
    def begin(self) -> None:
        request = VerificationRequest(Origin.APP, self.phone, Complete.REPLY)
        result = self._run(self.apps.begin(request))
        name = result.verification.id if result.verification else ""
        assert result.outcome == self.expected.begin(name, self._now())
        if name:
            self.codes[name] = self._latest_code()
        self._compare()

    @rule(times=st.integers(1, 5), wrong_first=st.integers(0, 5))
    def begin_and_type(self, times: int, wrong_first: int) -> None:
        for _ in range(times):
            self.begin()
        for _ in range(wrong_first):
            self.type_wrong(9)

    @rule(index=_index)
    def type_right(self, index: int) -> None:
        self._type(index, right=True)

    @rule(index=_index)
    def type_wrong(self, index: int) -> None:
        self._type(index, right=False)

    def _type(self, index: int, *, right: bool) -> None:
        if name := self._name(index):
            code = self.codes[name] if right else self._wrong()
            result = self._run(self.apps.check(name, code))
            assert result.outcome == self.expected.type(name, self._now(), right=right)
            self._compare()

    @rule(index=_index)
    def resend(self, index: int) -> None:
        if name := self._name(index):
            result = self._run(self.apps.resend(name))
            assert result.outcome == self.expected.resend(name, self._now())
            if result.outcome == "done":
                assert self._latest_code() == self.codes[name]
            self._compare()

    @rule(index=_index)
    def cancel(self, index: int) -> None:
        if name := self._name(index):
            result = self._run(self.apps.cancel(name))
            assert result.outcome == self.expected.cancel(name, self._now())
            self._compare()

    @rule(index=_index)
    def text_a_code_of_an_app(self, index: int) -> None:
        if name := self._name(index):
            self._guess(self.codes[name], self.expected.apps[name])

    @rule(index=_index, other=_index)
    def text_a_code_with_letters(self, index: int, other: int) -> None:
        name, right = self._name(index), self._name(other)
        if name and right:
            found = self._run(self.apps.get(name))
            text = f"{self.codes[right]} {self.apps.letters(found)}"
            self._guess(text, self.expected.apps[right], self.expected.apps[name])

    @rule()
    def text_the_own_code(self) -> None:
        if self.own_code:
            self._guess(self.own_code, self.expected.own)

    @rule(times=st.integers(1, 6))
    def text_wrong_codes(self, times: int) -> None:
        for _ in range(times):
            self._guess(self._wrong(), None)

    @rule()
    def verify(self) -> None:
        texts = self._text("VERIFY")
        codes = [code for code in map(code_in, texts) if code]
        assert bool(codes) is self.expected.verify(self._now()), texts
        self.own_code = codes[0] if codes else self.own_code
        self._compare()

    @rule()
    def text_not_me(self) -> None:
        self._text("NOT ME")
        self.expected.not_me(self._now())
        self._compare()

    @rule()
    def stop_and_come_back(self) -> None:
        self._text("STOP")
        self.expected.stop(self._now())
        self.begin()
        self._text("START")
        self.expected.start()
        self._compare()

    @rule(seconds=st.sampled_from(_JUMPS))
    def wait(self, seconds: int) -> None:
        self.sandbox.clock.travel(timedelta(seconds=seconds))

    def _guess(self, text: str, right: Code | None, request: Code | None = None) -> None:
        known = {self.own_code, *self.codes.values()}
        texts = self._text(text)
        succeeded = any("this number is verified" in sent for sent in texts)
        assert succeeded is self.expected.guess(self._now(), right, request), (text in known, texts)
        self._compare()

    def _compare(self) -> None:
        self.expected.expire(self._now())
        for name, code in self.expected.apps.items():
            found = self._run(self.apps.get(name))
            assert found is not None
            assert found.status_at(self.sandbox.clock.now()) == code.status
        assert self._run(self.sandbox.bot.database.read(most_guesses)) <= TRIES

    @property
    def apps(self) -> Verifications:
        assert self.sandbox.bot.verifications is not None
        return self.sandbox.bot.verifications

    def _name(self, index: int) -> str | None:
        names = list(self.codes)
        return names[index % len(names)] if names else None

    def _wrong(self) -> str:
        taken = {self.own_code, *self.codes.values()}
        return next(code for code in map("{:06}".format, range(100)) if code not in taken)

    def _latest_code(self) -> str:
        self._run(self.sandbox.quiet())
        texts = [text.text for text in self.sandbox.telnyx.texts if text.phone == self.phone]
        return code_in(texts[-1]) or ""

    def _text(self, text: str) -> list[str]:
        texts = self._run(self.sandbox.text(self.phone, text))
        return [sent.text for sent in texts if sent.author == "bot"]

    def _now(self) -> float:
        return self.sandbox.clock.now().timestamp()

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)


def most_guesses(connection: Connection) -> int:
    return connection.scalar(select(func.max(TokenRow.__table__.c.guesses))) or 0


def test_apps_and_a_person_get_the_results_of_the_model(database_url: URL) -> None:
    with seeded("apps model") as rng:
        run_machine(Requests, database_url, rng, max_examples=25, stateful_step_count=20)


@pytest.mark.soak
def test_apps_and_a_person_get_the_results_of_the_model_for_long(
    make_database: MakeDatabase, request: pytest.FixtureRequest
) -> None:
    for _, rng in soak_rounds(request.node.name, 20):
        run_machine(Requests, make_database(), rng, max_examples=10, stateful_step_count=50)
