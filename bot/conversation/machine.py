"""The states of a conversation and the table of every move: `(state, event) -> move`.

The table is the machine: what is not in it does not happen, and every pair that is not in it
stands in `IGNORED`. `decision` perceives the events.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from bot.conversation.replies import Reply
from bot.conversation.state import State

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Event(StrEnum):
    """What has happened, with every guard decided, so that state and event fix the move."""

    CODE_ASKED = "asks for a code"
    CODE_ASKED_AGAIN = "asks again"
    ASKED_TOO_SOON = "asks again within the cooldown"
    ASKED_TOO_OFTEN = "asks beyond the limit"
    ASKED_TOO_OFTEN_AGAIN = "asks beyond the limit, was told"
    RESEND_WITHOUT_CODE = "asks again, no code lives"
    GUESS_RIGHT = "right code"
    GUESS_WRONG = "wrong code"
    LAST_GUESS_WRONG = "wrong code, last try"
    GUESS_TOO_LATE = "code after its expiry"
    GUESS_WITHOUT_CODE = "code, none lives"
    GUESS_USED = "used code"
    GUESS_MISTYPED = "code of a wrong length"
    STATUS = "STATUS"
    HELP = "HELP"
    NOT_ME = "NOT ME"
    START = "START"
    STOP = "STOP"
    CHATTER = "anything else"
    NOT_FOR_US = "a reaction, thanks or a group message"
    ANSWERED = "HELP or other, answered by the carrier"
    STARTED_AT_CARRIER = "START, answered by the carrier"
    STOPPED_AT_CARRIER = "STOP, answered by the carrier"
    CODE_EXPIRED = "the code expires"
    LOCK_ENDED = "the lock ends"
    LOCKED_ELSEWHERE = "locked at another number of the bot"


class Action(StrEnum):
    """What a move does besides changing the state and replying."""

    ISSUE_CODE = "issue a code"
    REPEAT_CODE = "send the code again"
    END_CODE = "end the code"
    RECORD_SUCCESS = "record the success"
    LOCK = "lock the phone"
    REFUSE_CODES = "refuse codes for an hour"
    REMEMBER_WAIT_TOLD = "remember that the wait was told"
    CLEAR_COOLDOWN = "clear the cooldown"
    OPT_OUT = "record the opt-out, cancel what is queued"


@dataclass(frozen=True, slots=True)
class Move:
    """Where an event leads, what it does on the way, and what is answered."""

    to: State
    actions: tuple[Action, ...] = ()
    reply: Reply | None = None


def _moves(
    states: Iterable[State],
    event: Event,
    *actions: Action,
    to: State | None = None,
    reply: Reply | None = None,
) -> dict[tuple[State, Event], Move]:
    """Write the same move for several states; without `to` each stays where it is."""
    return {(state, event): Move(to or state, actions, reply) for state in states}


_UNCODED = (State.IDLE, State.VERIFIED)
_AWAITING = (State.AWAITING_CODE,)
_OPEN = (*_UNCODED, *_AWAITING)
_LOCKED = (State.LOCKED,)
_REACHABLE = (*_OPEN, *_LOCKED)
_OUT = (State.OPTED_OUT,)

TABLE: Mapping[tuple[State, Event], Move] = {
    **_moves(
        _UNCODED, Event.CODE_ASKED, Action.ISSUE_CODE, to=State.AWAITING_CODE, reply=Reply.CODE
    ),
    **_moves(_AWAITING, Event.CODE_ASKED_AGAIN, Action.REPEAT_CODE, reply=Reply.CODE),
    **_moves(_UNCODED, Event.ASKED_TOO_OFTEN, Action.REMEMBER_WAIT_TOLD, reply=Reply.WAIT),
    **_moves(_AWAITING, Event.ASKED_TOO_OFTEN, Action.REMEMBER_WAIT_TOLD, reply=Reply.WAIT_CODE),
    **_moves(_UNCODED, Event.RESEND_WITHOUT_CODE, reply=Reply.NO_CODE),
    **_moves(
        _AWAITING,
        Event.GUESS_RIGHT,
        Action.RECORD_SUCCESS,
        to=State.VERIFIED,
        reply=Reply.SUCCESS,
    ),
    **_moves(_AWAITING, Event.GUESS_WRONG, reply=Reply.WRONG),
    **_moves(
        _AWAITING,
        Event.LAST_GUESS_WRONG,
        Action.END_CODE,
        Action.LOCK,
        to=State.LOCKED,
        reply=Reply.LOCKED,
    ),
    **_moves(_UNCODED, Event.GUESS_TOO_LATE, reply=Reply.EXPIRED),
    **_moves(_UNCODED, Event.GUESS_WITHOUT_CODE, reply=Reply.NO_CODE),
    **_moves(_AWAITING, Event.GUESS_MISTYPED, reply=Reply.MISTYPED),
    **_moves(_REACHABLE, Event.STATUS, reply=Reply.STATUS),
    **_moves(_REACHABLE, Event.HELP, reply=Reply.HELP),
    **_moves(
        _AWAITING,
        Event.NOT_ME,
        Action.END_CODE,
        Action.REFUSE_CODES,
        to=State.IDLE,
        reply=Reply.NOT_ME,
    ),
    **_moves((*_UNCODED, *_LOCKED), Event.NOT_ME, Action.REFUSE_CODES, reply=Reply.NOT_ME),
    **_moves(_UNCODED, Event.CHATTER, reply=Reply.HINT),
    **_moves(_AWAITING, Event.CHATTER, reply=Reply.HINT_CODE),
    **_moves(_UNCODED, Event.START, reply=Reply.WELCOME),
    **_moves(_AWAITING, Event.START, Action.CLEAR_COOLDOWN, reply=Reply.STATUS),
    **_moves(_AWAITING, Event.STARTED_AT_CARRIER, Action.CLEAR_COOLDOWN),
    **_moves(_OUT, Event.START, to=State.IDLE, reply=Reply.WELCOME),
    **_moves(_OUT, Event.STARTED_AT_CARRIER, to=State.IDLE),
    **_moves(
        _REACHABLE,
        Event.STOP,
        Action.END_CODE,
        Action.OPT_OUT,
        to=State.OPTED_OUT,
        reply=Reply.STOPPED,
    ),
    **_moves(
        _REACHABLE,
        Event.STOPPED_AT_CARRIER,
        Action.END_CODE,
        Action.OPT_OUT,
        to=State.OPTED_OUT,
    ),
    **_moves(_AWAITING, Event.CODE_EXPIRED, Action.END_CODE, to=State.IDLE),
    **_moves(_LOCKED, Event.LOCK_ENDED, to=State.IDLE),
    **_moves(_OPEN, Event.LOCKED_ELSEWHERE, Action.END_CODE, to=State.LOCKED),
}
"""Every move there is."""

_ALWAYS_SILENT = frozenset(
    {
        Event.ASKED_TOO_SOON,
        Event.ASKED_TOO_OFTEN_AGAIN,
        Event.GUESS_USED,
        Event.NOT_FOR_US,
        Event.ANSWERED,
    }
)
_NOT_WITHOUT_CODE = frozenset(
    {
        Event.CODE_ASKED_AGAIN,
        Event.GUESS_RIGHT,
        Event.GUESS_WRONG,
        Event.LAST_GUESS_WRONG,
        Event.GUESS_MISTYPED,
        Event.STARTED_AT_CARRIER,
        Event.CODE_EXPIRED,
        Event.LOCK_ENDED,
    }
)
_LOCKED_HEARS = frozenset(
    {Event.STATUS, Event.HELP, Event.NOT_ME, Event.STOP, Event.STOPPED_AT_CARRIER}
    | {Event.LOCK_ENDED}
)
IGNORED: frozenset[tuple[State, Event]] = frozenset(
    {(state, event) for state in State for event in _ALWAYS_SILENT}
    | {(state, event) for state in _UNCODED for event in _NOT_WITHOUT_CODE}
    | {
        (State.AWAITING_CODE, event)
        for event in (
            Event.CODE_ASKED,
            Event.RESEND_WITHOUT_CODE,
            Event.GUESS_TOO_LATE,
            Event.GUESS_WITHOUT_CODE,
            Event.LOCK_ENDED,
        )
    }
    # A lock is told once, then there is silence until it ends.
    | {(State.LOCKED, event) for event in Event if event not in _LOCKED_HEARS}
    # After STOP nothing leaves until START.
    | {
        (State.OPTED_OUT, event)
        for event in Event
        if event not in {Event.START, Event.STARTED_AT_CARRIER}
    }
)
"""Every pair that is met with silence, or cannot be met at all."""
