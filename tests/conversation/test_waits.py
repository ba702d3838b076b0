from __future__ import annotations

import pytest

from bot.conversation.person import Person as KnownPerson
from bot.conversation.policy import Policy
from bot.conversation.replies import Reply
from bot.conversation.state import PhoneLimits, State
from tests.conversation.person import DAY, MINUTE, MORNING, RIGHT, WRONG, Person, Step

REFUSING: dict[str, tuple[Step, ...]] = {
    "not me": ("VERIFY", "NOT ME", "VERIFY"),
    "the hour's limit": ("VERIFY", RIGHT) * 5,
}


@pytest.mark.parametrize("text", ["RESEND", "123456", "hello", "START"])
@pytest.mark.parametrize("before", REFUSING.values(), ids=REFUSING)
def test_while_verify_is_refused_replies_name_the_wait_instead_of_suggesting_it(
    before: tuple[Step, ...], text: str
) -> None:
    someone = Person()
    someone.plays(*before)

    assert someone.plays(20 * MINUTE, text) is Reply.WAIT
    assert "Please wait 40 minutes, then text VERIFY" in someone.message().body


def test_status_while_verify_is_refused_names_the_wait_to_an_unverified_person(
    awaiting: Person,
) -> None:
    assert awaiting.plays("NOT ME", "VERIFY", 10 * MINUTE, "STATUS") is Reply.WAIT
    assert "50 minutes" in awaiting.message().body


def test_a_late_code_beyond_the_limit_gets_the_time_when_verify_works() -> None:
    someone = Person(Policy(codes_per_hour=1))

    assert someone.plays("VERIFY", 10 * MINUTE, RIGHT) is Reply.WAIT
    assert "50 minutes" in someone.message().body


def test_verify_does_not_announce_a_wait_that_another_reply_has_announced(
    awaiting: Person,
) -> None:
    assert awaiting.plays("NOT ME", "VERIFY", 10 * MINUTE, "hello") is Reply.WAIT
    assert awaiting.texts("VERIFY") is None


def test_a_lock_that_ends_before_the_limit_does_names_the_longer_wait() -> None:
    someone = Person(Policy(attempts=1, codes_per_hour=1))

    assert someone.plays("VERIFY", WRONG) is Reply.LOCKED
    assert "wait 1 hour," in someone.message().body
    assert someone.plays(10 * MINUTE, "STATUS") is Reply.STATUS_LOCKED
    assert "wait 50 minutes," in someone.message().body


def test_a_clock_that_once_ran_ahead_refuses_and_locks_no_longer_than_the_limits_allow(
    person: Person,
) -> None:
    ahead = MORNING + 365 * DAY
    person.limits = PhoneLimits(locked_until=ahead, told_until=ahead, code_times=(ahead,) * 10)
    person.known = KnownPerson(not_me_at=ahead, not_mes=1, own_code_at=ahead)

    assert person.texts("VERIFY") is None
    assert person.state() is State.LOCKED
    assert person.plays(DAY, "VERIFY") is Reply.CODE


def test_a_wait_is_announced_again_only_for_status_and_start() -> None:
    someone = Person(Policy(codes_per_hour=1))
    someone.plays("VERIFY", RIGHT)
    assert someone.texts("VERIFY") is Reply.WAIT
    for said in ("RESEND", "hello", "123456"):
        assert someone.texts(said) is None
    assert someone.plays("START") is Reply.WAIT
