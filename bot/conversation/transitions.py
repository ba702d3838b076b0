"""The state machine of a conversation: what each event does in each state.

A conversation is between one person's number and one of the bot's. It is in one of five states:

- `idle`: nothing is awaited. Every conversation begins here.
- `awaiting_code`: at least one code is live. There can be several: one that the person requested by
  text, and one for each verification of an app, a reference or the web form. A reply with the code
  alone is compared only with those that the person asked for by text.
- `verified`: as `idle`, after a code was right. It affects only replies. That the number is
  verified is recorded with the person (`verified_at`); no new request erases it, NOT ME does.
- `locked`: too many wrong guesses by text, or texts are closed for the phone. The lock belongs to
  the phone: all its conversations are locked. It concerns texts alone: no text is compared with a
  code, and VERIFY gets none. Codes that an app or the form has asked for live on, and new ones may
  be requested: forged texts must not be able to end them.
- `opted_out`: after STOP. Nothing is sent but one confirmation, until START. The opt-out belongs
  to the person: all conversations of the phone are opted out. Only if the carrier blocks texts from
  one of the bot's numbers after a START, that conversation alone is.

One input is decided in three steps. Each takes values and returns new ones; none reads a clock, a
database or a random number.

1. `guards.read` finds the *event*: the input with every question about the facts answered. A text
   of six digits is read as `GUESS_RIGHT`, `GUESS_WRONG`, `GUESS_USED` and so on, by the facts.
   Guards write nothing.
2. The table below gives the *transition* of the state and the event: the next state, the actions
   in their order, the reply to the person, the answer to the app, and the reason why the
   verifications fail whose codes it ends.
3. `actions.act` carries the actions out; `reply_choice` finds the wording of the reply that is true
   at the moment. `status`, `hint`, `wait` and `code` have several wordings; a reply that suggests
   VERIFY while it is refused becomes `wait`, `status_locked` or nothing.

Four rules hold in all of it:

- **A guess is counted before its result is sent.** Counting is the first action of every row for a
  compared guess, and the result leaves only after the transaction with the count is committed
  (NIST SP 800-63B-4 §3.2.2).
- **Time is an input.** No timer changes a state. Before each input, `guards.read_time` compares the
  time with the facts: a code may have expired, a lock may have ended, or the phone may have been
  locked, opted out or opted in at another number of the bot. An input that changes what holds for
  the whole phone is followed at once by one at its other conversations (`Decision.elsewhere`).
- **`awaiting_code` means that a code is live**, and that texts are not locked. A transition that
  can end the last one of several names the state that follows; the conversation stays in
  `awaiting_code` while a code is live.
- **Nothing is dropped silently.** A pair of state and event is in the table, or it is listed as
  ignored, or it cannot occur and raises `ImpossibleError`. Only facts that contradict each other
  could lead to that, like a live code in `idle`. Even then STOP, START, NOT ME and HELP work.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from bot.conversation.replies import Reply
from bot.conversation.state import State
from bot.conversation.verification import Reason, RequestOutcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Event(StrEnum):
    """An input with every guard decided, so that state and event determine the transition."""

    CODE_REQUEST = "asks for a code"
    CODE_REQUEST_AGAIN = "asks again"
    REQUEST_TOO_SOON = "asks again within the cooldown"
    REQUEST_TOO_OFTEN = "asks beyond the limit"
    REQUEST_TOO_OFTEN_AGAIN = "asks beyond the limit, the wait was announced"
    RESEND_WITHOUT_CODE = "asks again, but the person has no live code"
    REFERENCE_UNKNOWN = "asks with an unknown reference"
    REFERENCE_SPENT = "asks with a used or expired reference"
    GUESS_RIGHT = "right code"
    GUESS_WRONG = "wrong code"
    GUESS_WRONG_CODES_SPENT = "wrong code, the last try of every code it was compared with"
    LAST_GUESS_WRONG = "wrong code, the last try before a lock"
    GUESS_TOO_LATE = "a code, just after the last live one expired"
    GUESS_WITHOUT_CODE = "a code, but no live one takes such a reply"
    GUESS_USED = "used code"
    GUESS_MISTYPED = "code of a wrong length"
    STATUS = "STATUS"
    HELP = "HELP"
    NOT_ME = "NOT ME"
    NOT_ME_WITHOUT_CODE = "NOT ME, but there is no new code and no success of the last day"
    START = "START"
    STOP = "STOP"
    CHATTER = "anything else"
    NOT_FOR_US = "a reaction, thanks or a group message"
    OUTDATED = "a text that a later STOP, START or NOT ME overrides"
    ANSWERED_AT_CARRIER = "HELP or another keyword, answered by the carrier"
    STARTED_AT_CARRIER = "START, answered by the carrier"
    STOPPED_AT_CARRIER = "STOP, answered by the carrier"
    STOP_WHILE_BLOCKED = "STOP, while the carrier blocks this number alone"
    BLOCKED_AT_CARRIER = "the carrier refuses a text, since the person has opted out"
    NUMBER_BLOCKED = "the carrier refuses a text from this number, though START is on record"
    APP_REQUEST = "an app requests a code"
    APP_REQUEST_AFTER_NOT_ME = "an app requests a code after NOT ME"
    APP_REQUEST_TOO_OFTEN = "an app requests a code beyond the limit"
    APP_REQUEST_AGAIN = "an app requests the code again"
    APP_REQUEST_TOO_SOON = "an app requests the code again within the cooldown"
    APP_CLOSED = "an app's request while its key is closed for the phone"
    APP_CANCELS = "an app cancels"
    SUBMITTED_RIGHT = "right code, submitted by an app or the form"
    SUBMITTED_WRONG = "wrong code, submitted by an app or the form"
    LAST_SUBMITTED_WRONG = "wrong code, submitted, the code's last try"
    SUBMITTED_MALFORMED = "something that cannot be a code, submitted by an app or the form"
    SUBMITTED_DURING_LOCK = "a code, submitted while submissions are locked"
    NOT_PENDING = "an app's request for a verification without a live code"
    CODE_EXPIRED = "a code expires"
    CODE_UNDELIVERABLE = "the code cannot be delivered"
    LOCK_ENDED = "the lock ends"
    LOCKED_ELSEWHERE = "locked at another number of the bot"
    OPTED_OUT_ELSEWHERE = "opted out at another number of the bot"
    OPTED_IN_ELSEWHERE = "opted in at another number of the bot"
    NOT_ME_ELSEWHERE = "NOT ME at another number of the bot"
    NOTHING = "nothing to do"


class Action(StrEnum):
    """What a transition does besides changing the state and replying."""

    COUNT_GUESS = "count the guess"
    COUNT_SUBMISSION = "count the submission"
    COUNT_FAILURE = "count the failure, from which codes grow and channels close"
    ISSUE_CODE = "issue a code"
    SEND_CODE = "send the code, count it for the person"
    SEND_CODE_FOR_APP = "send the code, count it for apps or the form"
    REPORT_PENDING = "report the verification, if any, as pending"
    END_CODES = "end every code"
    END_CODE = "end this code"
    CANCEL_CODE = "cancel this code"
    END_UNUSABLE_CODES = "end the codes that no longer work"
    END_REPLIED_CODES = "end every code that a reply alone completes"
    END_SHORT_CODES = "end the codes that are now too short"
    RECORD_SUCCESS = "record the success"
    RESET_WRONG_GUESSES = "give back the tries by text"
    RESET_WRONG_SUBMISSIONS = "give back the tries in the channel"
    OPEN_CHANNELS = "open the channels that are closed for the phone"
    LOCK = "lock texts, close them after too many failures"
    LOCK_SUBMISSIONS = "lock the key after too many wrong ones, close it after too many failures"
    REVOKE_SUCCESSES = "revoke the successes of the last day"
    REFUSE_CODES = "refuse codes that others ask for"
    CLEAR_COOLDOWN = "clear the cooldown"
    OPT_OUT = "record the opt-out, cancel all queued texts"
    CANCEL_TEXTS = "cancel all queued texts"
    BLOCK_NUMBER = "record that this number is blocked"
    OPT_IN = "record the opt-in"
    RECORD_STOP = "record when STOP was texted"
    RECORD_START = "record when START was texted"


class Transition(Struct, frozen=True):
    """The consequences of an event in a state.

    `to` is the next state. With `unless_live`, the conversation stays in `awaiting_code` while a
    code is live; with `unless_locked`, it stays in `locked` while the lock runs. `answer` is the
    answer to the app. `reason` is why the verifications fail whose codes end; None means that they
    have ended by time, or by a lock at another number.
    """

    to: State
    actions: tuple[Action, ...] = ()
    unless_live: bool = False
    unless_locked: bool = False
    reply: Reply | None = None
    answer: RequestOutcome | None = None
    reason: Reason | None = None


class ImpossibleError(Exception):
    """An event has occurred in a state in which the rules do not allow it."""


_Pairs = dict[tuple[State, Event], Transition]


def _rows(
    states: Iterable[State],
    events: Event | Iterable[Event],
    *actions: Action,
    to: State | None = None,
    **columns: Any,
) -> _Pairs:
    """Return the same transition for several pairs; without `to` the state stays the same."""
    events = (events,) if isinstance(events, Event) else events
    return {
        (state, event): Transition(to or state, actions, **columns)
        for state in states
        for event in events
    }


# Short names, so that most rows fit on one line.
S, E, A, R, O = State, Event, Action, Reply, RequestOutcome  # noqa: E741
_IDLE, _AWAITING, _LOCKED, _OPTED_OUT = (S.IDLE,), (S.AWAITING_CODE,), (S.LOCKED,), (S.OPTED_OUT,)
_NO_CODE = (S.IDLE, S.VERIFIED)
_UNLOCKED = (*_NO_CODE, S.AWAITING_CODE)
_OPTED_IN = (*_UNLOCKED, S.LOCKED)
_GUESSES = Reason.TOO_MANY_GUESSES
_WITH_CODES = (S.AWAITING_CODE, S.LOCKED)
_APP_REQUESTS = (
    *(E.APP_REQUEST, E.APP_REQUEST_AFTER_NOT_ME, E.APP_REQUEST_TOO_OFTEN, E.APP_CLOSED),
)

# fmt: off
TRANSITIONS: Mapping[tuple[State, Event], Transition] = {
    # The person asks for a code.
    **_rows(_UNLOCKED, E.CODE_REQUEST, A.ISSUE_CODE, A.SEND_CODE, A.REPORT_PENDING,
            to=S.AWAITING_CODE, reply=R.CODE),
    **_rows(_AWAITING, E.CODE_REQUEST_AGAIN, A.SEND_CODE, reply=R.CODE),
    **_rows(_UNLOCKED, E.REQUEST_TOO_OFTEN, reply=R.WAIT),
    **_rows(_UNLOCKED, E.RESEND_WITHOUT_CODE, reply=R.NO_CODE),
    **_rows(_UNLOCKED, E.REFERENCE_UNKNOWN, reply=R.REFERENCE_UNKNOWN),
    **_rows(_UNLOCKED, E.REFERENCE_SPENT, reply=R.REFERENCE_SPENT),
    # The person texts a code.
    **_rows(_AWAITING, E.GUESS_RIGHT, A.COUNT_GUESS, A.RECORD_SUCCESS,
            A.END_UNUSABLE_CODES, A.RESET_WRONG_GUESSES, A.OPEN_CHANNELS,
            to=S.VERIFIED, unless_live=True, reply=R.SUCCESS, reason=_GUESSES),
    **_rows(_AWAITING, E.GUESS_WRONG, A.COUNT_GUESS, A.COUNT_FAILURE, A.END_UNUSABLE_CODES,
            reply=R.WRONG, reason=_GUESSES),
    **_rows(_AWAITING, E.GUESS_WRONG_CODES_SPENT,
            A.COUNT_GUESS, A.COUNT_FAILURE, A.END_UNUSABLE_CODES,
            to=S.IDLE, unless_live=True, reply=R.CODE_SPENT, reason=_GUESSES),
    **_rows(_AWAITING, E.LAST_GUESS_WRONG,
            A.COUNT_GUESS, A.COUNT_FAILURE, A.END_REPLIED_CODES, A.END_UNUSABLE_CODES, A.LOCK,
            to=S.LOCKED, reply=R.LOCKED, reason=_GUESSES),
    **_rows(_IDLE, E.GUESS_TOO_LATE, reply=R.EXPIRED),
    **_rows(_UNLOCKED, E.GUESS_WITHOUT_CODE, reply=R.NO_CODE),
    **_rows(_AWAITING, E.GUESS_MISTYPED, reply=R.MISTYPED),
    **_rows(_NO_CODE, E.GUESS_MISTYPED, reply=R.HINT),
    # The person texts something else.
    **_rows(_UNLOCKED, E.CHATTER, reply=R.HINT),
    **_rows(_OPTED_IN, E.STATUS, reply=R.STATUS),
    **_rows(_OPTED_IN, E.HELP, reply=R.HELP),
    **_rows(_UNLOCKED, E.NOT_ME, A.END_CODES, A.REVOKE_SUCCESSES, A.REFUSE_CODES,
            to=S.IDLE, reply=R.NOT_ME, reason=Reason.NOT_ME),
    **_rows(_LOCKED, E.NOT_ME, A.END_CODES, A.REVOKE_SUCCESSES, A.REFUSE_CODES,
            reply=R.NOT_ME, reason=Reason.NOT_ME),
    **_rows(_OPTED_OUT, E.NOT_ME, A.REVOKE_SUCCESSES, A.REFUSE_CODES),
    **_rows((*_NO_CODE, *_LOCKED), E.NOT_ME_WITHOUT_CODE, reply=R.NOT_ME_WITHOUT_CODE),
    # The person opts out or in, here or at the carrier.
    **_rows(_OPTED_IN, E.STOP, A.END_CODES, A.RECORD_STOP, A.OPT_OUT,
            to=S.OPTED_OUT, reply=R.STOPPED, reason=Reason.OPTED_OUT),
    **_rows(_OPTED_IN, (E.STOPPED_AT_CARRIER, E.BLOCKED_AT_CARRIER),
            A.END_CODES, A.RECORD_STOP, A.OPT_OUT, to=S.OPTED_OUT, reason=Reason.OPTED_OUT),
    **_rows(_OPTED_IN, E.NUMBER_BLOCKED, A.END_CODES, A.CANCEL_TEXTS, A.BLOCK_NUMBER,
            to=S.OPTED_OUT, reason=Reason.OPTED_OUT),
    **_rows(_OPTED_OUT, (E.STOP, E.STOPPED_AT_CARRIER), A.RECORD_STOP),
    **_rows(_OPTED_OUT, E.STOP_WHILE_BLOCKED, A.RECORD_STOP, A.OPT_OUT),
    **_rows(_NO_CODE, E.START, A.RECORD_START, reply=R.WELCOME),
    **_rows(_AWAITING, E.START, A.RECORD_START, A.CLEAR_COOLDOWN, reply=R.STATUS),
    **_rows(_LOCKED, E.START, A.RECORD_START),
    **_rows(_OPTED_OUT, E.START, A.RECORD_START, A.OPT_IN, to=S.IDLE, reply=R.WELCOME),
    **_rows((*_NO_CODE, *_LOCKED), E.STARTED_AT_CARRIER, A.RECORD_START),
    **_rows(_AWAITING, E.STARTED_AT_CARRIER, A.RECORD_START, A.CLEAR_COOLDOWN),
    **_rows(_OPTED_OUT, E.STARTED_AT_CARRIER, A.RECORD_START, A.OPT_IN, to=S.IDLE),
    # An app or the web form requests something.
    **_rows(_UNLOCKED, E.APP_REQUEST, A.ISSUE_CODE, A.SEND_CODE_FOR_APP, A.REPORT_PENDING,
            to=S.AWAITING_CODE, reply=R.CODE, answer=O.DONE),
    **_rows(_LOCKED, E.APP_REQUEST, A.ISSUE_CODE, A.SEND_CODE_FOR_APP, A.REPORT_PENDING,
            reply=R.CODE, answer=O.DONE),
    **_rows(_WITH_CODES, E.APP_REQUEST_AGAIN, A.SEND_CODE_FOR_APP, reply=R.CODE, answer=O.DONE),
    **_rows(_WITH_CODES, E.APP_REQUEST_TOO_SOON, answer=O.TOO_SOON),
    **_rows(_OPTED_IN, E.APP_REQUEST_AFTER_NOT_ME, answer=O.NOT_ME),
    **_rows(_OPTED_IN, E.APP_REQUEST_TOO_OFTEN, answer=O.TOO_MANY_CODES),
    **_rows(_OPTED_IN, E.APP_CLOSED, answer=O.LOCKED),
    **_rows(_OPTED_OUT, _APP_REQUESTS, answer=O.OPTED_OUT),
    **_rows(_WITH_CODES, E.APP_CANCELS, A.CANCEL_CODE,
            to=S.IDLE, unless_live=True, unless_locked=True, answer=O.DONE),
    **_rows(_WITH_CODES, E.SUBMITTED_RIGHT, A.COUNT_SUBMISSION, A.RECORD_SUCCESS,
            A.RESET_WRONG_SUBMISSIONS, A.OPEN_CHANNELS,
            to=S.VERIFIED, unless_live=True, unless_locked=True, answer=O.RIGHT),
    **_rows(_WITH_CODES, E.SUBMITTED_WRONG,
            A.COUNT_SUBMISSION, A.COUNT_FAILURE, A.END_SHORT_CODES, A.LOCK_SUBMISSIONS,
            answer=O.WRONG, reason=_GUESSES),
    **_rows(_WITH_CODES, E.LAST_SUBMITTED_WRONG,
            A.COUNT_SUBMISSION, A.COUNT_FAILURE, A.END_CODE, A.END_SHORT_CODES, A.LOCK_SUBMISSIONS,
            to=S.IDLE, unless_live=True, unless_locked=True, answer=O.WRONG, reason=_GUESSES),
    **_rows(_WITH_CODES, E.SUBMITTED_MALFORMED, answer=O.WRONG),
    **_rows(_WITH_CODES, E.SUBMITTED_DURING_LOCK, answer=O.TOO_MANY_GUESSES),
    **_rows(State, E.NOT_PENDING, answer=O.NOT_PENDING),
    # Time passes, a text could not be delivered, or another number of the bot was texted.
    **_rows(_WITH_CODES, E.CODE_EXPIRED, A.END_UNUSABLE_CODES,
            to=S.IDLE, unless_live=True, unless_locked=True),
    **_rows(_WITH_CODES, E.CODE_UNDELIVERABLE, A.END_CODE,
            to=S.IDLE, unless_live=True, unless_locked=True, reason=Reason.UNDELIVERABLE),
    **_rows(_LOCKED, E.LOCK_ENDED, A.END_UNUSABLE_CODES, to=S.IDLE, unless_live=True),
    **_rows(_UNLOCKED, E.LOCKED_ELSEWHERE, A.END_UNUSABLE_CODES, to=S.LOCKED),
    **_rows(_OPTED_IN, E.OPTED_OUT_ELSEWHERE, A.END_CODES, A.CANCEL_TEXTS,
            to=S.OPTED_OUT, reason=Reason.OPTED_OUT),
    **_rows(_OPTED_OUT, E.OPTED_IN_ELSEWHERE, to=S.IDLE),
    **_rows(_UNLOCKED, E.NOT_ME_ELSEWHERE, A.END_CODES, to=S.IDLE, reason=Reason.NOT_ME),
    **_rows(_LOCKED, E.NOT_ME_ELSEWHERE, A.END_CODES, reason=Reason.NOT_ME),
}
# fmt: on

_IGNORED_ALWAYS = {E.REQUEST_TOO_OFTEN_AGAIN, E.GUESS_USED, E.NOT_FOR_US, E.OUTDATED}
_IGNORED_ALWAYS |= {E.ANSWERED_AT_CARRIER, E.NOTHING}
# A lock is announced once; after that most texts get no reply until it ends.
_IGNORED_WHEN_LOCKED = {E.CODE_REQUEST, E.REQUEST_TOO_OFTEN, E.RESEND_WITHOUT_CODE, E.CHATTER}
_IGNORED_WHEN_LOCKED |= {E.REFERENCE_UNKNOWN, E.REFERENCE_SPENT}
_IGNORED_WHEN_LOCKED |= {E.GUESS_WITHOUT_CODE, E.GUESS_MISTYPED}
# A refusal by the carrier after STOP results from that STOP, which is recorded already.
_IGNORED_WHEN_OUT = _IGNORED_WHEN_LOCKED | {E.STATUS, E.HELP, E.BLOCKED_AT_CARRIER}
# The code of a reference that must be typed lives on during a lock.
_IGNORED_ONLY_WHEN_LOCKED = {E.CODE_REQUEST_AGAIN, E.REQUEST_TOO_SOON}
_IGNORED_WHEN_OUT |= {E.NUMBER_BLOCKED, E.NOT_ME_WITHOUT_CODE, E.NOT_ME_ELSEWHERE}
IGNORED: frozenset[tuple[State, Event]] = frozenset(
    {(state, event) for state in State for event in _IGNORED_ALWAYS}
    | {(S.LOCKED, event) for event in _IGNORED_WHEN_LOCKED | _IGNORED_ONLY_WHEN_LOCKED}
    | {(S.OPTED_OUT, event) for event in _IGNORED_WHEN_OUT}
    | {(S.AWAITING_CODE, E.REQUEST_TOO_SOON)}
)
"""Every pair that changes nothing and gets no reply."""


def transition_of(state: State, event: Event) -> Transition | None:
    """Return the transition of an event in a state, or None if the event is ignored there.

    Raises ImpossibleError for any other pair.
    """
    transition = TRANSITIONS.get((state, event))
    if transition is None and (state, event) not in IGNORED:
        raise ImpossibleError(f"{event.name} cannot occur in the state {state}")
    return transition
