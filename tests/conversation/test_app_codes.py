from __future__ import annotations

from bot.conversation.app_events import EventType
from bot.conversation.inputs import CodeRequested, CodeSubmitted
from bot.conversation.replies import Reply
from bot.conversation.state import State
from bot.conversation.verification import Origin, Reason
from tests.conversation.person import BOT, OTHER_BOT, PHONE, RIGHT, WRONG, Person


def test_a_right_code_never_costs_the_last_try_of_another() -> None:
    person = Person()
    person.plays("VERIFY", *[WRONG] * 4, CodeRequested("v", Origin.APP))
    (token,) = person.conversations[BOT].verification_tokens
    assert person.texts(person.keyring.code(token, BOT, PHONE)) is Reply.SUCCESS
    assert person.state() is State.VERIFIED
    assert person.token().spent
    assert person.plays(RIGHT) is Reply.NO_CODE
    assert not person.limits.locked_at(person.now)


def test_a_right_code_by_text_gives_no_further_guess_at_another() -> None:
    person = Person()
    person.plays(CodeRequested("v", Origin.APP), CodeRequested("w", Origin.APP))
    for number in range(4):
        person.handle(CodeSubmitted("w", f"{number:06}"))
    tokens = {token.verification: token for token in person.conversations[BOT].verification_tokens}
    person.texts(person.keyring.code(tokens["v"], BOT, PHONE))
    person.handle(CodeSubmitted("w", "999999"))
    guesses = [token.guesses for token in person.conversations[BOT].verification_tokens]
    assert max(guesses) <= person.policy.attempts


def test_an_app_learns_of_guesses_at_another_number_even_after_not_me_there() -> None:
    person = Person()
    person.handle(CodeRequested("v", Origin.APP))
    person.plays("VERIFY", *[WRONG] * 5, "NOT ME", at=OTHER_BOT)
    person.texts("hello")
    (event,) = person.last().app_events
    assert (event.type, event.reason) == (EventType.FAILED, Reason.TOO_MANY_GUESSES)


def test_an_app_learns_of_not_me_at_another_number() -> None:
    person = Person()
    person.handle(CodeRequested("v", Origin.APP))
    person.plays("NOT ME", at=OTHER_BOT)
    person.texts("hello")
    (event,) = person.last().app_events
    assert (event.type, event.reason) == (EventType.FAILED, Reason.NOT_ME)
