from __future__ import annotations

from bot.conversation.inputs import CodeRequested, CodeSubmitted
from bot.conversation.replies import Reply
from bot.conversation.state import State
from bot.conversation.verification import Origin
from tests.conversation.person import BOT, PHONE, RIGHT, WRONG, Person


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
