"""Finds the event of an input, given the facts: every guard is decided here."""

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
from bot.conversation.intents import Intent, guess_in, normalize_text, parse_text
from bot.conversation.machine import Event
from bot.conversation.policy import MAX_CLOCK_SKEW, NOT_ME_PERIOD
from bot.conversation.state import State
from bot.conversation.verification import Origin, RequestOutcome

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bot.conversation.inputs import AppInput, Input, ReferenceLookup
    from bot.conversation.intents import ParsedText
    from bot.conversation.state import Token
    from bot.conversation.turn import Turn

_MAX_WORDING_LENGTH = 64
_MAY_BE_CODE = re.compile(r"\d|[a-f]{4}|^[a-f]+$")

_EVENTS: Mapping[Intent, Event] = {
    Intent.STATUS: Event.STATUS,
    Intent.HELP: Event.HELP,
    Intent.NOT_ME: Event.NOT_ME,
    Intent.START: Event.START,
    Intent.STOP: Event.STOP,
    Intent.REACTION: Event.NOT_FOR_US,
    Intent.THANKS: Event.NOT_FOR_US,
}


def read_time(turn: Turn) -> Event:
    """Return the event that the passing of time alone causes."""
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
    expired = any(not token.spent and not turn.is_live(token) for token in turn.tokens)
    return Event.ONE_CODE_EXPIRED if expired else Event.NOTHING


def read_follow_up(turn: Turn) -> Event:
    """Return the event that the transition just made causes."""
    awaiting = turn.state is State.AWAITING_CODE
    return Event.LAST_CODE_ENDED if awaiting and not turn.live_tokens else Event.NOTHING


def read_input(turn: Turn, incoming: Input) -> Event:
    """Return the event of an input; count a guess first, before it is compared."""
    match incoming:
        case TextReceived():
            return _read_text(turn, incoming)
        case OptedOutAtCarrier(code):
            turn.opt_out_wording = code
            # A refusal after a STOP results from that STOP. It is not a later opt-out, so it must
            # not make a START outdated.
            opted_out = turn.state is State.OPTED_OUT
            return Event.NOTHING if opted_out else Event.STOPPED_AT_CARRIER
        case DeliveryFailed(token_id):
            return _read_delivery_failure(turn, token_id)
        case TimePassed():
            return Event.NOTHING
        case _:
            return _read_app_input(turn, incoming)


def _read_text(turn: Turn, incoming: TextReceived) -> Event:
    parsed = parse_text(incoming.text, turn.code_format)
    stops = incoming.auto_reply is AutoReply.STOP or (
        incoming.auto_reply is None and parsed.intent is Intent.STOP
    )
    if incoming.received_at is not None:
        turn.received_at = incoming.received_at
        not_me = incoming.auto_reply is None and parsed.intent is Intent.NOT_ME
        if _is_outdated(turn, stops=stops, not_me=not_me):
            return Event.OUTDATED
    if stops:
        turn.opt_out_wording = _without_codes(incoming.text)[:_MAX_WORDING_LENGTH]
    match incoming.auto_reply:
        case AutoReply.STOP:
            return Event.STOPPED_AT_CARRIER
        case AutoReply.START:
            return Event.STARTED_AT_CARRIER
        case AutoReply.OTHER:
            return Event.ANSWERED_AT_CARRIER
        case None:
            return _read_intent(turn, incoming, parsed)


def _is_outdated(turn: Turn, *, stops: bool, not_me: bool) -> bool:
    """Return whether a later text, decided already, takes precedence over this one.

    Of a STOP and a START the later one counts; of two at the same time, the STOP. NOT ME refuses
    codes for its period, even those requested before it. A time further in the future than clocks
    may differ comes from a wrong clock and is ignored.
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


def _read_intent(  # noqa: PLR0911 - one return for each intent
    turn: Turn, incoming: TextReceived, parsed: ParsedText
) -> Event:
    if incoming.shape is Shape.GROUP and parsed.intent is not Intent.STOP:
        return Event.NOT_FOR_US
    match parsed.intent:
        case Intent.VERIFY if parsed.reference:
            return _read_reference(turn, incoming.reference)
        case Intent.VERIFY:
            return _read_code_request(turn, turn.own_token)
        case Intent.RESEND:
            return _read_resend(turn)
        case Intent.GUESS if incoming.shape is Shape.PLAIN:
            return _read_guess(turn, parsed.guess)
        case Intent.MISTYPED if turn.state is State.AWAITING_CODE:
            return Event.GUESS_MISTYPED
        case intent:
            return _EVENTS.get(intent, Event.CHATTER)


def _read_reference(turn: Turn, reference: ReferenceLookup | None) -> Event:
    if turn.state in (State.LOCKED, State.OPTED_OUT):
        return Event.CODE_REQUEST
    if reference is None:
        return Event.REFERENCE_UNKNOWN
    token = turn.live_token_of(reference.verification) if reference.begun_here else None
    if token is None and not reference.available:
        return Event.REFERENCE_SPENT
    turn.verification_id, turn.origin = reference.verification, Origin.REFERENCE
    return _read_code_request(turn, token)


def _read_resend(turn: Turn) -> Event:
    without_code = turn.state in (State.IDLE, State.VERIFIED)
    if without_code and not turn.code_expired:
        return Event.RESEND_WITHOUT_CODE
    token = turn.current_token
    if token is not None:
        turn.verification_id = token.verification
    return _read_code_request(turn, token)


def _read_code_request(turn: Turn, token: Token | None) -> Event:
    if turn.state in (State.LOCKED, State.OPTED_OUT):
        return Event.CODE_REQUEST
    if token is not None and turn.now < token.resend_after:
        return Event.REQUEST_TOO_SOON
    free_at = turn.policy.next_code_at(turn.limits)
    if free_at is not None and turn.now < free_at:
        announced = turn.limits.wait_announced_at(turn.now)
        return Event.REQUEST_TOO_OFTEN_AGAIN if announced else Event.REQUEST_TOO_OFTEN
    return Event.CODE_REQUEST if token is None else Event.CODE_REQUEST_AGAIN


def _read_guess(turn: Turn, guess: str) -> Event:
    if turn.code_expired:
        return Event.GUESS_TOO_LATE
    used = [token for token in turn.tokens if token.used_at is not None]
    if _matching(turn, guess, used):
        return Event.GUESS_USED
    if turn.state is not State.AWAITING_CODE:
        return Event.GUESS_WITHOUT_CODE
    return _compare(turn, guess) if turn.tries_left() else Event.LAST_GUESS_WRONG


def _compare(turn: Turn, guess: str) -> Event:
    """Count a guess for the phone and every live token, then compare it with their codes."""
    turn.limits = replace(turn.limits, wrong_guesses=turn.limits.wrong_guesses + 1)
    for token in turn.live_tokens:
        turn.put_token(replace(token, guesses=token.guesses + 1))
    matching = _matching(turn, guess, turn.live_tokens)
    if matching:
        turn.verification_id = matching[0].verification
        others = [token for token in turn.live_tokens if token is not matching[0]]
        # For the other tokens this was a wrong guess, and maybe the last one they allow.
        several = any(token.guesses < turn.policy.attempts for token in others)
        return Event.GUESS_RIGHT_OF_SEVERAL if several else Event.GUESS_RIGHT
    if not turn.tries_left():
        return Event.LAST_GUESS_WRONG
    spent = all(token.guesses >= turn.policy.attempts for token in turn.live_tokens)
    return Event.GUESS_WRONG_CODES_SPENT if spent else Event.GUESS_WRONG


def _matching(turn: Turn, guess: str, tokens: Sequence[Token]) -> list[Token]:
    """Return the tokens that match; compare with all, so that the time reveals nothing."""
    return [token for token in tokens if turn.matches(guess, token)]


def _read_app_input(turn: Turn, incoming: AppInput) -> Event:
    turn.verification_id, turn.by_app = incoming.verification, True
    if isinstance(incoming, CodeRequested):
        turn.origin = incoming.origin
        return Event.APP_REQUEST if _may_send_code_for_app(turn) else Event.NOTHING
    token = turn.live_token_of(incoming.verification)
    if token is None:
        turn.reply_to_app(RequestOutcome.NOT_PENDING)
        return Event.NOTHING
    match incoming:
        case ResendRequested():
            return _read_app_resend(turn, token)
        case CodeSubmitted():
            return _read_submission(turn, token, incoming.code)
        case Cancelled():
            turn.reply_to_app(RequestOutcome.DONE)
            return Event.APP_CANCELS


def _read_app_resend(turn: Turn, token: Token) -> Event:
    if turn.now < token.resend_after:
        turn.reply_to_app(RequestOutcome.TOO_SOON, token.resend_after)
        return Event.NOTHING
    return Event.APP_REQUEST_AGAIN if _may_send_code_for_app(turn) else Event.NOTHING


def _may_send_code_for_app(turn: Turn) -> bool:
    """Set the answer to a request by an app or the form, and return whether to text a code."""
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


def _read_submission(turn: Turn, token: Token, typed: str) -> Event:
    """Count a code submitted by an app or the form, then compare it.

    It costs no try by text: a stranger must not be able to lock the person out.
    """
    if turn.web_limits.locked_at(turn.now):
        turn.reply_to_app(RequestOutcome.TOO_MANY_GUESSES, turn.web_limits.locked_until)
        return Event.NOTHING
    guess = guess_in(typed, token.format)
    if guess is None:
        # This cannot be a code, so it costs no try.
        tries_left = _submissions_left(turn, token)
        turn.reply_to_app(RequestOutcome.WRONG, tries_left=tries_left, counted=False)
        return Event.NOTHING
    token = replace(token, guesses=token.guesses + 1)
    turn.put_token(token)
    wrong_guesses = turn.web_limits.wrong_guesses + 1
    turn.web_limits = replace(turn.web_limits, wrong_guesses=wrong_guesses)
    if turn.matches(guess, token):
        turn.reply_to_app(RequestOutcome.RIGHT)
        several = len(turn.live_tokens) > 1
        return Event.SUBMITTED_RIGHT_OF_SEVERAL if several else Event.SUBMITTED_RIGHT
    turn.reply_to_app(RequestOutcome.WRONG, tries_left=_submissions_left(turn, token))
    spent = token.guesses >= turn.policy.attempts
    return Event.LAST_SUBMITTED_WRONG if spent else Event.SUBMITTED_WRONG


def _submissions_left(turn: Turn, token: Token) -> int:
    return turn.policy.tries_left(turn.web_limits, token)


def _read_delivery_failure(turn: Turn, token_id: str) -> Event:
    for token in turn.live_tokens:
        if token.id == token_id and token.verification is not None:
            turn.verification_id = token.verification
            return Event.CODE_UNDELIVERABLE
    return Event.NOTHING


def _without_codes(text: str) -> str:
    """Return a text without the words that may be codes, since no code is ever stored."""
    return " ".join("…" if _may_be_code(word) else word for word in text.split())


def _may_be_code(word: str) -> bool:
    """Return whether a word may contain a code, whatever separates its characters."""
    return _MAY_BE_CODE.search("".join(filter(str.isalnum, normalize_text(word)))) is not None
