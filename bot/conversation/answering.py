"""Chooses the reply: one that is true at the moment, or none if silence is better."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from bot.conversation.policy import COURTESY_PERIOD
from bot.conversation.replies import CODE_PLACEHOLDER, SEGMENT, Reply, compose
from bot.conversation.state import Alphabet, CodeDelivery
from bot.conversation.turn import Message
from bot.conversation.verification import Origin

if TYPE_CHECKING:
    from datetime import datetime

    from bot.conversation.turn import Turn

TEXT_LIFETIME = timedelta(minutes=15)
"""After this a text without a code is no longer sent."""
_MINUTE = timedelta(minutes=1)
_SECOND = timedelta(seconds=1)

_HINTS = frozenset({Reply.HINT, Reply.HINT_CODE})
_ANSWERS = frozenset(
    {Reply.STATUS, Reply.HELP, Reply.NOT_ME, Reply.NO_CODE, Reply.MISTYPED}
    # STOP and START always take effect, but alternating them must not get endless replies.
    | {Reply.STOPPED, Reply.WELCOME, Reply.REFERENCE_UNKNOWN, Reply.REFERENCE_SPENT}
)
_INVITING = frozenset(
    {Reply.STATUS, Reply.STATUS_FAILED, Reply.NO_CODE, Reply.EXPIRED, Reply.HINT, Reply.WELCOME}
    | {Reply.WAIT, Reply.CODE_SPENT}
)
"""Replies that suggest texting VERIFY or RESEND."""
_STATUS_REPLIES = {
    CodeDelivery.QUEUED: Reply.STATUS_QUEUED,
    CodeDelivery.SENT: Reply.STATUS_SENT,
    CodeDelivery.FAILED: Reply.STATUS_FAILED,
}


def write_reply(turn: Turn, reply: Reply) -> None:
    """Set the message to the person, unless silence is better."""
    if not _count_courtesy_reply(turn, reply):
        return
    chosen = _choose(turn, reply)
    if chosen is None:
        return
    token = turn.token if chosen is Reply.CODE else None
    body = _compose(turn, chosen)
    if token is not None and token.origin is Origin.FORM and turn.policy.form_host:
        bound_body = _compose(turn, Reply.CODE_FORM)
        longest = bound_body.replace(CODE_PLACEHOLDER, "0" * token.format.length)
        if len(longest) <= SEGMENT:
            chosen, body = Reply.CODE_FORM, bound_body
    send_by = token.expires_at if token else turn.now + TEXT_LIFETIME
    turn.message = Message(chosen, body, send_by, token)


def _compose(turn: Turn, reply: Reply) -> str:
    code_format = turn.code_format
    return compose(
        reply,
        app=turn.policy.app_name,
        support=turn.policy.support_contact,
        host=turn.policy.form_host,
        code_length=code_format.length,
        hexadecimal=code_format.alphabet is Alphabet.HEX,
        wait=_time_until(turn, turn.verify_works_at()),
        life=_code_time_left(turn),
        tries=turn.tries_left(),
        since=turn.conversation.verified_at,
    )


def _choose(turn: Turn, reply: Reply) -> Reply | None:
    """Return the reply that is true now; no reply suggests VERIFY while it is refused.

    A wait that was announced is repeated only for STATUS and START.
    """
    always_answered = reply in (Reply.STATUS, Reply.WAIT, Reply.WELCOME)
    token = turn.current_token
    failed = token is not None and token.text is CodeDelivery.FAILED
    if reply is Reply.STATUS:
        reply = _status(turn)
    if reply is Reply.WAIT_CODE and (failed or token is None):
        return Reply.WAIT
    if reply not in _INVITING or _time_until(turn, turn.verify_works_at()) <= timedelta():
        return reply
    if turn.limits.locked_at(turn.now):
        return Reply.STATUS_LOCKED
    if not always_answered and turn.limits.wait_announced_at(turn.now):
        return None
    turn.record_wait_notice()
    return Reply.WAIT


def _count_courtesy_reply(turn: Turn, reply: Reply) -> bool:
    """Count a courtesy reply; return whether it may be sent: a robot must not get them endlessly.

    Replies that lead to a verification are always sent.
    """
    before = turn.conversation
    if reply in _HINTS:
        hints = 0 if _is_long_ago(turn, before.hinted_at) else before.hints
        if hints >= turn.policy.hints_in_a_row:
            return False
        turn.update(hints=hints + 1, hinted_at=turn.now)
        return True
    if reply in _ANSWERS:
        answers = 0 if _is_long_ago(turn, before.answered_at) else before.answers
        if answers >= turn.policy.answers_in_a_row:
            return False
        turn.update(answers=answers + 1, answered_at=turn.now)
    if before.hints < turn.policy.hints_in_a_row:
        turn.update(hints=0)
    return True


def _is_long_ago(turn: Turn, last: datetime | None) -> bool:
    return last is None or not last <= turn.now < last + COURTESY_PERIOD


def _status(turn: Turn) -> Reply:
    token = turn.current_token
    if token is not None:
        return _STATUS_REPLIES[token.text]
    locked = turn.limits.locked_at(turn.now)
    verified = turn.conversation.verified_at is not None and not locked
    return Reply.STATUS_VERIFIED if verified else Reply.STATUS


def _code_time_left(turn: Turn) -> timedelta:
    """Return how long the code still works, rounded down."""
    selected = turn.live_token_of(turn.verification_id) if turn.verification_id else None
    token = selected or turn.current_token
    left = _time_until(turn, token.expires_at if token else None)
    return left - left % (_MINUTE if left >= _MINUTE else _SECOND)


def _time_until(turn: Turn, moment: datetime | None) -> timedelta:
    return moment - turn.now if moment else timedelta()
