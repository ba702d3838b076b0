"""What belongs to the person holds at all of the bot's numbers."""

from __future__ import annotations

import pytest

from bot.conversation.actions import Cancel
from bot.conversation.app_events import AppEvent, EventType
from bot.conversation.inputs import (
    CodeRequested,
    NotMeElsewhere,
    OptedOutAtCarrier,
    ReferenceLookup,
    TextReceived,
    TimePassed,
)
from bot.conversation.replies import Reply
from bot.conversation.state import Conversation, State
from bot.conversation.verification import Origin, Reason, RequestOutcome
from tests.conversation.person import (
    BOT,
    IN_STATE,
    MINUTE,
    MORNING,
    OTHER_BOT,
    PHONE,
    REACHABLE,
    RIGHT,
    WRONG,
    Person,
)

BLOCKED = OptedOutAtCarrier("40300")


@pytest.fixture
def person() -> Person:
    """Return a person whom an app has asked for a code at the other number."""
    someone = Person()
    someone.handle(CodeRequested("v", Origin.APP), at=OTHER_BOT)
    return someone


def outcome_at(person: Person, at: str, verification: str = "w") -> RequestOutcome:
    person.handle(CodeRequested(verification, Origin.APP), at=at)
    answer = person.last().answer
    assert answer is not None
    return answer.outcome


def test_stop_at_one_number_silences_all_of_them_with_one_confirmation(person: Person) -> None:
    assert person.texts("STOP") is Reply.STOPPED

    (followed,) = person.followed
    assert followed.message is None
    assert followed.cancel is Cancel.ALL
    assert followed.app_events == (AppEvent(EventType.FAILED, "v", Reason.OPTED_OUT),)
    assert person.state(OTHER_BOT) is State.OPTED_OUT
    for text in ("STOP", "VERIFY", "HELP", "hello"):
        assert person.texts(text, to=OTHER_BOT) is None
    assert outcome_at(person, OTHER_BOT) is RequestOutcome.OPTED_OUT


def test_one_opt_out_and_one_opt_in_is_one_app_event(person: Person) -> None:
    person.plays("STOP")
    person.plays("START", at=OTHER_BOT)

    events = [event for each in (*person.decided, *person.followed) for event in each.app_events]
    assert events.count(AppEvent(EventType.OPTED_OUT)) == 1
    assert events.count(AppEvent(EventType.OPTED_IN)) == 1


@pytest.mark.parametrize("to", [BOT, OTHER_BOT])
def test_start_at_any_number_lifts_the_opt_out_at_all_of_them(person: Person, to: str) -> None:
    person.texts("STOP")

    assert person.texts("START", to=to) is Reply.WELCOME
    assert {person.state(), person.state(OTHER_BOT)} == {State.IDLE}
    assert person.texts("VERIFY") is Reply.CODE


def test_a_new_conversation_of_an_opted_out_person_begins_opted_out(person: Person) -> None:
    person.texts("STOP")
    person.conversations["new"] = Conversation("+13125550102", PHONE)

    assert person.texts("VERIFY", to="new") is None
    assert person.state("new") is State.OPTED_OUT
    assert person.texts("START", to="new") is Reply.WELCOME


@pytest.mark.parametrize("state", REACHABLE)
def test_a_conversation_that_was_not_informed_follows_at_its_next_input(state: State) -> None:
    person = Person()
    person.plays(*IN_STATE[state], at=OTHER_BOT)
    before = person.conversations[OTHER_BOT]
    person.texts("STOP")
    person.conversations[OTHER_BOT] = before

    assert person.texts("HELP", to=OTHER_BOT) is None
    assert person.last().cancel is Cancel.ALL
    assert person.state(OTHER_BOT) is State.OPTED_OUT


def test_start_during_a_lock_issues_no_code_at_any_number() -> None:
    person = Person()
    person.plays("VERIFY", *[WRONG] * 5, "STOP")
    person.plays("START")

    assert person.plays("VERIFY", at=OTHER_BOT) is None
    assert person.state(OTHER_BOT) is State.LOCKED


def test_a_lock_ends_the_codes_for_replies_at_all_numbers_at_once(person: Person) -> None:
    lookup = ReferenceLookup("r", available=True, begun_here=False)
    person.handle(TextReceived("VERIFY 7Q2K42", reference=lookup), at=OTHER_BOT)
    assert person.plays("VERIFY", *[WRONG] * 5) is Reply.LOCKED

    assert person.followed[-1].app_events == (
        AppEvent(EventType.FAILED, "r", Reason.TOO_MANY_GUESSES),
    )
    assert person.state(OTHER_BOT) is State.LOCKED


def test_a_success_at_one_number_is_known_at_all_of_them(person: Person) -> None:
    person.plays("VERIFY", RIGHT)

    assert person.plays("STATUS", at=OTHER_BOT) is not Reply.STATUS_VERIFIED  # a code is live
    assert person.plays(11 * MINUTE, "STATUS", at=OTHER_BOT) is Reply.STATUS_VERIFIED
    assert person.verified_at() == MORNING


def test_not_me_changes_the_state_at_all_numbers(person: Person) -> None:
    person.plays("VERIFY", RIGHT)
    person.plays("NOT ME", at=OTHER_BOT)

    assert {person.state(), person.state(OTHER_BOT)} == {State.IDLE}
    assert person.plays("STATUS") is Reply.STATUS


def test_a_block_without_a_start_on_record_is_an_opt_out_for_all(person: Person) -> None:
    person.handle(BLOCKED)

    assert person.known.opted_out
    assert person.state(OTHER_BOT) is State.OPTED_OUT


def test_a_block_after_start_blocks_that_number_alone() -> None:
    person = Person()
    person.plays("STOP", MINUTE, "START")
    person.handle(BLOCKED)

    assert not person.known.opted_out
    assert person.conversations[BOT].blocked_at == person.now
    assert person.last().cancel is Cancel.ALL
    assert outcome_at(person, BOT) is RequestOutcome.OPTED_OUT
    assert person.texts("VERIFY") is None
    assert person.texts("VERIFY", to=OTHER_BOT) is Reply.CODE


def test_only_a_start_to_the_blocked_number_lifts_the_block() -> None:
    person = Person()
    person.plays("START", BLOCKED)

    person.plays("START", "STOP", "START", at=OTHER_BOT)
    assert person.state() is State.OPTED_OUT
    assert person.texts("START") is Reply.WELCOME
    assert person.conversations[BOT].blocked_at is None
    assert outcome_at(person, BOT) is RequestOutcome.DONE


def test_stop_to_a_blocked_number_opts_out_everywhere_and_gets_no_reply() -> None:
    person = Person()
    person.plays("START", BLOCKED)

    assert person.texts("STOP") is None
    assert person.known.opted_out
    assert person.state(OTHER_BOT) is State.OPTED_OUT
    assert AppEvent(EventType.OPTED_OUT) in person.last().app_events


def test_what_follows_elsewhere_is_part_of_the_decision() -> None:
    person = Person()
    for text, elsewhere in (
        ("VERIFY", None),
        ("NOT ME", NotMeElsewhere()),
        ("NOT ME", None),
        ("STOP", TimePassed()),
        ("STOP", None),
        ("START", TimePassed()),
        ("START", None),
    ):
        person.texts(text)
        assert person.last().elsewhere == elsewhere, text
