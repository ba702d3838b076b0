"""Finds the event of an input by checking the facts.

Guards write nothing. The event of a wrong guess depends on the count after it, which the first
action of the transition saves.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from msgspec import Struct

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
from bot.conversation.policy import MAX_CLOCK_SKEW, NOT_ME_PERIOD
from bot.conversation.state import State
from bot.conversation.transitions import Event
from bot.conversation.verification import Origin, ReplyRule

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from bot.conversation.context import Context
    from bot.conversation.inputs import Input, ReferenceLookup
    from bot.conversation.intents import ParsedText
    from bot.conversation.state import Token

_MAX_WORDING_LENGTH = 64
_MAY_BE_CODE = re.compile(r"\d|[a-f]{4}|^[a-f]+$")

_EVENTS: Mapping[Intent, Event] = {
    Intent.STATUS: Event.STATUS,
    Intent.HELP: Event.HELP,
    Intent.NOT_ME: Event.NOT_ME,
    Intent.START: Event.START,
    Intent.MISTYPED: Event.GUESS_MISTYPED,
    Intent.REACTION: Event.NOT_FOR_US,
    Intent.THANKS: Event.NOT_FOR_US,
}
_EVENTS_AT_CARRIER: Mapping[AutoReply, Event] = {
    AutoReply.STOP: Event.STOPPED_AT_CARRIER,
    AutoReply.START: Event.STARTED_AT_CARRIER,
    AutoReply.OTHER: Event.ANSWERED_AT_CARRIER,
}


class Reading(Struct, frozen=True):
    """An event, with the parts of the input that its actions need.

    `verification` (its id) selects the token to act on; None selects the person's own. `origin` and
    `reply_rule` are those of a token to issue. `letters` came with a guess. `sent_at` is when the
    text was sent; None means now. `wording` is how the person opted out, without codes.
    """

    event: Event
    verification: str | None = None
    origin: Origin = Origin.PERSON
    reply_rule: ReplyRule = ReplyRule.CODE
    letters: str = ""
    sent_at: datetime | None = None
    wording: str = ""


_NOTHING = Reading(Event.NOTHING)


def read_time(context: Context) -> Reading:
    """Return the event that the passing of time alone causes."""
    locked = context.limits.locked_at(context.now)
    match context.state:
        case State.OPTED_OUT:
            return _NOTHING
        case State.LOCKED:
            return _NOTHING if locked else Reading(Event.LOCK_ENDED)
        case _ if locked:
            return Reading(Event.LOCKED_ELSEWHERE)
        case State.AWAITING_CODE if _has_expired(context):
            return Reading(Event.CODE_EXPIRED)
        case _:
            return _NOTHING


def _has_expired(context: Context) -> bool:
    unspent = [token for token in context.tokens if not token.spent]
    return not unspent or not all(map(context.is_live, unspent))


def read(context: Context, incoming: Input) -> Reading:
    """Return the event of an input."""
    match incoming:
        case TextReceived():
            return _read_text(context, incoming)
        case OptedOutAtCarrier(code):
            return Reading(Event.BLOCKED_AT_CARRIER, wording=code)
        case DeliveryFailed(token_id):
            return _read_delivery_failure(context, token_id)
        case TimePassed():
            return _NOTHING
        case CodeRequested(verification, origin, complete):
            event = _event_of_app_request(context, Event.APP_REQUEST)
            return Reading(event, verification, origin, ReplyRule.of(origin, complete))
        case _:
            return Reading(_event_of_app_input(context, incoming), incoming.verification)


def _read_text(context: Context, text: TextReceived) -> Reading:
    parsed = parse_text(text.text, context.code_format)
    stops = text.auto_reply is AutoReply.STOP or (
        text.auto_reply is None and parsed.intent is Intent.STOP
    )
    not_me = text.auto_reply is None and parsed.intent is Intent.NOT_ME
    if text.received_at and _is_outdated(context, text.received_at, stops=stops, not_me=not_me):
        return Reading(Event.OUTDATED)
    if text.auto_reply is None and not stops:
        return _read_intent(context, text, parsed)
    event = _EVENTS_AT_CARRIER[text.auto_reply] if text.auto_reply else Event.STOP
    wording = _without_codes(text.text)[:_MAX_WORDING_LENGTH] if stops else ""
    return Reading(event, sent_at=text.received_at, wording=wording)


def _is_outdated(context: Context, sent_at: datetime, *, stops: bool, not_me: bool) -> bool:
    """Return whether a later text, decided already, takes precedence over this one.

    Of a STOP and a START the later one counts; of two at the same time, the STOP. NOT ME refuses
    codes for its period, even those requested before it. A time further in the future than clocks
    may differ comes from a wrong clock and is ignored.
    """
    latest = context.now + MAX_CLOCK_SKEW
    conversation = context.conversation
    if stops:
        start = conversation.opted_in_at
        return start is not None and sent_at < start <= latest
    if not_me:
        return sent_at + NOT_ME_PERIOD <= context.now
    refused_until = context.limits.refused_until
    refused_at = refused_until - NOT_ME_PERIOD if refused_until else None
    earlier = (conversation.opted_out_at, refused_at)
    return any(last is not None and sent_at <= last <= latest for last in earlier)


def _read_intent(context: Context, text: TextReceived, parsed: ParsedText) -> Reading:
    if text.shape is Shape.GROUP:
        return Reading(Event.NOT_FOR_US)
    match parsed.intent:
        case Intent.VERIFY if parsed.reference:
            return _read_reference(context, text.reference)
        case Intent.VERIFY:
            return Reading(_event_of_request(context, context.own_token))
        case Intent.RESEND:
            return _read_resend(context)
        case Intent.GUESS if text.shape is Shape.PLAIN:
            return _read_guess(context, parsed.guess, parsed.letters)
        case intent:
            return Reading(_EVENTS.get(intent, Event.CHATTER), sent_at=text.received_at)


def _read_reference(context: Context, reference: ReferenceLookup | None) -> Reading:
    if reference is None:
        return Reading(Event.REFERENCE_UNKNOWN)
    token = _live_token_of(context, reference.verification) if reference.begun_here else None
    if token is None and not reference.available:
        return Reading(Event.REFERENCE_SPENT)
    event = _event_of_request(context, token)
    rule = ReplyRule.of(Origin.REFERENCE, reference.complete)
    return Reading(event, reference.verification, Origin.REFERENCE, rule)


def _read_resend(context: Context) -> Reading:
    token = context.current_token
    if token is None and not context.code_expired:
        return Reading(Event.RESEND_WITHOUT_CODE)
    return Reading(_event_of_request(context, token), token.verification if token else None)


def _event_of_request(context: Context, token: Token | None) -> Event:
    """Return the event of a request by text, for a new code or again for that of a live token."""
    if token is not None and context.now < token.resend_after:
        return Event.REQUEST_TOO_SOON
    free_at = context.policy.next_code_at(context.limits)
    if free_at is not None and context.now < free_at:
        announced = context.limits.wait_announced_at(context.now)
        return Event.REQUEST_TOO_OFTEN_AGAIN if announced else Event.REQUEST_TOO_OFTEN
    return Event.CODE_REQUEST if token is None else Event.CODE_REQUEST_AGAIN


def _read_guess(context: Context, guess: str, letters: str) -> Reading:
    """Return the event of a code, alone or with the letters of a request.

    A code alone is compared only with those that the person asked for by text; letters of no live
    request are compared with nothing, and cost a try all the same. While no live request has
    letters, two such letters are only a word, as in "123456 pm".
    """
    if letters and not any(t.reply_rule is ReplyRule.LETTERS for t in context.live_tokens):
        letters = ""
    if context.code_expired:
        return Reading(Event.GUESS_TOO_LATE)
    targets = [token for token in context.tokens if context.letters_for(token) == letters]
    if _matching(context, guess, [token for token in targets if token.used_at is not None]):
        return Reading(Event.GUESS_USED)
    compared = [token for token in targets if context.is_live(token)]
    if not compared and not letters:
        return Reading(Event.GUESS_WITHOUT_CODE)
    usable = [token for token in compared if token.guesses < context.policy.attempts]
    matching = _matching(context, guess, usable) if context.tries_left else []
    if matching:
        return Reading(Event.GUESS_RIGHT, matching[0].verification, letters=letters)
    event = _event_of_wrong_guess(context, compared)
    return Reading(
        event, compared[0].verification if letters and compared else None, letters=letters
    )


def _event_of_wrong_guess(context: Context, compared: Sequence[Token]) -> Event:
    """Return the event of a guess that is right for none of the tokens, as after it is counted."""
    attempts, own = context.policy.attempts, context.own_token
    own_spent = own in compared and own is not None and own.guesses + 1 >= attempts
    if not context.tries_left or context.limits.wrong_guesses + 1 >= attempts or own_spent:
        return Event.LAST_GUESS_WRONG
    spent = [token.guesses + 1 >= attempts for token in compared]
    return Event.GUESS_WRONG_CODES_SPENT if spent and all(spent) else Event.GUESS_WRONG


def _matching(context: Context, guess: str, tokens: Iterable[Token]) -> list[Token]:
    """Return the tokens that match; compare with all, so that the time reveals nothing."""
    bot_number, phone = context.conversation.bot_number, context.conversation.phone
    matches = context.keyring.matches
    return [token for token in tokens if matches(guess, token, bot_number, phone)]


def _event_of_app_request(context: Context, granted: Event) -> Event:
    if context.limits.refused_at(context.now):
        return Event.APP_REQUEST_AFTER_NOT_ME
    free_at = context.policy.next_code_at(context.web_limits)
    too_often = free_at is not None and context.now < free_at
    return Event.APP_REQUEST_TOO_OFTEN if too_often else granted


def _event_of_app_input(
    context: Context, incoming: ResendRequested | CodeSubmitted | Cancelled
) -> Event:
    token = _live_token_of(context, incoming.verification)
    if token is None:
        return Event.NOT_PENDING
    match incoming:
        case ResendRequested() if context.now < token.resend_after:
            return Event.APP_REQUEST_TOO_SOON
        case ResendRequested():
            return _event_of_app_request(context, Event.APP_REQUEST_AGAIN)
        case CodeSubmitted(_, code):
            return _event_of_submission(context, token, code)
        case Cancelled():
            return Event.APP_CANCELS


def _event_of_submission(context: Context, token: Token, typed: str) -> Event:
    """Return the event of a code submitted by an app or the form.

    It costs no try by text: a stranger must not be able to lock the person out.
    """
    if context.web_limits.locked_at(context.now):
        return Event.SUBMITTED_DURING_LOCK
    guess = guess_in(typed, token.format)
    if guess is None:
        return Event.SUBMITTED_MALFORMED  # this cannot be a code, so it costs no try
    if _matching(context, guess, [token]):
        return Event.SUBMITTED_RIGHT
    last = token.guesses + 1 >= context.policy.attempts
    return Event.LAST_SUBMITTED_WRONG if last else Event.SUBMITTED_WRONG


def _read_delivery_failure(context: Context, token_id: str) -> Reading:
    failed = next((token for token in context.live_tokens if token.id == token_id), None)
    # The sender decides many of these at once: facts that contradict each other must not stop it.
    if failed is None or failed.verification is None or context.state is not State.AWAITING_CODE:
        return _NOTHING
    return Reading(Event.CODE_UNDELIVERABLE, failed.verification)


def _live_token_of(context: Context, verification: str) -> Token | None:
    live = (token for token in context.live_tokens if token.verification == verification)
    return next(live, None)


def _without_codes(text: str) -> str:
    """Return a text without the words that may be codes, since no code is ever stored."""
    return " ".join("…" if _may_be_code(word) else word for word in text.split())


def _may_be_code(word: str) -> bool:
    """Return whether a word may contain a code, whatever separates its characters."""
    return _MAY_BE_CODE.search("".join(filter(str.isalnum, normalize_text(word)))) is not None
