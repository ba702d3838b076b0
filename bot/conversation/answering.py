"""Which text is answered: the one that is true now, and none where silence is better."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from bot.conversation.policy import COURTESY_SILENCE, MAX_ANSWERS_IN_A_ROW, MAX_HINTS_IN_A_ROW
from bot.conversation.replies import CODE_PLACEHOLDER, SEGMENT, Reply, compose
from bot.conversation.state import Alphabet, CodeDelivery
from bot.conversation.turn import Message
from bot.conversation.verification import Origin

if TYPE_CHECKING:
    from datetime import datetime

    from bot.conversation.turn import Turn

TEXT_LIFETIME = timedelta(minutes=15)
"""After this a text that carries no code is not worth sending any more."""
_MINUTE = timedelta(minutes=1)
_SECOND = timedelta(seconds=1)

_HINTS = frozenset({Reply.HINT, Reply.HINT_CODE})
_ANSWERS = frozenset(
    {Reply.STATUS, Reply.HELP, Reply.NOT_ME, Reply.NO_CODE, Reply.MISTYPED}
    # STOP and START are obeyed without end, but who cycles through them is not answered for ever.
    | {Reply.STOPPED, Reply.WELCOME, Reply.REFERENCE_UNKNOWN, Reply.REFERENCE_SPENT}
)
_INVITING = frozenset(
    {Reply.STATUS, Reply.STATUS_FAILED, Reply.NO_CODE, Reply.EXPIRED, Reply.HINT, Reply.WELCOME}
    | {Reply.WAIT, Reply.CODE_SPENT}
)
"""Texts that say: text VERIFY, or RESEND."""
_STATUS_OF = {
    CodeDelivery.QUEUED: Reply.STATUS_QUEUED,
    CodeDelivery.SENT: Reply.STATUS_SENT,
    CodeDelivery.FAILED: Reply.STATUS_FAILED,
}


def say(turn: Turn, reply: Reply) -> None:
    """Answer the person, if that is to be."""
    if not _within_courtesy(turn, reply):
        return
    told = _true_now(turn, reply)
    if told is None:
        return
    token = turn.token if told is Reply.CODE else None
    body = _written(turn, told)
    if token is not None and token.origin is Origin.FORM and turn.policy.form_host:
        bound = _written(turn, Reply.CODE_FORM)
        fits = len(bound.replace(CODE_PLACEHOLDER, "0" * token.format.length)) <= SEGMENT
        told, body = (Reply.CODE_FORM, bound) if fits else (told, body)
    send_by = token.expires_at if token else turn.now + TEXT_LIFETIME
    turn.message = Message(told, body, send_by, token)


def _written(turn: Turn, reply: Reply) -> str:
    code_format = turn.code_format
    return compose(
        reply,
        app=turn.policy.app_name,
        support=turn.policy.support_contact,
        host=turn.policy.form_host,
        code_length=code_format.length,
        hexadecimal=code_format.alphabet is Alphabet.HEX,
        wait=_until(turn, turn.verify_works_at()),
        life=_life(turn),
        tries=turn.tries_left(),
        since=turn.conversation.verified_at,
    )


def _true_now(turn: Turn, reply: Reply) -> Reply | None:
    """Choose the text that is true: none invites to what would be refused, or was already."""
    asked = reply in (Reply.STATUS, Reply.WAIT, Reply.WELCOME)
    token = turn.current_token
    failed = token is not None and token.text is CodeDelivery.FAILED
    if reply is Reply.STATUS:
        reply = _status(turn)
    if reply is Reply.WAIT_CODE and (failed or token is None):
        return Reply.WAIT
    if reply not in _INVITING or _until(turn, turn.verify_works_at()) <= timedelta():
        return reply
    if turn.limits.locked_at(turn.now):
        return Reply.STATUS_LOCKED
    told_until = turn.limits.told_until
    if not asked and told_until is not None and turn.now < told_until:
        return None
    turn.remember_wait_told()
    return Reply.WAIT


def _within_courtesy(turn: Turn, reply: Reply) -> bool:
    """Keep robots from talking to us for ever; what moves things forward is never held back."""
    said = turn.conversation
    if reply in _HINTS:
        hints = 0 if _long_ago(turn, said.hinted_at) else said.hints
        if hints >= MAX_HINTS_IN_A_ROW:
            return False
        turn.keep(hints=hints + 1, hinted_at=turn.now)
        return True
    if reply in _ANSWERS:
        answers = 0 if _long_ago(turn, said.answered_at) else said.answers
        if answers >= MAX_ANSWERS_IN_A_ROW:
            return False
        turn.keep(answers=answers + 1, answered_at=turn.now)
    if said.hints < MAX_HINTS_IN_A_ROW:
        turn.keep(hints=0)
    return True


def _long_ago(turn: Turn, last: datetime | None) -> bool:
    return last is None or not last <= turn.now < last + COURTESY_SILENCE


def _status(turn: Turn) -> Reply:
    token = turn.current_token
    if token is not None:
        return _STATUS_OF[token.text]
    locked = turn.limits.locked_at(turn.now)
    verified = turn.conversation.verified_at is not None and not locked
    return Reply.STATUS_VERIFIED if verified else Reply.STATUS


def _life(turn: Turn) -> timedelta:
    """Tell what is left of the code's life, never more than there is."""
    token = (turn.focus and turn.live_token_of(turn.focus)) or turn.current_token
    left = _until(turn, token.expires_at if token else None)
    return left - left % (_MINUTE if left >= _MINUTE else _SECOND)


def _until(turn: Turn, moment: datetime | None) -> timedelta:
    return moment - turn.now if moment else timedelta()
