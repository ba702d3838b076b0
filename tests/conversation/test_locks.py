from __future__ import annotations

import pytest

from bot.conversation.actions import Cancel
from bot.conversation.decision import Decision
from bot.conversation.policy import Policy
from bot.conversation.replies import Reply
from bot.conversation.state import State
from tests.conversation.person import (
    DAY,
    HOUR,
    INSTANT,
    MINUTE,
    MORNING,
    OTHER_BOT,
    RIGHT,
    WRONG,
    Person,
    Step,
    someone_in,
    with_current_opt_times,
)


def test_each_further_lock_is_twice_as_long_up_to_a_day(person: Person) -> None:
    person.policy = Policy(growth=(), codes_per_day=100)
    lengths = []
    for _ in range(9):
        assert person.plays("VERIFY", *[WRONG] * 5) is Reply.LOCKED
        assert person.limits.locked_until is not None
        lengths.append((person.limits.locked_until - person.now) // MINUTE)
        person.now = person.limits.locked_until

    assert lengths == [15, 30, 60, 120, 240, 480, 960, 1440, 1440]


def test_success_makes_the_next_lock_short_again(locked: Person) -> None:
    locked.policy = Policy(growth=())
    assert locked.plays(15 * MINUTE, "VERIFY", *[WRONG] * 5) is Reply.LOCKED
    assert "30 minutes" in locked.message().body

    assert locked.plays(30 * MINUTE, "VERIFY", RIGHT) is Reply.SUCCESS
    assert locked.plays("VERIFY", *[WRONG] * 5) is Reply.LOCKED
    assert "15 minutes" in locked.message().body


@pytest.mark.parametrize(
    "between", [("STOP", "START"), (DAY - INSTANT,), (15 * MINUTE, "NOT ME", HOUR)], ids=repr
)
def test_little_but_success_makes_the_next_lock_short_again(
    locked: Person, between: tuple[Step, ...]
) -> None:
    locked.policy = Policy(growth=())
    locked.plays(*between, 15 * MINUTE)

    assert locked.plays("VERIFY", *[WRONG] * 5) is Reply.LOCKED
    assert "30 minutes" in locked.message().body


@pytest.mark.parametrize(
    ("days", "wait"), [(0, "2 hours"), (1, "60 minutes"), (2, "30 minutes"), (9, "15 minutes")]
)
def test_each_day_without_a_lock_makes_the_next_one_a_step_shorter(days: int, wait: str) -> None:
    someone = Person(Policy(growth=(), codes_per_day=100))
    for _ in range(3):
        assert someone.plays("VERIFY", *[WRONG] * 5, HOUR) is Reply.LOCKED
    assert someone.limits.locked_until == someone.now
    someone.now += days * DAY

    assert someone.plays("VERIFY", *[WRONG] * 5) is Reply.LOCKED
    assert wait.replace("60 minutes", "1 hour") in someone.message().body


@pytest.mark.parametrize(
    "text", ["VERIFY", "RESEND", "hello", "START", "123456", "12345", RIGHT, WRONG]
)
def test_a_lock_is_announced_once_and_then_there_is_no_reply_until_it_ends(
    locked: Person, text: str
) -> None:
    before = locked.last()

    assert locked.plays(15 * MINUTE - INSTANT, text) is None
    known = with_current_opt_times(locked, before)
    assert locked.last() == Decision(before.conversation, before.limits, person=known)


def test_a_lock_ends_on_time_and_all_tries_are_back(locked: Person) -> None:
    locked.policy = Policy(growth=())
    assert locked.plays(15 * MINUTE, "VERIFY") is Reply.CODE
    assert locked.plays(*[WRONG] * 4) is Reply.WRONG
    assert locked.plays(RIGHT) is Reply.SUCCESS


def test_any_text_after_a_lock_ends_it(locked: Person) -> None:
    assert locked.plays(15 * MINUTE, "hello") is Reply.HINT
    assert locked.state() is State.IDLE


def test_during_a_lock_status_says_how_long_it_lasts(locked: Person) -> None:
    assert locked.plays(5 * MINUTE, "STATUS") is Reply.STATUS_LOCKED
    assert "10 minutes" in locked.message().body


def test_during_a_lock_help_is_answered(locked: Person) -> None:
    assert locked.texts("HELP") is Reply.HELP
    assert locked.state() is State.LOCKED


def test_a_lock_holds_at_every_number_of_the_bot_and_ends_the_codes_there(awaiting: Person) -> None:
    code = awaiting.code()
    assert awaiting.plays("VERIFY", *[WRONG] * 5, at=OTHER_BOT) is Reply.LOCKED

    assert awaiting.state() is State.LOCKED
    assert awaiting.token().ended_at == MORNING
    assert awaiting.followed[-1].cancel is Cancel.CODES
    assert awaiting.texts(code) is None
    assert awaiting.plays(15 * MINUTE, code) is Reply.NO_CODE


@pytest.mark.parametrize("state", [State.IDLE, State.VERIFIED])
def test_a_lock_at_another_number_also_holds_here_without_a_code(state: State) -> None:
    someone = someone_in(state)
    someone.plays("VERIFY", *[WRONG] * 5, at=OTHER_BOT)

    assert someone.texts("VERIFY") is None
    assert someone.state() is State.LOCKED


def test_stop_and_start_do_not_end_a_lock(locked: Person) -> None:
    assert locked.plays("STOP", "START") is Reply.STATUS_LOCKED
    assert locked.texts("VERIFY") is None
    assert locked.state() is State.LOCKED
    assert locked.plays(15 * MINUTE, "VERIFY") is Reply.CODE


def test_a_person_who_only_guesses_gets_few_tries_on_the_first_day_and_five_on_each_later_one() -> (
    None
):
    someone = Person(Policy(growth=()))
    tries = [0, 0, 0, 0]
    for minute in range(4 * 24 * 60):
        someone.now = MORNING + minute * MINUTE
        someone.texts("VERIFY")
        while someone.plays(WRONG) in {Reply.WRONG, Reply.LOCKED}:
            tries[minute // (24 * 60)] += 1

    assert tries[0] == 7 * 5
    assert max(tries[1:]) == 5


def test_a_code_does_not_outlive_a_lock_at_another_number() -> None:
    someone = Person(Policy(attempts=1, code_lifetime=HOUR))
    someone.texts("VERIFY")
    code = someone.code()
    someone.texts("VERIFY", to=OTHER_BOT)
    assert someone.texts("000000", to=OTHER_BOT) is Reply.LOCKED
    assert someone.plays(16 * MINUTE, code) is Reply.NO_CODE


def test_if_the_operator_allows_fewer_tries_than_were_spent_no_guess_is_compared() -> None:
    someone = Person()
    someone.plays("VERIFY", WRONG, WRONG, WRONG, WRONG)
    someone.policy = Policy(attempts=2)
    assert someone.texts(someone.code()) is Reply.LOCKED
