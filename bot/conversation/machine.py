"""The states of a conversation and the table of every move: `(state, event) -> move`.

The table is the machine: what is not in it does not happen, and every pair that is not in it
stands in `IGNORED`. `decision` perceives the events.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from msgspec import Struct

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
    REFERENCE_UNKNOWN = "asks with an unknown reference"
    REFERENCE_SPENT = "asks with a reference that is used up"
    APP_ASKS = "an app asks for a code"
    APP_ASKS_AGAIN = "an app asks again"
    APP_CANCELS = "an app cancels"
    TYPED_RIGHT = "right code, typed elsewhere"
    TYPED_RIGHT_OF_SEVERAL = "right code, typed elsewhere, another lives"
    TYPED_WRONG = "wrong code, typed elsewhere"
    LAST_TYPED_WRONG = "wrong code, typed elsewhere, last try"
    GUESS_RIGHT = "right code"
    GUESS_RIGHT_OF_SEVERAL = "right code, another lives"
    GUESS_WRONG = "wrong code"
    GUESS_WRONG_CODES_SPENT = "wrong code, the last for those that live"
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
    OUTDATED = "a text from before an opt-out, a START or NOT ME that is known already"
    ANSWERED = "HELP or other, answered by the carrier"
    STARTED_AT_CARRIER = "START, answered by the carrier"
    STOPPED_AT_CARRIER = "STOP, answered by the carrier"
    CODE_EXPIRED = "the code expires"
    ONE_CODE_EXPIRED = "the code expires, another lives"
    CODE_UNDELIVERABLE = "the code cannot be delivered"
    LAST_CODE_ENDED = "no code lives any more"
    LOCK_ENDED = "the lock ends"
    LOCKED_ELSEWHERE = "locked at another number of the bot"
    NOTHING = "nothing that moves anything"


class Action(StrEnum):
    """What a move does besides changing the state and replying."""

    ISSUE_CODE = "issue a code"
    REPEAT_CODE = "send the code again"
    END_CODES = "end every code"
    END_THAT_CODE = "end that code"
    END_DEAD_CODES = "end the codes that are over"
    RECORD_SUCCESS = "record the success"
    FORGET_WRONG_GUESSES = "give the tries by text back"
    FORGET_WRONG_TYPING = "give the tries elsewhere back"
    LOCK = "lock the phone"
    LOCK_TYPING = "refuse what is typed elsewhere for a while, if too much was wrong"
    REFUSE_CODES = "refuse codes for an hour"
    REMEMBER_WAIT_TOLD = "remember that the wait was told"
    CLEAR_COOLDOWN = "clear the cooldown"
    OPT_OUT = "record the opt-out, cancel what is queued"
    OPT_IN = "record that texts are wanted again"
    REMEMBER_STOP = "remember when STOP was texted"
    REMEMBER_START = "remember when START was texted"


class Move(Struct, frozen=True):
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
    **_moves(_OPEN, Event.CODE_ASKED, Action.ISSUE_CODE, to=State.AWAITING_CODE, reply=Reply.CODE),
    **_moves(_OPEN, Event.APP_ASKS, Action.ISSUE_CODE, to=State.AWAITING_CODE, reply=Reply.CODE),
    **_moves(_AWAITING, Event.APP_ASKS_AGAIN, Action.REPEAT_CODE, reply=Reply.CODE),
    **_moves(_AWAITING, Event.APP_CANCELS, Action.END_THAT_CODE),
    **_moves(_OPEN, Event.REFERENCE_UNKNOWN, reply=Reply.REFERENCE_UNKNOWN),
    **_moves(_OPEN, Event.REFERENCE_SPENT, reply=Reply.REFERENCE_SPENT),
    **_moves(_AWAITING, Event.CODE_ASKED_AGAIN, Action.REPEAT_CODE, reply=Reply.CODE),
    **_moves(_UNCODED, Event.ASKED_TOO_OFTEN, Action.REMEMBER_WAIT_TOLD, reply=Reply.WAIT),
    **_moves(_AWAITING, Event.ASKED_TOO_OFTEN, Action.REMEMBER_WAIT_TOLD, reply=Reply.WAIT_CODE),
    **_moves(_UNCODED, Event.RESEND_WITHOUT_CODE, reply=Reply.NO_CODE),
    **_moves(
        _AWAITING,
        Event.GUESS_RIGHT,
        Action.RECORD_SUCCESS,
        Action.END_DEAD_CODES,
        Action.FORGET_WRONG_GUESSES,
        to=State.VERIFIED,
        reply=Reply.SUCCESS,
    ),
    **_moves(
        _AWAITING,
        Event.GUESS_RIGHT_OF_SEVERAL,
        Action.RECORD_SUCCESS,
        Action.END_DEAD_CODES,
        Action.FORGET_WRONG_GUESSES,
        reply=Reply.SUCCESS,
    ),
    **_moves(
        _AWAITING,
        Event.TYPED_RIGHT,
        Action.RECORD_SUCCESS,
        Action.FORGET_WRONG_TYPING,
        to=State.VERIFIED,
    ),
    **_moves(
        _AWAITING,
        Event.TYPED_RIGHT_OF_SEVERAL,
        Action.RECORD_SUCCESS,
        Action.FORGET_WRONG_TYPING,
    ),
    **_moves(_AWAITING, Event.TYPED_WRONG, Action.LOCK_TYPING),
    **_moves(_AWAITING, Event.LAST_TYPED_WRONG, Action.END_THAT_CODE, Action.LOCK_TYPING),
    **_moves(_AWAITING, Event.GUESS_WRONG, Action.END_DEAD_CODES, reply=Reply.WRONG),
    **_moves(
        _AWAITING,
        Event.GUESS_WRONG_CODES_SPENT,
        Action.END_CODES,
        to=State.IDLE,
        reply=Reply.CODE_SPENT,
    ),
    **_moves(
        _AWAITING,
        Event.LAST_GUESS_WRONG,
        Action.END_CODES,
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
        Action.END_CODES,
        Action.REFUSE_CODES,
        to=State.IDLE,
        reply=Reply.NOT_ME,
    ),
    **_moves((*_UNCODED, *_LOCKED), Event.NOT_ME, Action.REFUSE_CODES, reply=Reply.NOT_ME),
    **_moves(_UNCODED, Event.CHATTER, reply=Reply.HINT),
    **_moves(_AWAITING, Event.CHATTER, reply=Reply.HINT_CODE),
    **_moves(_UNCODED, Event.START, Action.REMEMBER_START, reply=Reply.WELCOME),
    **_moves(
        _AWAITING,
        Event.START,
        Action.REMEMBER_START,
        Action.CLEAR_COOLDOWN,
        reply=Reply.STATUS,
    ),
    **_moves(_AWAITING, Event.STARTED_AT_CARRIER, Action.REMEMBER_START, Action.CLEAR_COOLDOWN),
    **_moves(_LOCKED, Event.START, Action.REMEMBER_START),
    **_moves((*_UNCODED, *_LOCKED), Event.STARTED_AT_CARRIER, Action.REMEMBER_START),
    **_moves(
        _OUT,
        Event.START,
        Action.REMEMBER_START,
        Action.OPT_IN,
        to=State.IDLE,
        reply=Reply.WELCOME,
    ),
    **_moves(_OUT, Event.STARTED_AT_CARRIER, Action.REMEMBER_START, Action.OPT_IN, to=State.IDLE),
    **_moves(
        _REACHABLE,
        Event.STOP,
        Action.END_CODES,
        Action.REMEMBER_STOP,
        Action.OPT_OUT,
        to=State.OPTED_OUT,
        reply=Reply.STOPPED,
    ),
    **_moves(
        _REACHABLE,
        Event.STOPPED_AT_CARRIER,
        Action.END_CODES,
        Action.REMEMBER_STOP,
        Action.OPT_OUT,
        to=State.OPTED_OUT,
    ),
    **_moves(_OUT, Event.STOP, Action.REMEMBER_STOP),
    **_moves(_OUT, Event.STOPPED_AT_CARRIER, Action.REMEMBER_STOP),
    **_moves(_OUT, Event.NOT_ME, Action.REFUSE_CODES),
    **_moves(_AWAITING, Event.CODE_EXPIRED, Action.END_CODES, to=State.IDLE),
    **_moves(_AWAITING, Event.ONE_CODE_EXPIRED, Action.END_DEAD_CODES),
    **_moves(_AWAITING, Event.CODE_UNDELIVERABLE, Action.END_THAT_CODE),
    **_moves(_AWAITING, Event.LAST_CODE_ENDED, to=State.IDLE),
    **_moves(_LOCKED, Event.LOCK_ENDED, to=State.IDLE),
    **_moves(_OPEN, Event.LOCKED_ELSEWHERE, Action.END_CODES, to=State.LOCKED),
}
"""Every move there is."""

_ALWAYS_SILENT = frozenset(
    {
        Event.ASKED_TOO_SOON,
        Event.ASKED_TOO_OFTEN_AGAIN,
        Event.GUESS_USED,
        Event.NOT_FOR_US,
        Event.OUTDATED,
        Event.ANSWERED,
        Event.NOTHING,
    }
)
_NOT_WITHOUT_CODE = frozenset(
    {
        Event.CODE_ASKED_AGAIN,
        Event.APP_ASKS_AGAIN,
        Event.APP_CANCELS,
        Event.TYPED_RIGHT,
        Event.TYPED_RIGHT_OF_SEVERAL,
        Event.TYPED_WRONG,
        Event.LAST_TYPED_WRONG,
        Event.GUESS_RIGHT,
        Event.GUESS_RIGHT_OF_SEVERAL,
        Event.GUESS_WRONG,
        Event.GUESS_WRONG_CODES_SPENT,
        Event.LAST_GUESS_WRONG,
        Event.GUESS_MISTYPED,
        Event.CODE_EXPIRED,
        Event.ONE_CODE_EXPIRED,
        Event.CODE_UNDELIVERABLE,
        Event.LAST_CODE_ENDED,
        Event.LOCK_ENDED,
    }
)
_LOCKED_HEARS = frozenset(
    {Event.STATUS, Event.HELP, Event.NOT_ME, Event.STOP, Event.STOPPED_AT_CARRIER}
    | {Event.LOCK_ENDED, Event.START, Event.STARTED_AT_CARRIER}
)
_OPTED_OUT_HEARS = frozenset(
    {Event.START, Event.STARTED_AT_CARRIER, Event.STOP, Event.STOPPED_AT_CARRIER, Event.NOT_ME}
)
IGNORED: frozenset[tuple[State, Event]] = frozenset(
    {(state, event) for state in State for event in _ALWAYS_SILENT}
    | {(state, event) for state in _UNCODED for event in _NOT_WITHOUT_CODE}
    | {
        (State.AWAITING_CODE, event)
        for event in (
            Event.RESEND_WITHOUT_CODE,
            Event.GUESS_TOO_LATE,
            Event.GUESS_WITHOUT_CODE,
            Event.LOCK_ENDED,
        )
    }
    # A lock is told once, then there is silence until it ends.
    | {(State.LOCKED, event) for event in Event if event not in _LOCKED_HEARS}
    # After STOP nothing leaves until START.
    | {(State.OPTED_OUT, event) for event in Event if event not in _OPTED_OUT_HEARS}
)
"""Every pair that is met with silence, or cannot be met at all."""
