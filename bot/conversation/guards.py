"""Finds the event of an input by checking the facts.

Guards write nothing. The event of a wrong guess depends on the count after it, which the first
action of the transition saves.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from bot.conversation.inputs import (
    AutoReply,
    Cancelled,
    CodeRequested,
    CodeSubmitted,
    DeliveryFailed,
    NotMeElsewhere,
    OptedOutAtCarrier,
    ResendRequested,
    Shape,
    TextReceived,
    TimePassed,
)
from bot.conversation.intents import Intent, guess_in, normalize_text, parse_text
from bot.conversation.limits import MAX_CLOCK_SKEW
from bot.conversation.person import NOT_ME_REACH
from bot.conversation.state import State
from bot.conversation.transitions import Event
from bot.conversation.verification import Origin, ReplyRule

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from bot.conversation.context import Context
    from bot.conversation.inputs import Input, ReferenceLookup
    from bot.conversation.intents import ParsedText
    from bot.conversation.state import ChannelLimits, Token

_MAX_WORDING_LENGTH = 64
_MAY_BE_CODE = re.compile(r"\d|[a-f]{4}|^[a-f]+$")

_EVENTS: Mapping[Intent, Event] = {
    Intent.STATUS: Event.STATUS,
    Intent.HELP: Event.HELP,
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

    `verification` (its id) selects the token to act on; None selects the person's own. `origin` is
    that of the requested code; `reply_rule`, `reference` and `label` are those of a token to issue.
    `compared` are the tokens (their ids) with which a guess is compared. `sent_at` is when the text
    was sent; None means now. `wording` is how the person opted out, without codes.
    """

    event: Event
    verification: str | None = None
    origin: Origin = Origin.PERSON
    reply_rule: ReplyRule = ReplyRule.CODE
    compared: tuple[str, ...] = ()
    sent_at: datetime | None = None
    wording: str = ""
    reference: str = ""
    label: str = ""


_NOTHING = Reading(Event.NOTHING)
_NOT_ME_ELSEWHERE = Reading(Event.NOT_ME_ELSEWHERE)


def read_time(context: Context) -> Reading:  # noqa: PLR0911 - one for each state
    """Return the event that the passing of time, or an input at another number, causes."""
    locked = context.limits.locked_at(context.now)
    opted_out = context.person.opted_out
    match context.state:
        case State.OPTED_OUT:
            is_in = not opted_out and context.conversation.blocked_at is None
            return Reading(Event.OPTED_IN_ELSEWHERE) if is_in else _NOTHING
        case _ if opted_out:
            return Reading(Event.OPTED_OUT_ELSEWHERE)
        case State.LOCKED if not locked:
            return Reading(Event.LOCK_ENDED)
        case State.LOCKED:
            return Reading(Event.CODE_EXPIRED) if _any_expired(context) else _NOTHING
        case _ if locked:
            return Reading(Event.LOCKED_ELSEWHERE)
        case State.AWAITING_CODE if _has_expired(context):
            return Reading(Event.CODE_EXPIRED)
        case _:
            return _NOTHING


def _has_expired(context: Context) -> bool:
    return all(token.spent for token in context.tokens) or _any_expired(context)


def _any_expired(context: Context) -> bool:
    return not all(context.is_live(token) for token in context.tokens if not token.spent)


def read(context: Context, incoming: Input) -> Reading:  # noqa: PLR0911 - one for each input
    """Return the event of an input."""
    match incoming:
        case TextReceived():
            return _read_text(context, incoming)
        case OptedOutAtCarrier(code):
            alone = context.person.has_opted_in
            event = Event.NUMBER_BLOCKED if alone else Event.BLOCKED_AT_CARRIER
            return Reading(event, wording=code)
        case DeliveryFailed(token_id):
            return _read_delivery_failure(context, token_id)
        case TimePassed():
            return _NOTHING
        case NotMeElsewhere():
            return _NOT_ME_ELSEWHERE
        case CodeRequested(verification, origin, complete):
            event = _event_of_app_request(context, origin, Event.APP_REQUEST)
            return Reading(event, verification, origin, ReplyRule.of(origin, complete))
        case CodeSubmitted():
            return _read_submission(context, incoming)
        case _:
            return _read_app_input(context, incoming)


def _read_text(context: Context, text: TextReceived) -> Reading:
    parsed = _parse(context, text.text)
    stops = text.auto_reply is AutoReply.STOP or (
        text.auto_reply is None and parsed.intent is Intent.STOP
    )
    not_me = text.auto_reply is None and parsed.intent is Intent.NOT_ME
    if text.received_at and _is_outdated(context, text.received_at, stops=stops, not_me=not_me):
        return Reading(Event.OUTDATED)
    if text.auto_reply is None and not stops:
        return _read_intent(context, text, parsed)
    event = _EVENTS_AT_CARRIER[text.auto_reply] if text.auto_reply else Event.STOP
    if stops and context.state is State.OPTED_OUT and not context.person.opted_out:
        event = Event.STOP_WHILE_BLOCKED
    wording = _without_codes(text.text)[:_MAX_WORDING_LENGTH] if stops else ""
    return Reading(event, sent_at=text.received_at, wording=wording)


def _parse(context: Context, text: str) -> ParsedText:
    """Parse a text for each format that a code in it may have; the first code found counts."""
    parsed = [parse_text(text, code_format) for code_format in context.code_formats]
    return next((each for each in parsed if each.intent is Intent.GUESS), parsed[0])


def _is_outdated(context: Context, sent_at: datetime, *, stops: bool, not_me: bool) -> bool:
    """Return whether a later text, decided already, takes precedence over this one.

    Of a STOP and a START the later one counts; of two at the same time, the STOP. NOT ME counts for
    a day, even against codes requested later, but not against a success of a later VERIFY. A time
    further in the future than clocks may differ comes from a wrong clock and is ignored.
    """
    latest = context.now + MAX_CLOCK_SKEW
    person = context.person
    if stops or not_me:
        later = person.opted_in_at if stops else person.verified_alone_at
        too_late = not stops and sent_at + NOT_ME_REACH <= context.now
        return too_late or (later is not None and sent_at < later <= latest)
    earlier = (person.opted_out_at, person.not_me_at)
    return any(last is not None and sent_at <= last <= latest for last in earlier)


def _read_intent(  # noqa: PLR0911 - one return for each intent
    context: Context, text: TextReceived, parsed: ParsedText
) -> Reading:
    if text.shape is Shape.GROUP:
        return Reading(Event.NOT_FOR_US)
    match parsed.intent:
        case Intent.VERIFY if parsed.reference:
            return _read_reference(context, text.reference)
        case Intent.VERIFY:
            return Reading(_event_of_request(context, context.own_token, Origin.PERSON))
        case Intent.NOT_ME:
            return _read_not_me(context, text.received_at)
        case Intent.RESEND:
            return _read_resend(context)
        case Intent.GUESS if text.shape is Shape.PLAIN:
            reading = _read_guess(context, parsed.guess, parsed.letters)
            return replace(reading, sent_at=text.received_at)
        case intent:
            return Reading(_EVENTS.get(intent, Event.CHATTER), sent_at=text.received_at)


def _read_not_me(context: Context, sent_at: datetime | None) -> Reading:
    """Return the event of a NOT ME: it acts on codes and successes of the last day.

    A code that an earlier NOT ME has ended already does not count again, so that nobody refuses
    codes for longer by repeating it.
    """
    since = (sent_at or context.now) - NOT_ME_REACH
    person = context.person
    codes_since = max(since, person.cancelled_at or since)
    succeeded = person.verified_at is not None and person.verified_at > since
    acts = succeeded or context.live_tokens or context.code_sent_after(codes_since)
    event = Event.NOT_ME if acts else Event.NOT_ME_WITHOUT_CODE
    return Reading(event, sent_at=sent_at)


def _read_reference(context: Context, reference: ReferenceLookup | None) -> Reading:
    if reference is None:
        return Reading(Event.REFERENCE_UNKNOWN)
    token = _live_token_of(context, reference.verification) if reference.begun_here else None
    if token is None and not reference.available:
        return Reading(Event.REFERENCE_SPENT)
    event = _event_of_request(context, token, Origin.REFERENCE)
    rule = ReplyRule.of(Origin.REFERENCE, reference.complete)
    return Reading(
        event,
        reference.verification,
        Origin.REFERENCE,
        rule,
        reference=reference.reference,
        label=reference.label,
    )


def _read_resend(context: Context) -> Reading:
    token = context.current_token
    if token is None and not context.code_expired:
        return Reading(Event.RESEND_WITHOUT_CODE)
    origin = token.origin if token else Origin.PERSON
    event = _event_of_request(context, token, origin)
    return Reading(event, token.verification if token else None)


def _event_of_request(context: Context, token: Token | None, origin: Origin) -> Event:
    """Return the event of a request by text, for a new code or again for that of a live token."""
    if token is not None and context.now < token.resend_after:
        return Event.REQUEST_TOO_SOON
    free_at = context.code_by_text_at(origin)
    if free_at is not None and context.now < free_at:
        announced = context.limits.wait_announced_at(context.now)
        return Event.REQUEST_TOO_OFTEN_AGAIN if announced else Event.REQUEST_TOO_OFTEN
    return Event.CODE_REQUEST if token is None else Event.CODE_REQUEST_AGAIN


def _read_guess(context: Context, guess: str, letters: str) -> Reading:
    """Return the event of a code, alone or with the letters of a request.

    A code alone is compared only with those that the person asked for by text; letters of no live
    request are compared with nothing, and cost a try all the same. While no live request has
    letters, two such letters are only a word, as in "123456 pm". During a lock nothing is compared.
    """
    if context.state is State.LOCKED:
        return Reading(Event.GUESS_WITHOUT_CODE)
    if letters and not any(t.reply_rule is ReplyRule.LETTERS for t in context.live_tokens):
        letters = ""
    if context.code_expired:
        return Reading(Event.GUESS_TOO_LATE)
    targets = [token for token in context.tokens if context.letters_for(token) == letters]
    if _matching(context, guess, [token for token in targets if token.used_at is not None]):
        return Reading(Event.GUESS_USED)
    compared = context.tokens_for_reply(letters, len(guess))
    if not compared and not letters:
        of_other_length = any(map(context.is_live, targets))
        return Reading(Event.GUESS_MISTYPED if of_other_length else Event.GUESS_WITHOUT_CODE)
    usable = [token for token in compared if token.guesses < context.policy.attempts]
    matching = _matching(context, guess, usable) if context.tries_left else []
    ids = tuple(token.id for token in compared)
    if matching:
        return Reading(Event.GUESS_RIGHT, matching[0].verification, compared=ids)
    event = _event_of_wrong_guess(context, compared)
    return Reading(event, compared[0].verification if letters and compared else None, compared=ids)


def _event_of_wrong_guess(context: Context, compared: Sequence[Token]) -> Event:
    """Return the event of a guess that is right for none of the tokens, as after it is counted."""
    policy, limits, own = context.policy, context.limits, context.own_token
    own_spent = own in compared and own is not None and own.guesses + 1 >= policy.attempts
    last = limits.wrong_guesses + 1 >= policy.attempts
    closes = limits.failures + 1 >= policy.failures_to_close
    if not context.tries_left or last or own_spent or closes:
        return Event.LAST_GUESS_WRONG
    spent = [
        token.guesses + 1 >= policy.attempts
        or (token.by_text and _grows_after(context, limits, token, len(compared)))
        for token in compared
    ]
    return Event.GUESS_WRONG_CODES_SPENT if spent and all(spent) else Event.GUESS_WRONG


def _grows_after(context: Context, limits: ChannelLimits, token: Token, wrong: int) -> bool:
    """Return whether a token is too short after so many more wrong comparisons in a channel."""
    left = context.comparisons_left(limits, token)
    return left is not None and left <= wrong


def _matching(context: Context, guess: str, tokens: Iterable[Token]) -> list[Token]:
    """Return the tokens that match; compare with all, so that the time reveals nothing."""
    bot_number, phone = context.conversation.bot_number, context.conversation.phone
    matches = context.keyring.matches
    return [token for token in tokens if matches(guess, token, bot_number, phone)]


def _event_of_app_request(context: Context, origin: Origin, granted: Event) -> Event:
    if context.person.refuses(origin, context.now):
        return Event.APP_REQUEST_AFTER_NOT_ME
    if context.channel_closed:
        return Event.APP_CLOSED
    free_at = context.policy.next_code_at(context.limits, context.class_of_channel)
    too_often = free_at is not None and context.now < free_at
    return Event.APP_REQUEST_TOO_OFTEN if too_often else granted


def _read_app_input(context: Context, incoming: ResendRequested | Cancelled) -> Reading:
    token = _live_token_of(context, incoming.verification)
    if token is None:
        return Reading(Event.NOT_PENDING, incoming.verification)
    event = _event_of_app_input(context, token, incoming)
    return Reading(event, incoming.verification, token.origin)


def _event_of_app_input(
    context: Context, token: Token, incoming: ResendRequested | Cancelled
) -> Event:
    match incoming:
        case ResendRequested() if context.now < token.resend_after:
            return Event.APP_REQUEST_TOO_SOON
        case ResendRequested():
            return _event_of_app_request(context, token.origin, Event.APP_REQUEST_AGAIN)
        case Cancelled():
            return Event.APP_CANCELS


def _read_submission(context: Context, incoming: CodeSubmitted) -> Reading:
    """Return the event of a code submitted by an app or the form.

    It costs no try by text: a stranger must not be able to lock the person out.
    """
    token = _live_token_of(context, incoming.verification)
    if token is None:
        return Reading(Event.NOT_PENDING, incoming.verification)
    if context.channel_closed:
        return Reading(Event.APP_CLOSED, incoming.verification)
    if context.channel_limits.locked_at(context.now):
        return Reading(Event.SUBMITTED_DURING_LOCK, incoming.verification)
    guess = guess_in(incoming.code, token.format)
    if guess is None:  # this cannot be a code, so it costs no try
        return Reading(Event.SUBMITTED_MALFORMED, incoming.verification)
    compared = [token] if _is_long_enough(context, token) else []
    ids = tuple(each.id for each in compared)
    if _matching(context, guess, compared):
        return Reading(Event.SUBMITTED_RIGHT, incoming.verification, compared=ids)
    last = token.guesses + 1 >= context.policy.attempts or any(
        _grows_after(context, each, token, 1) for each in context.limits_of_typing(token)
    )
    event = Event.LAST_SUBMITTED_WRONG if last or not compared else Event.SUBMITTED_WRONG
    return Reading(event, incoming.verification, compared=ids)


def _is_long_enough(context: Context, token: Token) -> bool:
    """Return whether a code may be compared with one typed in the input's channel.

    The code of another app may be too short for this one. One that was asked for by text grows with
    texts alone.
    """
    limits = context.limits if token.by_text else context.channel_limits
    return token.format.length >= context.least_length(limits)


def _read_delivery_failure(context: Context, token_id: str) -> Reading:
    failed = next((token for token in context.live_tokens if token.id == token_id), None)
    # The sender decides many of these at once: facts that contradict each other must not stop it.
    has_codes = context.state in (State.AWAITING_CODE, State.LOCKED)
    if failed is None or failed.verification is None or not has_codes:
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
