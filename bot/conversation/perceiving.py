"""What an event means here and now: every guard decided, so that the table alone moves."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from msgspec.structs import replace

from bot.conversation.inputs import (
    AutoReply,
    Cancelled,
    CodeRequested,
    CodeSubmitted,
    DeliveryFailed,
    OptedOutAtCarrier,
    ResendRequested,
    Shape,
    TextReceived,
    TimePassed,
)
from bot.conversation.intents import Intent, guess_in, understand, visible_part
from bot.conversation.machine import Event
from bot.conversation.policy import MAX_CLOCK_SKEW, NOT_ME_PERIOD
from bot.conversation.state import State
from bot.conversation.verification import Origin, RequestOutcome

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bot.conversation.inputs import AppInput, Input
    from bot.conversation.intents import Understood
    from bot.conversation.state import Token
    from bot.conversation.turn import Turn

_MAX_WORDING_LENGTH = 64
_MAY_BE_CODE = re.compile(r"\d|[a-f]{4}|^[a-f]+$")

_EVENT_OF: Mapping[Intent, Event] = {
    Intent.STATUS: Event.STATUS,
    Intent.HELP: Event.HELP,
    Intent.NOT_ME: Event.NOT_ME,
    Intent.START: Event.START,
    Intent.STOP: Event.STOP,
    Intent.REACTION: Event.NOT_FOR_US,
    Intent.THANKS: Event.NOT_FOR_US,
}


def perceive_time(turn: Turn) -> Event:
    """Tell what time alone has made due."""
    if turn.state is State.OPTED_OUT:
        return Event.NOTHING
    if turn.limits.locked_at(turn.now):
        return Event.NOTHING if turn.state is State.LOCKED else Event.LOCKED_ELSEWHERE
    if turn.state is State.LOCKED:
        return Event.LOCK_ENDED
    if turn.state is not State.AWAITING_CODE:
        return Event.NOTHING
    if not turn.live_tokens:
        turn.code_expired = True
        return Event.CODE_EXPIRED
    over = any(not token.spent and not turn.is_live(token) for token in turn.tokens)
    return Event.ONE_CODE_EXPIRED if over else Event.NOTHING


def perceive_rest(turn: Turn) -> Event:
    """Tell what the move just made has left behind."""
    awaiting = turn.state is State.AWAITING_CODE
    return Event.LAST_CODE_ENDED if awaiting and not turn.live_tokens else Event.NOTHING


def perceive(turn: Turn, happened: Input) -> Event:
    """Tell what has happened."""
    match happened:
        case TextReceived():
            return _perceive_said(turn, happened)
        case OptedOutAtCarrier(code):
            turn.wording = code
            # What is refused after a STOP follows from that STOP: it is no later opt-out, and must
            # not outdate a START.
            out = turn.state is State.OPTED_OUT
            return Event.NOTHING if out else Event.STOPPED_AT_CARRIER
        case DeliveryFailed(token_id):
            return _perceive_undeliverable(turn, token_id)
        case TimePassed():
            return Event.NOTHING
        case _:
            return _perceive_app(turn, happened)


def _perceive_said(turn: Turn, said: TextReceived) -> Event:
    understood = understand(said.text, turn.code_format)
    stops = said.answered is AutoReply.STOP or (
        said.answered is None and understood.intent is Intent.STOP
    )
    if said.received_at is not None:
        turn.received_at = said.received_at
        not_me = said.answered is None and understood.intent is Intent.NOT_ME
        if _is_outdated(turn, stops=stops, not_me=not_me):
            return Event.OUTDATED
    if stops:
        turn.wording = _without_codes(said.text)[:_MAX_WORDING_LENGTH]
    match said.answered:
        case AutoReply.STOP:
            return Event.STOPPED_AT_CARRIER
        case AutoReply.START:
            return Event.STARTED_AT_CARRIER
        case AutoReply.OTHER:
            return Event.ANSWERED
        case None:
            return _perceive_text(turn, said, understood)


def _is_outdated(turn: Turn, *, stops: bool, not_me: bool) -> bool:
    """Tell whether what the person texted later, and is decided already, outweighs a text.

    Of a STOP and a START the later one holds; of two at the same moment, the STOP. NOT ME keeps
    codes away for its time, whatever was asked before it. A time further in the future than clocks
    may differ is that of a clock that was wrong, and is not believed.
    """
    latest = turn.now + MAX_CLOCK_SKEW
    at, conversation = turn.received_at, turn.conversation
    if stops:
        start = conversation.opted_in_at
        return start is not None and at < start <= latest
    if not_me:
        return at + NOT_ME_PERIOD <= turn.now
    refused_until = turn.limits.refused_until
    refused_at = refused_until - NOT_ME_PERIOD if refused_until else None
    earlier = (conversation.opted_out_at, refused_at)
    return any(last is not None and at <= last <= latest for last in earlier)


def _perceive_text(  # noqa: PLR0911 - one answer for each intent
    turn: Turn, said: TextReceived, understood: Understood
) -> Event:
    if said.shape is Shape.GROUP and understood.intent is not Intent.STOP:
        return Event.NOT_FOR_US
    match understood.intent:
        case Intent.VERIFY if understood.reference:
            return _perceive_reference(turn, said)
        case Intent.VERIFY:
            return _perceive_asking(turn, turn.own_token)
        case Intent.RESEND:
            return _perceive_resend(turn)
        case Intent.GUESS if said.shape is Shape.PLAIN:
            return _perceive_guess(turn, understood.guess)
        case Intent.MISTYPED if turn.state is State.AWAITING_CODE:
            return Event.GUESS_MISTYPED
        case intent:
            return _EVENT_OF.get(intent, Event.CHATTER)


def _perceive_reference(turn: Turn, said: TextReceived) -> Event:
    referenced = said.referenced
    if turn.state in (State.LOCKED, State.OPTED_OUT):
        return Event.CODE_ASKED
    if referenced is None:
        return Event.REFERENCE_UNKNOWN
    token = turn.live_token_of(referenced.verification) if referenced.begun_here else None
    if token is None and not referenced.free:
        return Event.REFERENCE_SPENT
    turn.focus, turn.origin = referenced.verification, Origin.REFERENCE
    return _perceive_asking(turn, token)


def _perceive_resend(turn: Turn) -> Event:
    nothing_began = turn.state in (State.IDLE, State.VERIFIED)
    if nothing_began and not turn.code_expired:
        return Event.RESEND_WITHOUT_CODE
    token = turn.current_token
    if token is not None:
        turn.focus = token.verification
    return _perceive_asking(turn, token)


def _perceive_asking(turn: Turn, token: Token | None) -> Event:
    if turn.state in (State.LOCKED, State.OPTED_OUT):
        return Event.CODE_ASKED
    if token is not None and turn.now < token.resend_after:
        return Event.ASKED_TOO_SOON
    free_at = turn.policy.next_code_at(turn.limits)
    if free_at is not None and turn.now < free_at:
        told = turn.limits.told_until is not None and turn.now < turn.limits.told_until
        return Event.ASKED_TOO_OFTEN_AGAIN if told else Event.ASKED_TOO_OFTEN
    return Event.CODE_ASKED if token is None else Event.CODE_ASKED_AGAIN


def _perceive_guess(turn: Turn, guess: str) -> Event:
    if turn.code_expired:
        return Event.GUESS_TOO_LATE
    used = [token for token in turn.tokens if token.used_at is not None]
    if _right(turn, guess, used):
        return Event.GUESS_USED
    if turn.state is not State.AWAITING_CODE:
        return Event.GUESS_WITHOUT_CODE
    return _compare(turn, guess) if turn.tries_left() else Event.LAST_GUESS_WRONG


def _compare(turn: Turn, guess: str) -> Event:
    """Count a guess by text, then compare it with every code that lives."""
    _count_guess(turn)
    right = _right(turn, guess, turn.live_tokens)
    if right:
        turn.focus = right[0].verification
        others = [token for token in turn.live_tokens if token is not right[0]]
        # To another code this was a wrong guess like any, and it may have been the last.
        several = any(token.guesses < turn.policy.attempts for token in others)
        return Event.GUESS_RIGHT_OF_SEVERAL if several else Event.GUESS_RIGHT
    if not turn.tries_left():
        return Event.LAST_GUESS_WRONG
    attempts = turn.policy.attempts
    spent = all(token.guesses >= attempts for token in turn.live_tokens)
    return Event.GUESS_WRONG_CODES_SPENT if spent else Event.GUESS_WRONG


def _right(turn: Turn, guess: str, tokens: Sequence[Token]) -> list[Token]:
    """Compare with all, whichever is right: how long it takes tells nothing."""
    return [token for token in tokens if turn.matches(guess, token)]


def _count_guess(turn: Turn) -> None:
    """Count a guess by text, before it is compared, against every code it is compared with."""
    for token in turn.live_tokens:
        turn.put(replace(token, guesses=token.guesses + 1))
    turn.limits = replace(turn.limits, wrong_guesses=turn.limits.wrong_guesses + 1)


def _perceive_app(turn: Turn, asked: AppInput) -> Event:
    turn.focus, turn.by_app = asked.verification, True
    if isinstance(asked, CodeRequested):
        turn.origin = asked.origin
        return Event.APP_ASKS if _app_may_have_code(turn) else Event.NOTHING
    token = turn.live_token_of(asked.verification)
    if token is None:
        turn.reply_to_app(RequestOutcome.NOT_PENDING)
        return Event.NOTHING
    match asked:
        case ResendRequested():
            return _perceive_app_asking_again(turn, token)
        case CodeSubmitted():
            return _perceive_typed(turn, token, asked.code)
        case Cancelled():
            turn.reply_to_app(RequestOutcome.DONE)
            return Event.APP_CANCELS


def _perceive_app_asking_again(turn: Turn, token: Token) -> Event:
    if turn.now < token.resend_after:
        turn.reply_to_app(RequestOutcome.TOO_SOON, token.resend_after)
        return Event.NOTHING
    return Event.APP_ASKS_AGAIN if _app_may_have_code(turn) else Event.NOTHING


def _app_may_have_code(turn: Turn) -> bool:
    """Answer the app whether a code is texted: never against the person's wish."""
    limits, now = turn.limits, turn.now
    free_at = turn.policy.next_code_at(turn.web_limits)
    if turn.state is State.OPTED_OUT:
        turn.reply_to_app(RequestOutcome.OPTED_OUT)
    elif limits.locked_at(now):
        turn.reply_to_app(RequestOutcome.LOCKED, limits.locked_until)
    elif limits.refused_at(now):
        turn.reply_to_app(RequestOutcome.NOT_ME, limits.refused_until)
    elif free_at is not None and now < free_at:
        turn.reply_to_app(RequestOutcome.TOO_MANY_CODES, free_at)
    else:
        turn.reply_to_app(RequestOutcome.DONE)
        return True
    return False


def _perceive_typed(turn: Turn, token: Token, typed: str) -> Event:
    """Count a guess typed elsewhere, then compare it: never at the cost of the tries by text."""
    if turn.web_limits.locked_at(turn.now):
        turn.reply_to_app(RequestOutcome.TOO_MANY_GUESSES, turn.web_limits.locked_until)
        return Event.NOTHING
    guess = guess_in(typed, token.format)
    if guess is None:
        # It cannot be right, so it costs no try.
        turn.reply_to_app(RequestOutcome.WRONG, tries_left=_typing_left(turn, token), counted=False)
        return Event.NOTHING
    token = replace(token, guesses=token.guesses + 1)
    turn.put(token)
    wrong = turn.web_limits.wrong_guesses + 1
    turn.web_limits = replace(turn.web_limits, wrong_guesses=wrong)
    if turn.matches(guess, token):
        turn.reply_to_app(RequestOutcome.RIGHT)
        several = len(turn.live_tokens) > 1
        return Event.TYPED_RIGHT_OF_SEVERAL if several else Event.TYPED_RIGHT
    turn.reply_to_app(RequestOutcome.WRONG, tries_left=_typing_left(turn, token))
    spent = token.guesses >= turn.policy.attempts
    return Event.LAST_TYPED_WRONG if spent else Event.TYPED_WRONG


def _typing_left(turn: Turn, token: Token) -> int:
    return turn.policy.tries_left(turn.web_limits, token)


def _perceive_undeliverable(turn: Turn, token_id: str) -> Event:
    for token in turn.live_tokens:
        if token.id == token_id and token.verification is not None:
            turn.focus = token.verification
            return Event.CODE_UNDELIVERABLE
    return Event.NOTHING


def _without_codes(text: str) -> str:
    """Leave out of a wording whatever may be a code: none is ever stored."""
    masked = ("…" if _may_be_code(word) else word for word in text.split())
    return " ".join(masked)


def _may_be_code(word: str) -> bool:
    """Tell whether a word may hold a code, whatever stands between its characters."""
    return _MAY_BE_CODE.search("".join(filter(str.isalnum, visible_part(word)))) is not None
