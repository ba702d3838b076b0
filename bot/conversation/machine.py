"""The state machine: the events of a conversation and the table of its transitions.

The table is complete: every pair of a state and an event is either in it or in `IGNORED`.
`perceiving` finds the event of an input.
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
    """An input with every guard decided, so that state and event determine the transition."""

    CODE_REQUEST = "asks for a code"
    CODE_REQUEST_AGAIN = "asks again"
    REQUEST_TOO_SOON = "asks again within the cooldown"
    REQUEST_TOO_OFTEN = "asks beyond the limit"
    REQUEST_TOO_OFTEN_AGAIN = "asks beyond the limit, knows the wait"
    RESEND_WITHOUT_CODE = "asks again, no live code"
    REFERENCE_UNKNOWN = "asks with an unknown reference"
    REFERENCE_SPENT = "asks with a used or expired reference"
    APP_REQUEST = "an app requests a code"
    APP_REQUEST_AGAIN = "an app requests the code again"
    APP_CANCELS = "an app cancels"
    SUBMITTED_RIGHT = "right code, submitted by an app or the form"
    SUBMITTED_RIGHT_OF_SEVERAL = "right code, submitted, another is live"
    SUBMITTED_WRONG = "wrong code, submitted by an app or the form"
    LAST_SUBMITTED_WRONG = "wrong code, submitted, last try"
    GUESS_RIGHT = "right code"
    GUESS_RIGHT_OF_SEVERAL = "right code, another is live"
    GUESS_WRONG = "wrong code"
    GUESS_WRONG_CODES_SPENT = "wrong code, the last try of every live code"
    LAST_GUESS_WRONG = "wrong code, last try"
    GUESS_TOO_LATE = "code after its expiry"
    GUESS_WITHOUT_CODE = "code, none is live"
    GUESS_USED = "used code"
    GUESS_MISTYPED = "code of a wrong length"
    STATUS = "STATUS"
    HELP = "HELP"
    NOT_ME = "NOT ME"
    START = "START"
    STOP = "STOP"
    CHATTER = "anything else"
    NOT_FOR_US = "a reaction, thanks or a group message"
    OUTDATED = "a text sent before an opt-out, START or NOT ME decided already"
    ANSWERED_AT_CARRIER = "HELP or another keyword, answered by the carrier"
    STARTED_AT_CARRIER = "START, answered by the carrier"
    STOPPED_AT_CARRIER = "STOP, answered by the carrier"
    CODE_EXPIRED = "the code expires"
    ONE_CODE_EXPIRED = "the code expires, another is live"
    CODE_UNDELIVERABLE = "the code cannot be delivered"
    LAST_CODE_ENDED = "no live code is left"
    LOCK_ENDED = "the lock ends"
    LOCKED_ELSEWHERE = "locked at another number of the bot"
    NOTHING = "nothing to do"


class Action(StrEnum):
    """What a transition does besides changing the state and replying."""

    ISSUE_CODE = "issue a code"
    RESEND_CODE = "send the code again"
    END_CODES = "end every code"
    END_CODE = "end this code"
    END_UNUSABLE_CODES = "end the codes that no longer work"
    RECORD_SUCCESS = "record the success"
    RESET_WRONG_GUESSES = "give back the tries by text"
    RESET_WRONG_SUBMISSIONS = "give back the tries by apps and the form"
    LOCK = "lock the phone"
    LOCK_SUBMISSIONS = "lock submissions by apps and the form after too many wrong ones"
    REFUSE_CODES = "refuse codes for an hour"
    RECORD_WAIT_NOTICE = "record that the wait was announced"
    CLEAR_COOLDOWN = "clear the cooldown"
    OPT_OUT = "record the opt-out, cancel all queued texts"
    OPT_IN = "record the opt-in"
    RECORD_STOP = "record when STOP was texted"
    RECORD_START = "record when START was texted"


class Transition(Struct, frozen=True):
    """The next state, the actions in their order, and the reply."""

    to: State
    actions: tuple[Action, ...] = ()
    reply: Reply | None = None


def _rows(
    states: Iterable[State],
    event: Event,
    *actions: Action,
    to: State | None = None,
    reply: Reply | None = None,
) -> dict[tuple[State, Event], Transition]:
    """Return the same transition for several states; without `to` the state stays the same."""
    return {(state, event): Transition(to or state, actions, reply) for state in states}


_NO_CODE = (State.IDLE, State.VERIFIED)
_AWAITING = (State.AWAITING_CODE,)
_OPEN = (*_NO_CODE, *_AWAITING)
_LOCKED = (State.LOCKED,)
_OPTED_IN = (*_OPEN, *_LOCKED)
_OPTED_OUT = (State.OPTED_OUT,)

TRANSITIONS: Mapping[tuple[State, Event], Transition] = {
    **_rows(_OPEN, Event.CODE_REQUEST, Action.ISSUE_CODE, to=State.AWAITING_CODE, reply=Reply.CODE),
    **_rows(_OPEN, Event.APP_REQUEST, Action.ISSUE_CODE, to=State.AWAITING_CODE, reply=Reply.CODE),
    **_rows(_AWAITING, Event.APP_REQUEST_AGAIN, Action.RESEND_CODE, reply=Reply.CODE),
    **_rows(_AWAITING, Event.APP_CANCELS, Action.END_CODE),
    **_rows(_OPEN, Event.REFERENCE_UNKNOWN, reply=Reply.REFERENCE_UNKNOWN),
    **_rows(_OPEN, Event.REFERENCE_SPENT, reply=Reply.REFERENCE_SPENT),
    **_rows(_AWAITING, Event.CODE_REQUEST_AGAIN, Action.RESEND_CODE, reply=Reply.CODE),
    **_rows(_NO_CODE, Event.REQUEST_TOO_OFTEN, Action.RECORD_WAIT_NOTICE, reply=Reply.WAIT),
    **_rows(_AWAITING, Event.REQUEST_TOO_OFTEN, Action.RECORD_WAIT_NOTICE, reply=Reply.WAIT_CODE),
    **_rows(_NO_CODE, Event.RESEND_WITHOUT_CODE, reply=Reply.NO_CODE),
    **_rows(
        _AWAITING,
        Event.GUESS_RIGHT,
        Action.RECORD_SUCCESS,
        Action.END_UNUSABLE_CODES,
        Action.RESET_WRONG_GUESSES,
        to=State.VERIFIED,
        reply=Reply.SUCCESS,
    ),
    **_rows(
        _AWAITING,
        Event.GUESS_RIGHT_OF_SEVERAL,
        Action.RECORD_SUCCESS,
        Action.END_UNUSABLE_CODES,
        Action.RESET_WRONG_GUESSES,
        reply=Reply.SUCCESS,
    ),
    **_rows(
        _AWAITING,
        Event.SUBMITTED_RIGHT,
        Action.RECORD_SUCCESS,
        Action.RESET_WRONG_SUBMISSIONS,
        to=State.VERIFIED,
    ),
    **_rows(
        _AWAITING,
        Event.SUBMITTED_RIGHT_OF_SEVERAL,
        Action.RECORD_SUCCESS,
        Action.RESET_WRONG_SUBMISSIONS,
    ),
    **_rows(_AWAITING, Event.SUBMITTED_WRONG, Action.LOCK_SUBMISSIONS),
    **_rows(_AWAITING, Event.LAST_SUBMITTED_WRONG, Action.END_CODE, Action.LOCK_SUBMISSIONS),
    **_rows(_AWAITING, Event.GUESS_WRONG, Action.END_UNUSABLE_CODES, reply=Reply.WRONG),
    **_rows(
        _AWAITING,
        Event.GUESS_WRONG_CODES_SPENT,
        Action.END_CODES,
        to=State.IDLE,
        reply=Reply.CODE_SPENT,
    ),
    **_rows(
        _AWAITING,
        Event.LAST_GUESS_WRONG,
        Action.END_CODES,
        Action.LOCK,
        to=State.LOCKED,
        reply=Reply.LOCKED,
    ),
    **_rows(_NO_CODE, Event.GUESS_TOO_LATE, reply=Reply.EXPIRED),
    **_rows(_NO_CODE, Event.GUESS_WITHOUT_CODE, reply=Reply.NO_CODE),
    **_rows(_AWAITING, Event.GUESS_MISTYPED, reply=Reply.MISTYPED),
    **_rows(_OPTED_IN, Event.STATUS, reply=Reply.STATUS),
    **_rows(_OPTED_IN, Event.HELP, reply=Reply.HELP),
    **_rows(
        _AWAITING,
        Event.NOT_ME,
        Action.END_CODES,
        Action.REFUSE_CODES,
        to=State.IDLE,
        reply=Reply.NOT_ME,
    ),
    **_rows((*_NO_CODE, *_LOCKED), Event.NOT_ME, Action.REFUSE_CODES, reply=Reply.NOT_ME),
    **_rows(_NO_CODE, Event.CHATTER, reply=Reply.HINT),
    **_rows(_AWAITING, Event.CHATTER, reply=Reply.HINT_CODE),
    **_rows(_NO_CODE, Event.START, Action.RECORD_START, reply=Reply.WELCOME),
    **_rows(_AWAITING, Event.START, Action.RECORD_START, Action.CLEAR_COOLDOWN, reply=Reply.STATUS),
    **_rows(_AWAITING, Event.STARTED_AT_CARRIER, Action.RECORD_START, Action.CLEAR_COOLDOWN),
    **_rows(_LOCKED, Event.START, Action.RECORD_START),
    **_rows((*_NO_CODE, *_LOCKED), Event.STARTED_AT_CARRIER, Action.RECORD_START),
    **_rows(
        _OPTED_OUT,
        Event.START,
        Action.RECORD_START,
        Action.OPT_IN,
        to=State.IDLE,
        reply=Reply.WELCOME,
    ),
    **_rows(
        _OPTED_OUT, Event.STARTED_AT_CARRIER, Action.RECORD_START, Action.OPT_IN, to=State.IDLE
    ),
    **_rows(
        _OPTED_IN,
        Event.STOP,
        Action.END_CODES,
        Action.RECORD_STOP,
        Action.OPT_OUT,
        to=State.OPTED_OUT,
        reply=Reply.STOPPED,
    ),
    **_rows(
        _OPTED_IN,
        Event.STOPPED_AT_CARRIER,
        Action.END_CODES,
        Action.RECORD_STOP,
        Action.OPT_OUT,
        to=State.OPTED_OUT,
    ),
    **_rows(_OPTED_OUT, Event.STOP, Action.RECORD_STOP),
    **_rows(_OPTED_OUT, Event.STOPPED_AT_CARRIER, Action.RECORD_STOP),
    **_rows(_OPTED_OUT, Event.NOT_ME, Action.REFUSE_CODES),
    **_rows(_AWAITING, Event.CODE_EXPIRED, Action.END_CODES, to=State.IDLE),
    **_rows(_AWAITING, Event.ONE_CODE_EXPIRED, Action.END_UNUSABLE_CODES),
    **_rows(_AWAITING, Event.CODE_UNDELIVERABLE, Action.END_CODE),
    **_rows(_AWAITING, Event.LAST_CODE_ENDED, to=State.IDLE),
    **_rows(_LOCKED, Event.LOCK_ENDED, to=State.IDLE),
    **_rows(_OPEN, Event.LOCKED_ELSEWHERE, Action.END_CODES, to=State.LOCKED),
}
"""Every transition."""

_ALWAYS_IGNORED = frozenset(
    {
        Event.REQUEST_TOO_SOON,
        Event.REQUEST_TOO_OFTEN_AGAIN,
        Event.GUESS_USED,
        Event.NOT_FOR_US,
        Event.OUTDATED,
        Event.ANSWERED_AT_CARRIER,
        Event.NOTHING,
    }
)
_IMPOSSIBLE_WITHOUT_CODE = frozenset(
    {
        Event.CODE_REQUEST_AGAIN,
        Event.APP_REQUEST_AGAIN,
        Event.APP_CANCELS,
        Event.SUBMITTED_RIGHT,
        Event.SUBMITTED_RIGHT_OF_SEVERAL,
        Event.SUBMITTED_WRONG,
        Event.LAST_SUBMITTED_WRONG,
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
_HANDLED_WHEN_LOCKED = frozenset(
    {Event.STATUS, Event.HELP, Event.NOT_ME, Event.STOP, Event.STOPPED_AT_CARRIER}
    | {Event.LOCK_ENDED, Event.START, Event.STARTED_AT_CARRIER}
)
_HANDLED_WHEN_OPTED_OUT = frozenset(
    {Event.START, Event.STARTED_AT_CARRIER, Event.STOP, Event.STOPPED_AT_CARRIER, Event.NOT_ME}
)
IGNORED: frozenset[tuple[State, Event]] = frozenset(
    {(state, event) for state in State for event in _ALWAYS_IGNORED}
    | {(state, event) for state in _NO_CODE for event in _IMPOSSIBLE_WITHOUT_CODE}
    | {
        (State.AWAITING_CODE, event)
        for event in (
            Event.RESEND_WITHOUT_CODE,
            Event.GUESS_TOO_LATE,
            Event.GUESS_WITHOUT_CODE,
            Event.LOCK_ENDED,
        )
    }
    # A lock is announced once; after that most texts get no reply until it ends.
    | {(State.LOCKED, event) for event in Event if event not in _HANDLED_WHEN_LOCKED}
    # After STOP no text is sent until START.
    | {(State.OPTED_OUT, event) for event in Event if event not in _HANDLED_WHEN_OPTED_OUT}
)
"""Every pair that changes nothing and gets no reply, or cannot occur."""
