"""One event decided: perceive what happened, let the table move, carry out what it says.

Nothing happens by time alone: an expiry is noticed, by comparing times, when something else
happens.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from bot.conversation.intents import Intent, Understood, understand, visible_part
from bot.conversation.machine import TABLE, Action, Event
from bot.conversation.policy import (
    ANSWERS_IN_A_ROW,
    COURTESY_SILENCE,
    HINTS_IN_A_ROW,
    REFUSAL,
    code_times_with,
    lock_length,
    within_bounds,
)
from bot.conversation.replies import Reply, compose
from bot.conversation.state import (
    Alphabet,
    CodeFormat,
    CodeText,
    Conversation,
    Ledger,
    State,
    Token,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from bot.conversation.codes import Keyring
    from bot.conversation.policy import Policy

TEXT_LIFETIME = timedelta(minutes=15)
"""After this a text that carries no code is not worth sending any more."""
_WORDING_LONGEST = 64
_MAY_BE_CODE = re.compile(r"\d|[a-f]{4}|^[a-f]+$")
_MINUTE = timedelta(minutes=1)
_SECOND = timedelta(seconds=1)

_HINTS = frozenset({Reply.HINT, Reply.HINT_CODE})
_ANSWERS = frozenset(
    {Reply.STATUS, Reply.HELP, Reply.NOT_ME, Reply.NO_CODE, Reply.MISTYPED}
    # STOP and START are obeyed without end, but who cycles through them is not answered for ever.
    | {Reply.STOPPED, Reply.WELCOME}
)


class Shape(StrEnum):
    """How a text came: only a plain one, from one person to one number, can carry a guess."""

    PLAIN = "plain"
    MEDIA = "media"
    GROUP = "group"


class Answered(StrEnum):
    """A keyword that the carrier has answered by itself, so that we stay silent."""

    STOP = "stop"
    START = "start"
    OTHER = "other"


_INVITING = frozenset(
    {Reply.STATUS, Reply.STATUS_FAILED, Reply.NO_CODE, Reply.EXPIRED, Reply.HINT, Reply.WELCOME}
    | {Reply.WAIT}
)
"""Texts that say: text VERIFY, or RESEND."""
_STATUS_OF = {
    CodeText.QUEUED: Reply.STATUS_QUEUED,
    CodeText.SENT: Reply.STATUS_SENT,
    CodeText.FAILED: Reply.STATUS_FAILED,
}


@dataclass(frozen=True, slots=True)
class Said:
    """What a person texted."""

    text: str
    shape: Shape = Shape.PLAIN
    answered: Answered | None = None


@dataclass(frozen=True, slots=True)
class Blocked:
    """The carrier refuses to text this person, who told it to stop (Telnyx error 40300)."""

    code: str


@dataclass(frozen=True, slots=True)
class Message:
    """A text to be sent. `token` is the one whose code takes the placeholder's place.

    `send_by` is the time (UTC) after which it is not to be sent any more.
    """

    reply: Reply
    body: str
    send_by: datetime
    token: Token | None = None


class Cancel(StrEnum):
    """Which texts still queued for this conversation are not to leave any more."""

    NOTHING = "nothing"
    CODES = "codes"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Decision:
    """What an event leads to: what to remember, what to cancel, and then what to send.

    A new or changed token is `conversation.token`.
    """

    conversation: Conversation
    ledger: Ledger
    cancel: Cancel = Cancel.NOTHING
    message: Message | None = None


def decide(  # noqa: PLR0913 - all that a pure decision rests on is handed to it, by name
    conversation: Conversation,
    ledger: Ledger,
    happened: Said | Blocked,
    *,
    now: datetime,
    policy: Policy,
    keyring: Keyring,
    fresh_id: str,
) -> Decision:
    """Decide what one event leads to.

    `now` is UTC; `fresh_id` is an unguessable 128-bit name for a token, used where one is issued.
    """
    turn = _Turn(conversation, within_bounds(ledger, now), now, policy, keyring, fresh_id)
    turn.notice_time()
    turn.make(turn.perceive(happened))
    return Decision(turn.conversation, turn.ledger, turn.cancel, turn.message)


@dataclass(slots=True)
class _Turn:
    """One event being decided: what is known, as it changes on the way."""

    conversation: Conversation
    ledger: Ledger
    now: datetime
    policy: Policy
    keyring: Keyring
    fresh_id: str
    cancel: Cancel = Cancel.NOTHING
    message: Message | None = None
    code_expired: bool = field(default=False, init=False)
    wording: str = field(default="", init=False)

    @property
    def state(self) -> State:
        return self.conversation.state

    @property
    def live_token(self) -> Token | None:
        token = self.conversation.token
        if token is None or token.key_id not in self.keyring or not token.works_at(self.now):
            return None
        return token if self.ledger.honours(token, self.now) else None

    def notice_time(self) -> None:
        """Make the moves that time alone has made due."""
        if self.state is State.OPTED_OUT:
            return
        if self.ledger.locked_at(self.now):
            if self.state is not State.LOCKED:
                self.make(Event.LOCKED_ELSEWHERE)
        elif self.state is State.LOCKED:
            self.make(Event.LOCK_ENDED)
        elif self.state is State.AWAITING_CODE and self.live_token is None:
            self.make(Event.CODE_EXPIRED)
            self.code_expired = True

    def perceive(self, happened: Said | Blocked) -> Event:
        if isinstance(happened, Blocked):
            self.wording = happened.code
            return Event.STOPPED_AT_CARRIER
        self.wording = _without_codes(happened.text)[:_WORDING_LONGEST]
        match happened.answered:
            case Answered.STOP:
                return Event.STOPPED_AT_CARRIER
            case Answered.START:
                return Event.STARTED_AT_CARRIER
            case Answered.OTHER:
                return Event.ANSWERED
        return self._perceive_text(happened.shape, understand(happened.text, self._code_format()))

    def _perceive_text(self, shape: Shape, understood: Understood) -> Event:  # noqa: PLR0911
        if shape is Shape.GROUP and understood.intent is not Intent.STOP:
            return Event.NOT_FOR_US
        match understood.intent:
            case Intent.VERIFY:
                return self._perceive_asking()
            case Intent.RESEND:
                nothing_began = self.state in (State.IDLE, State.VERIFIED)
                if nothing_began and not self.code_expired:
                    return Event.RESEND_WITHOUT_CODE
                return self._perceive_asking()
            case Intent.GUESS if shape is Shape.PLAIN:
                return self._perceive_guess(understood.guess)
            case Intent.MISTYPED if self.state is State.AWAITING_CODE:
                return Event.GUESS_MISTYPED
            case intent:
                return _EVENT_OF.get(intent, Event.CHATTER)

    def _perceive_asking(self) -> Event:
        token = self.live_token
        if self.state in (State.LOCKED, State.OPTED_OUT):
            return Event.CODE_ASKED
        if token is not None and self.now < token.resend_after:
            return Event.ASKED_TOO_SOON
        free_at = self.policy.next_code_at(self.ledger)
        if free_at is not None and self.now < free_at:
            told = self.ledger.told_until is not None and self.now < self.ledger.told_until
            return Event.ASKED_TOO_OFTEN_AGAIN if told else Event.ASKED_TOO_OFTEN
        return Event.CODE_ASKED if token is None else Event.CODE_ASKED_AGAIN

    def _perceive_guess(self, guess: str) -> Event:
        if self.code_expired:
            return Event.GUESS_TOO_LATE
        token = self.conversation.token
        if token is not None and token.used_at is not None and self._matches(guess, token):
            return Event.GUESS_USED
        if self.state is not State.AWAITING_CODE or token is None:
            return Event.GUESS_WITHOUT_CODE
        if not self._tries_left():
            return Event.LAST_GUESS_WRONG
        self._count_guess(token)
        if self._matches(guess, token):
            return Event.GUESS_RIGHT
        return Event.GUESS_WRONG if self._tries_left() else Event.LAST_GUESS_WRONG

    def _count_guess(self, token: Token) -> None:
        self._keep(token=replace(token, guesses=token.guesses + 1))
        self.ledger = replace(self.ledger, wrong_guesses=self.ledger.wrong_guesses + 1)

    def _matches(self, guess: str, token: Token) -> bool:
        conversation = self.conversation
        return self.keyring.matches(guess, token, conversation.bot_number, conversation.phone)

    def _tries_left(self) -> int:
        return self.policy.tries_left(self.ledger, self.conversation.token)

    def make(self, event: Event) -> None:
        """Let the table move; a pair that is not in it changes nothing."""
        move = TABLE.get((self.state, event))
        if move is None:
            return
        for action in move.actions:
            _ACTIONS[action](self)
        self._keep(state=move.to)
        if move.reply is not None:
            self._say(move.reply)

    def issue_code(self) -> None:
        issued = Token(
            id=self.fresh_id,
            key_id=self.keyring.signing_key_id,
            format=self.policy.code_format,
            issued_at=self.now,
            expires_at=self.now + self.policy.code_lifetime,
            resend_after=self.now,
        )
        self._keep(token=issued)
        self.repeat_code()

    def repeat_code(self) -> None:
        token = self._token()
        self._keep(
            token=replace(
                token,
                resend_after=self.now + self.policy.resend_cooldown,
                text=CodeText.QUEUED,
            ),
            hints=0,
            answers=0,
        )
        times = code_times_with(self.ledger.code_times, self.now)
        self.ledger = replace(self.ledger, code_times=times)

    def end_code(self) -> None:
        token = self.conversation.token
        if token is not None and token.used_at is None and token.ended_at is None:
            self._keep(token=replace(token, ended_at=self.now))
            self.cancel = Cancel.CODES

    def record_success(self) -> None:
        self._keep(
            token=replace(self._token(), used_at=self.now),
            verified_at=self.now,
            hints=0,
            answers=0,
        )
        self.ledger = replace(self.ledger, wrong_guesses=0, locks=0)
        self.cancel = Cancel.CODES

    def lock(self) -> None:
        length = lock_length(self.ledger.locks)
        self.ledger = replace(
            self.ledger,
            wrong_guesses=0,
            locks=self.ledger.locks + 1,
            locked_until=self.now + length,
        )

    def refuse_codes(self) -> None:
        self.ledger = replace(self.ledger, refused_until=self.now + REFUSAL)

    def remember_wait_told(self) -> None:
        self.ledger = replace(self.ledger, told_until=self._verify_works_at())

    def clear_cooldown(self) -> None:
        self._keep(token=replace(self._token(), resend_after=self.now))

    def opt_out(self) -> None:
        self._keep(opted_out_at=self.now, opt_out_wording=self.wording)
        self.cancel = Cancel.ALL

    def _token(self) -> Token:
        token = self.conversation.token
        if token is None:
            raise ValueError("the table made a move on a code where there is none")
        return token

    def _keep(self, **facts: Any) -> None:
        self.conversation = replace(self.conversation, **facts)

    def _say(self, reply: Reply) -> None:
        if not self._within_courtesy(reply):
            return
        told = self._true_now(reply)
        if told is None:
            return
        reply = told
        token = self.conversation.token if reply is Reply.CODE else None
        body = compose(
            reply,
            app=self.policy.app_name,
            support=self.policy.support_contact,
            code_length=self._code_format().length,
            hexadecimal=self._code_format().alphabet is Alphabet.HEX,
            wait=self._until(self._verify_works_at()),
            life=self._life(),
            tries=self._tries_left(),
            since=self.conversation.verified_at,
        )
        send_by = token.expires_at if token else self.now + TEXT_LIFETIME
        self.message = Message(reply, body, send_by, token)

    def _true_now(self, reply: Reply) -> Reply | None:
        """Choose the text that is true: none invites to what would be refused, or was already."""
        asked = reply in (Reply.STATUS, Reply.WAIT, Reply.WELCOME)
        token = self.live_token
        failed = token is not None and token.text is CodeText.FAILED
        if reply is Reply.STATUS:
            reply = self._status()
        if reply is Reply.WAIT_CODE and failed:
            return Reply.WAIT
        if reply not in _INVITING or self._until(self._verify_works_at()) <= timedelta():
            return reply
        if self.ledger.locked_at(self.now):
            return Reply.STATUS_LOCKED
        told_until = self.ledger.told_until
        if not asked and told_until is not None and self.now < told_until:
            return None
        self.remember_wait_told()
        return Reply.WAIT

    def _within_courtesy(self, reply: Reply) -> bool:
        """Keep robots from talking to us for ever; what moves things forward is never held back."""
        said = self.conversation
        if reply in _HINTS:
            hints = 0 if self._long_ago(said.hinted_at) else said.hints
            if hints >= HINTS_IN_A_ROW:
                return False
            self._keep(hints=hints + 1, hinted_at=self.now)
            return True
        if reply in _ANSWERS:
            answers = 0 if self._long_ago(said.answered_at) else said.answers
            if answers >= ANSWERS_IN_A_ROW:
                return False
            self._keep(answers=answers + 1, answered_at=self.now)
        if said.hints < HINTS_IN_A_ROW:
            self._keep(hints=0)
        return True

    def _long_ago(self, last: datetime | None) -> bool:
        return last is None or not last <= self.now < last + COURTESY_SILENCE

    def _status(self) -> Reply:
        token = self.live_token
        if token is not None:
            return _STATUS_OF[token.text]
        locked = self.ledger.locked_at(self.now)
        verified = self.conversation.verified_at is not None and not locked
        return Reply.STATUS_VERIFIED if verified else Reply.STATUS

    def _code_format(self) -> CodeFormat:
        token = self.live_token
        return token.format if token else self.policy.code_format

    def _verify_works_at(self) -> datetime | None:
        """Tell when VERIFY brings a new code: after any lock, refusal and limit; None is now."""
        ends = (self.ledger.locked_until, self.policy.next_code_at(self.ledger))
        return max((end for end in ends if end is not None), default=None)

    def _life(self) -> timedelta:
        """Tell what is left of the code's life, never more than there is."""
        token = self.live_token
        left = self._until(token.expires_at if token else None)
        return left - left % (_MINUTE if left >= _MINUTE else _SECOND)

    def _until(self, moment: datetime | None) -> timedelta:
        return moment - self.now if moment else timedelta()


def _without_codes(text: str) -> str:
    """Leave out of a wording whatever may be a code: none is ever stored."""
    masked = ("…" if _MAY_BE_CODE.search(visible_part(word)) else word for word in text.split())
    return " ".join(masked)


_ACTIONS: Mapping[Action, Callable[[_Turn], None]] = {
    Action.ISSUE_CODE: _Turn.issue_code,
    Action.REPEAT_CODE: _Turn.repeat_code,
    Action.END_CODE: _Turn.end_code,
    Action.RECORD_SUCCESS: _Turn.record_success,
    Action.LOCK: _Turn.lock,
    Action.REFUSE_CODES: _Turn.refuse_codes,
    Action.REMEMBER_WAIT_TOLD: _Turn.remember_wait_told,
    Action.CLEAR_COOLDOWN: _Turn.clear_cooldown,
    Action.OPT_OUT: _Turn.opt_out,
}

_EVENT_OF: Mapping[Intent, Event] = {
    Intent.STATUS: Event.STATUS,
    Intent.HELP: Event.HELP,
    Intent.NOT_ME: Event.NOT_ME,
    Intent.START: Event.START,
    Intent.STOP: Event.STOP,
    Intent.REACTION: Event.NOT_FOR_US,
    Intent.THANKS: Event.NOT_FOR_US,
}
