"""Chooses the wording of a reply: one that is true at the moment, or silence if that is better."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from bot.conversation.policy import COURTESY_PERIOD
from bot.conversation.replies import (
    CODE_PLACEHOLDER,
    SEGMENT,
    Courtesy,
    Reply,
    compose,
    purposes,
)
from bot.conversation.state import Alphabet, CodeDelivery
from bot.conversation.verification import Origin, ReplyRule

if TYPE_CHECKING:
    from datetime import datetime

    from bot.conversation.context import Context
    from bot.conversation.state import Conversation, Token

TEXT_LIFETIME = timedelta(minutes=15)
"""After this a text without a code is no longer sent."""
_MINUTE = timedelta(minutes=1)
_SECOND = timedelta(seconds=1)

_STATUS_REPLIES = {
    CodeDelivery.QUEUED: Reply.STATUS_QUEUED,
    CodeDelivery.SENT: Reply.STATUS_SENT,
    CodeDelivery.FAILED: Reply.STATUS_FAILED,
}
_WAITS = (Reply.WAIT, Reply.WAIT_CODE)
_CODES = (Reply.CODE, Reply.CODE_TYPED)


class Message(Struct, frozen=True):
    """A text to send; the code of `token` replaces the placeholder in `body`.

    After `send_by` (UTC) the text must not be sent.
    """

    reply: Reply
    body: str
    send_by: datetime
    token: Token | None = None


def write_reply(
    context: Context, reply: Reply, verification: str | None
) -> tuple[Context, Message | None]:
    """Return the message to the person, if any, and the context after it.

    Courtesy replies are counted, and a wait that the message announces is recorded. A code is that
    of `verification` (its id), or the person's own for None.
    """
    selected = context.token_of(verification)
    wording = _choose(context, reply, selected)
    # Where to type a code is said once each time one is sent: that is limit enough.
    courtesy = None if wording is Reply.TYPE_IT else reply.courtesy
    free_at = _free_at(context, reply, verification)
    conversation = _count_courtesy(context, courtesy)
    if wording is None or conversation is None:
        return context, None
    context = replace(context, conversation=conversation)
    if wording is Reply.TYPE_IT:
        context = context.with_tokens(
            *(replace(each, explained=True) for each in context.live_tokens)
        )
    if wording in _WAITS:
        context = replace(context, limits=replace(context.limits, told_until=free_at))
    return context, _message(context, wording, selected, _time_until(context, free_at))


def _free_at(context: Context, reply: Reply, verification: str | None) -> datetime | None:
    """Return when what was refused works: VERIFY with its reference, or alone."""
    with_reference = reply is Reply.WAIT and verification is not None
    return context.code_by_text_at(Origin.REFERENCE) if with_reference else context.verify_works_at


def _message(context: Context, wording: Reply, selected: Token | None, wait: timedelta) -> Message:
    token = selected if wording in _CODES else None
    body = (
        _compose(context, wording, selected, wait)
        if token is None
        else _code(context, wording, token, wait)
    )
    if token is not None and token.origin is Origin.FORM and context.policy.form_host:
        bound_body = _compose(context, Reply.CODE_FORM, selected, wait)
        if _fits(bound_body, token):
            wording, body = Reply.CODE_FORM, bound_body
    send_by = token.expires_at if token else context.now + TEXT_LIFETIME
    return Message(wording, body, send_by, token)


def _code(context: Context, wording: Reply, token: Token, wait: timedelta) -> str:
    """Return a code text that says as much about the code's purpose as its segment holds."""
    body = ""
    for purpose in purposes(token.reference, token.label):
        body = _compose(context, wording, token, wait, purpose)
        if _fits(body, token):
            break
    return body


def _fits(body: str, token: Token) -> bool:
    return len(body.replace(CODE_PLACEHOLDER, "0" * token.format.length)) <= SEGMENT


def _compose(
    context: Context, wording: Reply, selected: Token | None, wait: timedelta, purpose: str = ""
) -> str:
    policy, code_format = context.policy, context.code_format
    is_live = selected is not None and context.is_live(selected)
    token = selected if is_live else context.current_token
    return compose(
        wording,
        app=policy.app_name,
        support=policy.support_contact,
        host=policy.form_host,
        code_length=code_format.length,
        hexadecimal=code_format.alphabet is Alphabet.HEX,
        wait=wait,
        refusal=_time_until(context, context.person.refused_until(Origin.APP)),
        life=_code_time_left(context, token),
        tries=context.tries_by_text(token),
        since=context.person.verified_at,
        purpose=purpose,
    )


def _choose(context: Context, reply: Reply, selected: Token | None) -> Reply | None:
    """Return the wording that is true now; none suggests VERIFY while it is refused.

    A wait that was announced is repeated only in reply to STATUS and START, and where to type a
    code is said once each time that one was sent.
    """
    wording = _wording(context, reply, selected)
    if wording is Reply.TYPE_IT:
        return None if all(token.explained for token in context.live_tokens) else wording
    if not wording.invites or _time_until(context, context.verify_works_at) <= timedelta():
        return wording
    if _is_locked(context):
        return Reply.STATUS_LOCKED
    known = context.limits.wait_announced_at(context.now)
    return Reply.WAIT if reply.repeats_wait or not known else None


def _wording(  # noqa: PLR0911 - one return for each wording
    context: Context, reply: Reply, selected: Token | None
) -> Reply:
    """Return the wording of a reply for the codes that are live and their delivery."""
    token = context.current_token
    match reply:
        case Reply.CODE if selected is not None and selected.reply_rule is not ReplyRule.CODE:
            return Reply.CODE_TYPED
        case Reply.STATUS if _is_locked(context):
            return reply
        case Reply.STATUS | Reply.NO_CODE | Reply.MISTYPED if token is None and context.live_tokens:
            return Reply.TYPE_IT
        case Reply.HINT if token is None and not all(
            live.explained for live in context.live_tokens
        ):
            return Reply.TYPE_IT
        case Reply.WRONG if any(not live.awaits_code_alone for live in context.live_tokens):
            return Reply.WRONG_TYPE_IT
        case Reply.HINT if token is not None:
            return Reply.HINT_CODE
        case Reply.WAIT if token is not None and token.text is not CodeDelivery.FAILED:
            return Reply.WAIT_CODE
        case Reply.STATUS:
            return _status(context, token)
        case _:
            return reply


def _status(context: Context, token: Token | None) -> Reply:
    if token is not None:
        return _STATUS_REPLIES[token.text]
    verified = context.person.verified_at is not None
    return Reply.STATUS_VERIFIED if verified and not _is_locked(context) else Reply.STATUS


def _count_courtesy(context: Context, courtesy: Courtesy | None) -> Conversation | None:
    """Count a reply; return None if it must not be sent: no robot may get replies endlessly.

    Replies that lead to a verification are always sent.
    """
    conversation, policy, now = context.conversation, context.policy, context.now
    hints = 0 if _is_long_ago(context, conversation.hinted_at) else conversation.hints
    if courtesy is Courtesy.HINT:
        spent = hints >= policy.hints_in_a_row
        return None if spent else replace(conversation, hints=hints + 1, hinted_at=now)
    if courtesy is Courtesy.ANSWER:
        answers = 0 if _is_long_ago(context, conversation.answered_at) else conversation.answers
        if answers >= policy.answers_in_a_row:
            return None
        conversation = replace(conversation, answers=answers + 1, answered_at=now)
    # Any other reply ends a row of hints, but not the pause after too many.
    paused = conversation.hints >= policy.hints_in_a_row
    return conversation if paused or not conversation.hints else replace(conversation, hints=0)


def _is_locked(context: Context) -> bool:
    return context.limits.locked_at(context.now)


def _is_long_ago(context: Context, last: datetime | None) -> bool:
    return last is None or not last <= context.now < last + COURTESY_PERIOD


def _code_time_left(context: Context, token: Token | None) -> timedelta:
    """Return how long the code still works, rounded down."""
    left = _time_until(context, token.expires_at if token else None)
    return left - left % (_MINUTE if left >= _MINUTE else _SECOND)


def _time_until(context: Context, moment: datetime | None) -> timedelta:
    return moment - context.now if moment else timedelta()
