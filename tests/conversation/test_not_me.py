from __future__ import annotations

import pytest

from bot.conversation.actions import Cancel
from bot.conversation.app_events import AppEvent, EventType
from bot.conversation.inputs import CodeRequested, CodeSubmitted, ReferenceLookup, TextReceived
from bot.conversation.person import NOT_ME_MEMORY
from bot.conversation.person import Person as KnownPerson
from bot.conversation.policy import Policy
from bot.conversation.replies import Reply
from bot.conversation.state import State
from bot.conversation.verification import AppAnswer, Complete, Origin, Reason, RequestOutcome
from tests.conversation.person import (
    BOT,
    DAY,
    HOUR,
    INSTANT,
    MINUTE,
    MORNING,
    OTHER_BOT,
    PHONE,
    RIGHT,
    SECOND,
    Person,
    someone_in,
    texted,
)

FREE = ReferenceLookup("r", available=True, begun_here=False)
REFERENCE = TextReceived("VERIFY 7Q2K42", reference=FREE)


def answer_to(person: Person, origin: Origin, verification: str = "v") -> AppAnswer:
    """Ask for a code as an app or the form does."""
    person.handle(CodeRequested(verification, origin))
    answer = person.last().answer
    assert answer is not None
    return answer


def code_for(person: Person, verification: str) -> str:
    tokens = person.conversations[BOT].verification_tokens
    token = next(each for each in tokens if each.verification == verification)
    return person.keyring.code(token, BOT, PHONE)


def test_not_me_ends_the_pending_code(awaiting: Person) -> None:
    code = awaiting.code()

    assert awaiting.texts("NOT ME") is Reply.NOT_ME
    assert "for 1 hour." in awaiting.message().body
    assert awaiting.message().body.endswith("Text VERIFY.")
    assert awaiting.state() is State.IDLE
    assert awaiting.token().ended_at == MORNING
    assert awaiting.last().cancel is Cancel.CODES
    assert awaiting.plays(HOUR, code) is Reply.NO_CODE
    assert awaiting.verified_at() is None


@pytest.mark.parametrize("state", [State.IDLE, State.LOCKED, State.OPTED_OUT])
def test_not_me_without_a_code_or_success_of_the_last_day_changes_nothing(state: State) -> None:
    someone = someone_in(state)
    someone.now += DAY
    someone.texts("hello")  # a lock ends
    limits, known, conversations = someone.limits, someone.known, dict(someone.conversations)

    reply = None if state is State.OPTED_OUT else Reply.NOT_ME_WITHOUT_CODE
    assert someone.texts("NOT ME") is reply
    assert someone.last().revoke_since is None
    assert (someone.limits, someone.known) == (limits, known)
    assert someone.conversations[BOT].token == conversations[BOT].token
    assert answer_to(someone, Origin.APP).outcome is not RequestOutcome.NOT_ME


@pytest.mark.parametrize("origin", [Origin.APP, Origin.FORM])
def test_a_code_of_an_app_or_the_form_at_another_number_makes_not_me_act(origin: Origin) -> None:
    person = Person()
    person.handle(CodeRequested("v", origin), at=OTHER_BOT)

    assert person.texts("NOT ME") is Reply.NOT_ME
    assert person.state(OTHER_BOT) is State.IDLE
    assert person.followed[-1].app_events == (AppEvent(EventType.FAILED, "v", Reason.NOT_ME),)


def test_repeating_not_me_refuses_nothing_for_longer(awaiting: Person) -> None:
    awaiting.texts("NOT ME")
    known = awaiting.known

    for _ in range(3):
        assert awaiting.plays(MINUTE, "NOT ME") is Reply.NOT_ME_WITHOUT_CODE
    assert awaiting.known == known


def test_repeating_not_me_changes_nothing_though_it_was_texted_before_the_code_was_decided(
    awaiting: Person,
) -> None:
    said_at = awaiting.now - SECOND  # the carrier's clock is behind, or all came at once
    assert awaiting.texts("VERIFY") is None
    assert awaiting.plays(texted("NOT ME", said_at)) is Reply.NOT_ME
    assert awaiting.plays(texted("NOT ME", said_at + INSTANT)) is Reply.NOT_ME_WITHOUT_CODE
    assert awaiting.known.not_mes == 1


@pytest.mark.parametrize("origin", [Origin.APP, Origin.FORM])
def test_not_me_refuses_codes_of_apps_and_the_form_for_an_hour(origin: Origin) -> None:
    person = someone_in(State.AWAITING_CODE)
    person.texts("NOT ME")

    refused = answer_to(person, origin)
    assert (refused.outcome, refused.retry_at) == (RequestOutcome.NOT_ME, MORNING + HOUR)
    person.now += HOUR - INSTANT
    assert answer_to(person, origin).outcome is RequestOutcome.NOT_ME
    person.now += INSTANT
    assert answer_to(person, origin).outcome is RequestOutcome.DONE


def test_not_me_refuses_the_codes_of_references_for_an_hour_and_names_the_wait(
    awaiting: Person,
) -> None:
    assert awaiting.plays("NOT ME", 10 * MINUTE, REFERENCE) is Reply.WAIT
    assert "wait 50 minutes" in awaiting.message().body
    assert awaiting.plays(50 * MINUTE, REFERENCE) is Reply.CODE


def test_the_forms_codes_are_refused_for_longer_each_time() -> None:
    person = Person()
    for length in (HOUR, DAY, 30 * DAY, 30 * DAY):
        assert answer_to(person, Origin.FORM, f"v{person.now}").outcome is RequestOutcome.DONE
        assert person.texts("NOT ME") is Reply.NOT_ME
        said_at = person.now
        refused = answer_to(person, Origin.FORM, "w")
        assert (refused.outcome, refused.retry_at) == (RequestOutcome.NOT_ME, said_at + length)
        person.now += HOUR
        app = answer_to(person, Origin.APP, f"a{person.now}")
        assert app.outcome is RequestOutcome.DONE
        person.now = said_at + length


def test_not_mes_are_forgotten_after_quiet_days() -> None:
    person = Person()
    person.plays("VERIFY", "NOT ME", HOUR, "VERIFY", "NOT ME")
    assert person.known.not_mes == 2
    person.plays(NOT_ME_MEMORY, "VERIFY", "NOT ME")
    assert person.known.not_mes == 3
    person.plays(NOT_ME_MEMORY + SECOND, "VERIFY", "NOT ME")
    assert person.known.not_mes == 1


def test_verify_brings_one_code_a_day_while_not_me_refuses_others() -> None:
    person = Person()
    person.known = KnownPerson(not_me_at=MORNING, not_mes=3)

    assert person.plays("VERIFY") is Reply.CODE
    assert person.plays(MINUTE, "RESEND") is Reply.WAIT_CODE
    assert "24 hours" in person.message().body
    assert person.plays(DAY - MINUTE - INSTANT, "VERIFY") is None  # the wait was announced
    assert person.plays(INSTANT, "VERIFY") is Reply.CODE


def test_the_code_a_day_is_one_for_all_numbers_and_not_one_for_each_not_me() -> None:
    person = Person()
    person.plays("VERIFY", "NOT ME", "VERIFY", "NOT ME")

    assert person.plays(MINUTE, "VERIFY", at=OTHER_BOT) is Reply.WAIT


def test_replying_with_the_own_code_ends_every_refusal(awaiting: Person) -> None:
    assert awaiting.plays("NOT ME", MINUTE, "VERIFY", RIGHT) is Reply.SUCCESS

    for origin in (Origin.APP, Origin.FORM):
        assert answer_to(awaiting, origin, origin).outcome is RequestOutcome.DONE
    assert awaiting.plays(MINUTE, "VERIFY") is Reply.CODE
    assert awaiting.known.not_mes == 1


def test_after_a_reply_with_it_the_next_not_me_leaves_a_code_again(awaiting: Person) -> None:
    awaiting.plays("NOT ME", "VERIFY", RIGHT, MINUTE, "NOT ME")
    assert awaiting.message().body.endswith("Text VERIFY.")
    assert awaiting.plays("VERIFY") is Reply.CODE


def test_a_code_that_an_app_asked_for_ends_no_refusal_of_the_form() -> None:
    person = Person()
    person.known = KnownPerson(not_me_at=MORNING - 2 * HOUR, not_mes=2)
    person.handle(CodeRequested("v", Origin.APP, Complete.TYPED))
    person.handle(CodeSubmitted("v", code_for(person, "v")))
    assert person.verified_at() == MORNING

    assert answer_to(person, Origin.FORM, "w").outcome is RequestOutcome.NOT_ME


def test_an_app_may_ask_while_the_form_may_not_and_its_code_lives() -> None:
    person = Person()
    person.known = KnownPerson(not_me_at=MORNING - 2 * HOUR, not_mes=2)

    assert answer_to(person, Origin.APP).outcome is RequestOutcome.DONE
    assert answer_to(person, Origin.FORM, "w").outcome is RequestOutcome.NOT_ME
    assert person.state() is State.AWAITING_CODE


def test_not_me_revokes_the_successes_of_the_last_day(verified: Person) -> None:
    assert verified.plays(HOUR, "NOT ME") is Reply.NOT_ME
    assert verified.last().revoke_since == verified.now - DAY
    assert AppEvent(EventType.NUMBER_REVOKED) in verified.last().app_events
    assert verified.verified_at() is None
    assert verified.state() is State.IDLE
    assert verified.texts("STATUS") is Reply.STATUS


def test_not_me_revokes_no_earlier_success(verified: Person) -> None:
    verified.plays(DAY, "VERIFY", "NOT ME")

    assert verified.verified_at() == MORNING
    assert AppEvent(EventType.NUMBER_REVOKED) not in verified.last().app_events


def test_an_earlier_plain_success_stands_when_a_later_one_by_an_app_is_revoked(
    verified: Person,
) -> None:
    verified.now += DAY
    verified.handle(CodeRequested("v", Origin.APP))
    verified.handle(CodeSubmitted("v", code_for(verified, "v")))
    assert verified.verified_at() == verified.now

    verified.texts("NOT ME")
    assert verified.verified_at() == MORNING
    assert verified.last().revoke_since == MORNING


def test_start_lifts_an_opt_out_but_not_not_me(awaiting: Person) -> None:
    awaiting.plays("NOT ME", "STOP", "START")
    assert answer_to(awaiting, Origin.APP).outcome is RequestOutcome.NOT_ME


def test_not_me_after_stop_acts_without_a_reply(opted_out: Person) -> None:
    assert opted_out.plays(MINUTE, "NOT ME") is None
    opted_out.plays(MINUTE, "START")
    assert answer_to(opted_out, Origin.APP).outcome is RequestOutcome.NOT_ME


def test_not_me_during_a_lock_leaves_the_lock(locked: Person) -> None:
    assert locked.texts("NOT ME") is Reply.NOT_ME
    assert locked.message().body.endswith("Text VERIFY in 15 minutes.")
    assert locked.state() is State.LOCKED
    assert locked.plays(15 * MINUTE, "VERIFY") is Reply.CODE


@pytest.mark.parametrize("text", ["VERIFY", "RESEND", "START", "hello", RIGHT])
def test_a_text_from_before_not_me_does_not_undo_it_even_after_its_period(
    awaiting: Person, text: str
) -> None:
    asked_at = awaiting.now
    said = awaiting.with_real_code(text, at=BOT)
    awaiting.plays(SECOND, texted("NOT ME", awaiting.now + SECOND))
    before = awaiting.conversations[BOT]
    assert awaiting.plays(MINUTE, texted(said, asked_at)) is None
    assert awaiting.plays(2 * HOUR, texted(said, asked_at + SECOND)) is None
    assert awaiting.conversations[BOT] == before
    assert awaiting.plays(texted("VERIFY", awaiting.now)) is Reply.CODE


def test_not_me_refuses_codes_from_when_it_was_texted(awaiting: Person) -> None:
    said_at = awaiting.now
    assert awaiting.plays(20 * MINUTE, texted("NOT ME", said_at)) is Reply.NOT_ME
    assert awaiting.known.refused_until(Origin.APP) == said_at + HOUR


def test_a_not_me_that_arrives_late_acts_for_a_day(awaiting: Person) -> None:
    said_at = awaiting.now + SECOND
    assert awaiting.plays(DAY, texted("NOT ME", said_at)) is Reply.NOT_ME
    awaiting.plays("VERIFY")
    assert awaiting.plays(SECOND, texted("NOT ME", said_at)) is None
    assert awaiting.state() is State.AWAITING_CODE


def test_a_late_not_me_revokes_what_an_app_verified_since(awaiting: Person) -> None:
    said_at = awaiting.now
    awaiting.now += HOUR
    awaiting.handle(CodeRequested("v", Origin.APP))
    awaiting.handle(CodeSubmitted("v", code_for(awaiting, "v")))

    assert awaiting.plays(texted("NOT ME", said_at)) is Reply.NOT_ME
    assert awaiting.verified_at() is None


def test_a_late_not_me_changes_nothing_after_a_success_of_the_persons_own(
    awaiting: Person,
) -> None:
    said_at = awaiting.now
    awaiting.plays(SECOND, texted(awaiting.code(), said_at + SECOND))
    known = awaiting.known

    assert awaiting.plays(MINUTE, texted("NOT ME", said_at)) is None
    assert awaiting.known == known
    assert awaiting.plays(texted("NOT ME", said_at + 2 * SECOND)) is Reply.NOT_ME


def test_a_code_and_a_later_not_me_that_arrive_at_once_are_taken_in_their_order(
    awaiting: Person,
) -> None:
    code, said_at = awaiting.code(), awaiting.now
    awaiting.now += MINUTE  # both arrive after an outage, and are decided at the same time
    assert awaiting.plays(texted(code, said_at + SECOND)) is Reply.SUCCESS
    assert awaiting.plays(texted("NOT ME", said_at + 2 * SECOND)) is Reply.NOT_ME
    assert awaiting.verified_at() is None


def test_not_me_in_a_long_lock_says_how_long_the_lock_is() -> None:
    someone = Person(Policy(attempts=1, codes_per_hour=100, codes_per_day=100))
    for wait in (15, 30, 60, 120):
        someone.plays("VERIFY", "<a wrong code>")
        someone.plays(wait * MINUTE, "VERIFY")
    someone.plays("<a wrong code>", "NOT ME")
    assert "4 hours" in someone.message().body


def test_a_silenced_not_me_still_ends_the_code(awaiting: Person) -> None:
    code = awaiting.code()
    awaiting.plays(*["HELP"] * 10)

    assert awaiting.texts("NOT ME") is None
    assert awaiting.state() is State.IDLE
    assert awaiting.plays(HOUR, code) is Reply.NO_CODE
