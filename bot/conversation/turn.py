"""One event being decided: what is known, as it changes on the way."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from bot.conversation.machine import Action, Event
from bot.conversation.policy import MAX_CLOCK_SKEW, NOT_ME_PERIOD, code_times_with, lock_length
from bot.conversation.state import CodeDelivery, Conversation, PhoneLimits, State, Token
from bot.conversation.verification import (
    AppAnswer,
    AppEvent,
    EventType,
    Origin,
    Reason,
    RequestOutcome,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from bot.conversation.codes import Keyring
    from bot.conversation.policy import Policy
    from bot.conversation.replies import Reply
    from bot.conversation.state import CodeFormat


class Message(Struct, frozen=True):
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
    """Those with a code that works no more."""
    ALL = "all"


_WHY_ENDED: Mapping[Event, Reason] = {
    Event.GUESS_WRONG: Reason.TOO_MANY_GUESSES,
    Event.GUESS_WRONG_CODES_SPENT: Reason.TOO_MANY_GUESSES,
    Event.LAST_GUESS_WRONG: Reason.TOO_MANY_GUESSES,
    Event.LOCKED_ELSEWHERE: Reason.TOO_MANY_GUESSES,
    Event.LAST_TYPED_WRONG: Reason.TOO_MANY_GUESSES,
    Event.NOT_ME: Reason.NOT_ME,
    Event.STOP: Reason.OPTED_OUT,
    Event.STOPPED_AT_CARRIER: Reason.OPTED_OUT,
    Event.CODE_UNDELIVERABLE: Reason.UNDELIVERABLE,
}


@dataclass(slots=True)
class Turn:
    """What is known of one conversation, and what has come of the event so far.

    `focus` is the verification whose token is dealt with; None is the person's own. `by_app` tells
    that the app's asking pays for a code, not the person's.
    """

    conversation: Conversation
    limits: PhoneLimits
    web_limits: PhoneLimits
    now: datetime
    policy: Policy
    keyring: Keyring
    fresh_id: str
    event: Event = field(default=Event.NOTHING, init=False)
    focus: str | None = field(default=None, init=False)
    origin: Origin = field(default=Origin.PERSON, init=False)
    by_app: bool = field(default=False, init=False)
    cancel: Cancel = field(default=Cancel.NOTHING, init=False)
    message: Message | None = field(default=None, init=False)
    news: list[AppEvent] = field(default_factory=list, init=False)
    answer: AppAnswer | None = field(default=None, init=False)
    code_expired: bool = field(default=False, init=False)
    wording: str = field(default="", init=False)
    received_at: datetime = field(init=False)

    def __post_init__(self) -> None:
        """Take what has no time of its own to have happened now."""
        self.received_at = self.now

    @property
    def state(self) -> State:
        """Return where the conversation stands."""
        return self.conversation.state

    @property
    def tokens(self) -> tuple[Token, ...]:
        """Return all tokens that matter, the person's own first."""
        own = self.conversation.token
        return self.conversation.asked if own is None else (own, *self.conversation.asked)

    @property
    def live_tokens(self) -> list[Token]:
        """Return the tokens whose codes can still be guessed."""
        return [token for token in self.tokens if self.is_live(token)]

    @property
    def own_token(self) -> Token | None:
        """Return the live token that the person asked for on their own account."""
        own = self.conversation.token
        return own if own is not None and self.is_live(own) else None

    @property
    def current_token(self) -> Token | None:
        """Return the live token that a person means who names none."""
        return self.own_token or next(iter(reversed(self.live_tokens)), None)

    def live_token_of(self, verification: str) -> Token | None:
        """Return the live token of a verification."""
        return next(
            (token for token in self.live_tokens if token.verification == verification), None
        )

    def is_live(self, token: Token) -> bool:
        """Tell whether a token's code can still be guessed."""
        readable = token.key_id in self.keyring and token.works_at(self.now)
        return readable and self.limits.honours(token, self.now)

    @property
    def token(self) -> Token:
        """Return the token in focus; raises ValueError where there is none."""
        found = next((token for token in self.tokens if token.verification == self.focus), None)
        if found is None:
            raise ValueError("the table made a move on a code where there is none")
        return found

    @property
    def code_format(self) -> CodeFormat:
        """Return the shape of the code that is awaited, or would be."""
        token = self.current_token
        return token.format if token else self.policy.code_format

    def tries_left(self) -> int:
        """Count the wrong guesses the person may still text before the phone is locked."""
        return self.policy.tries_left(self.limits, self.own_token)

    def verify_works_at(self) -> datetime | None:
        """Tell when VERIFY brings a new code: after any lock, refusal and limit; None is now."""
        ends = (self.limits.locked_until, self.policy.next_code_at(self.limits))
        return max((end for end in ends if end is not None), default=None)

    def matches(self, guess: str, token: Token) -> bool:
        """Compare a guess with a token's code in constant time."""
        conversation = self.conversation
        return self.keyring.matches(guess, token, conversation.bot_number, conversation.phone)

    def keep(self, **facts: Any) -> None:
        """Change facts of the conversation."""
        self.conversation = replace(self.conversation, **facts)

    def put(self, token: Token) -> None:
        """Keep a new or changed token in its place."""
        if token.verification is None:
            self.keep(token=token)
            return
        asked = {known.verification: known for known in self.conversation.asked}
        self.keep(asked=tuple((asked | {token.verification: token}).values()))

    def tell(self, occurrence: EventType, token: Token, reason: Reason | None = None) -> None:
        """Have the app told what became of the verification a token belongs to."""
        if token.verification is not None:
            self.news.append(AppEvent(occurrence, token.verification, reason))

    def issue_code(self) -> None:
        """Issue a new token to what is in focus, and send its code."""
        self.put(
            Token(
                id=self.fresh_id,
                key_id=self.keyring.signing_key_id,
                format=self.policy.code_format,
                issued_at=self.now,
                expires_at=self.now + self.policy.code_lifetime,
                resend_after=self.now,
                verification=self.focus,
                origin=self.origin,
            )
        )
        if self.by_app:
            self.tell(EventType.PENDING, self.token)
        self.repeat_code()

    def repeat_code(self) -> None:
        """Send the code in focus, and charge whoever asked for it."""
        again = self.now + self.policy.resend_cooldown
        self.put(replace(self.token, resend_after=again, text=CodeDelivery.QUEUED))
        if self.by_app:
            times = code_times_with(self.web_limits.code_times, self.now)
            self.web_limits = replace(self.web_limits, code_times=times)
        else:
            self.keep(hints=0, answers=0)
            times = code_times_with(self.limits.code_times, self.now)
            self.limits = replace(self.limits, code_times=times)

    def end_codes(self) -> None:
        """End every code."""
        for token in self.tokens:
            self._end(token)

    def end_that_code(self) -> None:
        """End the code in focus."""
        self._end(self.token)

    def end_dead_codes(self) -> None:
        """End the codes that time or too many guesses have made useless."""
        for token in self.tokens:
            if not self.is_live(token) or token.guesses >= self.policy.attempts:
                self._end(token)

    def _end(self, token: Token) -> None:
        if token.spent:
            return
        self.put(replace(token, ended_at=self.now))
        self.cancel = Cancel.CODES
        if self.event is Event.APP_CANCELS:
            self.tell(EventType.CANCELED, token)
        elif token.key_id not in self.keyring or not self._in_its_time(token):
            self.tell(EventType.EXPIRED, token)
        else:
            refused = self.limits.refused_at(self.now)
            because = Reason.NOT_ME if refused else Reason.TOO_MANY_GUESSES
            self.tell(EventType.FAILED, token, _WHY_ENDED.get(self.event, because))

    def _in_its_time(self, token: Token) -> bool:
        return token.issued_at <= self.now < token.expires_at

    def record_success(self) -> None:
        """Use the code in focus up: the number is verified."""
        self.put(replace(self.token, used_at=self.now))
        self.keep(verified_at=self.now, hints=0, answers=0)
        self.cancel = Cancel.CODES
        self.tell(EventType.VERIFIED, self.token)

    def forget_wrong_guesses(self) -> None:
        """Give all tries by text back."""
        self.limits = replace(self.limits, wrong_guesses=0, locks=0)

    def forget_wrong_typing(self) -> None:
        """Give all tries elsewhere back."""
        self.web_limits = replace(self.web_limits, wrong_guesses=0, locks=0)

    def lock(self) -> None:
        """Lock the phone for a while."""
        self.limits = _locked(self.limits, self.now)

    def lock_typing(self) -> None:
        """Refuse what is typed elsewhere for a while, if too much was wrong."""
        if self.web_limits.wrong_guesses >= self.policy.attempts:
            self.web_limits = _locked(self.web_limits, self.now)

    def refuse_codes(self) -> None:
        """Send no new code for a while, whoever asks."""
        until = _latest(self.limits.refused_until, self.received_at + NOT_ME_PERIOD)
        self.limits = replace(self.limits, refused_until=until)

    def remember_wait_told(self) -> None:
        """Note that the person knows how long VERIFY will not work."""
        self.limits = replace(self.limits, told_until=self.verify_works_at())

    def clear_cooldown(self) -> None:
        """Let the current code be sent again at once."""
        token = self.current_token
        if token is not None:
            self.put(replace(token, resend_after=self.now))

    def opt_out(self) -> None:
        """Record that no text is wanted any more."""
        self.keep(opt_out_wording=self.wording)
        self.cancel = Cancel.ALL
        self.news.append(AppEvent(EventType.OPTED_OUT))

    def opt_in(self) -> None:
        """Record that texts are wanted again."""
        self.news.append(AppEvent(EventType.OPTED_IN))

    def remember_stop(self) -> None:
        """Remember when STOP was texted: an earlier START cannot undo it."""
        self.keep(opted_out_at=self._latest_of(self.conversation.opted_out_at))

    def remember_start(self) -> None:
        """Remember when START was texted: an earlier STOP cannot undo it."""
        self.keep(opted_in_at=self._latest_of(self.conversation.opted_in_at))

    def _latest_of(self, known: datetime | None) -> datetime:
        """Choose the later of a time that is known, if it can be, and this text's."""
        latest = self.now + MAX_CLOCK_SKEW
        believed = known if known is not None and known <= latest else None
        return _latest(believed, self.received_at)

    def reply_to_app(
        self,
        outcome: RequestOutcome,
        retry_at: datetime | None = None,
        tries_left: int = 0,
        *,
        counted: bool = True,
    ) -> None:
        """Answer the app."""
        self.answer = AppAnswer(outcome, retry_at, tries_left, counted)


def _latest(known: datetime | None, new: datetime) -> datetime:
    return new if known is None else max(known, new)


def _locked(limits: PhoneLimits, now: datetime) -> PhoneLimits:
    return replace(
        limits,
        wrong_guesses=0,
        locks=limits.locks + 1,
        locked_until=now + lock_length(limits.locks),
    )


ACTIONS: Mapping[Action, Callable[[Turn], None]] = {
    Action.ISSUE_CODE: Turn.issue_code,
    Action.REPEAT_CODE: Turn.repeat_code,
    Action.END_CODES: Turn.end_codes,
    Action.END_THAT_CODE: Turn.end_that_code,
    Action.END_DEAD_CODES: Turn.end_dead_codes,
    Action.RECORD_SUCCESS: Turn.record_success,
    Action.FORGET_WRONG_GUESSES: Turn.forget_wrong_guesses,
    Action.FORGET_WRONG_TYPING: Turn.forget_wrong_typing,
    Action.LOCK: Turn.lock,
    Action.LOCK_TYPING: Turn.lock_typing,
    Action.REFUSE_CODES: Turn.refuse_codes,
    Action.REMEMBER_WAIT_TOLD: Turn.remember_wait_told,
    Action.CLEAR_COOLDOWN: Turn.clear_cooldown,
    Action.OPT_OUT: Turn.opt_out,
    Action.OPT_IN: Turn.opt_in,
    Action.REMEMBER_STOP: Turn.remember_stop,
    Action.REMEMBER_START: Turn.remember_start,
}
