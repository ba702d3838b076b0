"""The state of one decision: the known facts, and how the actions change them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from bot.conversation.app_events import AppEvent, EventType
from bot.conversation.limits import lock_length
from bot.conversation.machine import Action, Event
from bot.conversation.policy import MAX_CLOCK_SKEW, NOT_ME_PERIOD
from bot.conversation.state import CodeDelivery, Conversation, PhoneLimits, State, Token
from bot.conversation.verification import AppAnswer, Origin, Reason, RequestOutcome

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime, timedelta

    from bot.conversation.codes import Keyring
    from bot.conversation.policy import Policy
    from bot.conversation.replies import Reply
    from bot.conversation.state import CodeFormat


class Message(Struct, frozen=True):
    """A text to send; the code of `token` replaces the placeholder in `body`.

    After `send_by` (UTC) the text must not be sent.
    """

    reply: Reply
    body: str
    send_by: datetime
    token: Token | None = None


class Cancel(StrEnum):
    """Which queued texts of this conversation must not be sent."""

    NOTHING = "nothing"
    CODES = "codes"
    """Those whose code no longer works."""
    ALL = "all"


_REASONS: Mapping[Event, Reason] = {
    Event.GUESS_WRONG: Reason.TOO_MANY_GUESSES,
    Event.GUESS_WRONG_CODES_SPENT: Reason.TOO_MANY_GUESSES,
    Event.LAST_GUESS_WRONG: Reason.TOO_MANY_GUESSES,
    Event.LOCKED_ELSEWHERE: Reason.TOO_MANY_GUESSES,
    Event.LAST_SUBMITTED_WRONG: Reason.TOO_MANY_GUESSES,
    Event.NOT_ME: Reason.NOT_ME,
    Event.STOP: Reason.OPTED_OUT,
    Event.STOPPED_AT_CARRIER: Reason.OPTED_OUT,
    Event.CODE_UNDELIVERABLE: Reason.UNDELIVERABLE,
}


@dataclass(slots=True)
class Turn:
    """The facts of one conversation during a decision, and the results so far.

    `verification_id` selects the token to act on; None selects the person's own. If `by_app`, a
    code counts against the limits of apps and the form, not against the person's.
    """

    conversation: Conversation
    limits: PhoneLimits
    web_limits: PhoneLimits
    now: datetime
    policy: Policy
    keyring: Keyring
    new_token_id: str
    event: Event = field(default=Event.NOTHING, init=False)
    verification_id: str | None = field(default=None, init=False)
    origin: Origin = field(default=Origin.PERSON, init=False)
    by_app: bool = field(default=False, init=False)
    cancel: Cancel = field(default=Cancel.NOTHING, init=False)
    message: Message | None = field(default=None, init=False)
    app_events: list[AppEvent] = field(default_factory=list, init=False)
    answer: AppAnswer | None = field(default=None, init=False)
    code_expired: bool = field(default=False, init=False)
    opt_out_wording: str = field(default="", init=False)
    received_at: datetime = field(init=False)

    def __post_init__(self) -> None:
        """Use the time of the decision for inputs without a time of their own."""
        self.received_at = self.now

    @property
    def state(self) -> State:
        """Return the state of the conversation."""
        return self.conversation.state

    @property
    def tokens(self) -> tuple[Token, ...]:
        """Return all relevant tokens, the person's own first."""
        own, others = self.conversation.token, self.conversation.verification_tokens
        return others if own is None else (own, *others)

    @property
    def live_tokens(self) -> list[Token]:
        """Return the tokens whose codes still work."""
        return [token for token in self.tokens if self.is_live(token)]

    @property
    def own_token(self) -> Token | None:
        """Return the live token that the person requested, not an app."""
        own = self.conversation.token
        return own if own is not None and self.is_live(own) else None

    @property
    def current_token(self) -> Token | None:
        """Return the live token for a text that names none: the person's own, else the newest."""
        return self.own_token or next(iter(reversed(self.live_tokens)), None)

    def live_token_of(self, verification_id: str) -> Token | None:
        """Return the live token of a verification."""
        return next(
            (token for token in self.live_tokens if token.verification == verification_id), None
        )

    def is_live(self, token: Token) -> bool:
        """Return whether a token's code still works."""
        works = token.key_id in self.keyring and token.works_at(self.now)
        return works and self.limits.allows(token, self.now)

    @property
    def token(self) -> Token:
        """Return the token of `verification_id`; raises ValueError if there is none."""
        for token in self.tokens:
            if token.verification == self.verification_id:
                return token
        raise ValueError("this transition needs a token, but there is none")

    @property
    def code_format(self) -> CodeFormat:
        """Return the format of the current code, or of the next one."""
        token = self.current_token
        return token.format if token else self.policy.code_format

    def tries_left(self) -> int:
        """Return how many wrong guesses the person may still text before a lock."""
        return self.policy.tries_left(self.limits, self.own_token)

    def verify_works_at(self) -> datetime | None:
        """Return when VERIFY gets a new code: after any lock, NOT ME and limit; None means now."""
        ends = (self.limits.locked_until, self.policy.next_code_at(self.limits))
        return max((end for end in ends if end is not None), default=None)

    def matches(self, guess: str, token: Token) -> bool:
        """Compare a guess with a token's code in constant time."""
        conversation = self.conversation
        return self.keyring.matches(guess, token, conversation.bot_number, conversation.phone)

    def update(self, **facts: Any) -> None:
        """Change fields of the conversation."""
        self.conversation = replace(self.conversation, **facts)

    def put_token(self, token: Token) -> None:
        """Add a new token, or replace a changed one."""
        if token.verification is None:
            self.update(token=token)
            return
        tokens = {known.verification: known for known in self.conversation.verification_tokens}
        tokens[token.verification] = token
        self.update(verification_tokens=tuple(tokens.values()))

    def record_app_event(
        self, event_type: EventType, token: Token, reason: Reason | None = None
    ) -> None:
        """Record an event for the app, if the token belongs to a verification."""
        if token.verification is not None:
            self.app_events.append(AppEvent(event_type, token.verification, reason))

    def issue_code(self) -> None:
        """Issue a new token for `verification_id`, and send its code."""
        self.put_token(
            Token(
                id=self.new_token_id,
                key_id=self.keyring.signing_key_id,
                format=self.policy.code_format,
                issued_at=self.now,
                expires_at=self.now + self.policy.code_lifetime,
                resend_after=self.now,
                verification=self.verification_id,
                origin=self.origin,
            )
        )
        if self.by_app:
            self.record_app_event(EventType.PENDING, self.token)
        self.resend_code()

    def resend_code(self) -> None:
        """Send the code of the selected token, and count it against its requester's limits."""
        resend_after = self.now + self.policy.resend_cooldown
        self.put_token(replace(self.token, resend_after=resend_after, text=CodeDelivery.QUEUED))
        if self.by_app:
            self.web_limits = self.policy.with_code_sent(self.web_limits, self.now)
        else:
            self.update(hints=0, answers=0)
            self.limits = self.policy.with_code_sent(self.limits, self.now)

    def end_codes(self) -> None:
        """End every code."""
        for token in self.tokens:
            self._end(token)

    def end_code(self) -> None:
        """End the code of the selected token."""
        self._end(self.token)

    def end_unusable_codes(self) -> None:
        """End the codes that have expired or had too many guesses."""
        for token in self.tokens:
            if not self.is_live(token) or token.guesses >= self.policy.attempts:
                self._end(token)

    def _end(self, token: Token) -> None:
        if token.spent:
            return
        self.put_token(replace(token, ended_at=self.now))
        self.cancel = Cancel.CODES
        if self.event is Event.APP_CANCELS:
            self.record_app_event(EventType.CANCELED, token)
        elif token.key_id not in self.keyring or not token.issued_at <= self.now < token.expires_at:
            self.record_app_event(EventType.EXPIRED, token)
        else:
            refused = self.limits.refused_at(self.now)
            default = Reason.NOT_ME if refused else Reason.TOO_MANY_GUESSES
            self.record_app_event(EventType.FAILED, token, _REASONS.get(self.event, default))

    def record_success(self) -> None:
        """Mark the selected token as used and the number as verified."""
        self.put_token(replace(self.token, used_at=self.now))
        self.update(verified_at=self.now, hints=0, answers=0)
        self.cancel = Cancel.CODES
        self.record_app_event(EventType.VERIFIED, self.token)

    def reset_wrong_guesses(self) -> None:
        """Give back all tries by text."""
        self.limits = replace(self.limits, wrong_guesses=0, locks=0)

    def reset_wrong_submissions(self) -> None:
        """Give back all tries by the API and the form."""
        self.web_limits = replace(self.web_limits, wrong_guesses=0, locks=0)

    def lock(self) -> None:
        """Lock the phone; each further lock is longer."""
        self.limits = _with_lock(self.limits, self.now, self.policy.max_lock)

    def lock_submissions(self) -> None:
        """Lock submissions by the API and the form after too many wrong ones."""
        if self.web_limits.wrong_guesses >= self.policy.attempts:
            self.web_limits = _with_lock(self.web_limits, self.now, self.policy.max_lock)

    def refuse_codes(self) -> None:
        """Refuse new codes to everyone for the time after NOT ME."""
        until = _latest(self.limits.refused_until, self.received_at + NOT_ME_PERIOD)
        self.limits = replace(self.limits, refused_until=until)

    def record_wait_notice(self) -> None:
        """Record the end of the wait that was announced to the person."""
        self.limits = replace(self.limits, told_until=self.verify_works_at())

    def clear_cooldown(self) -> None:
        """Allow the current code to be sent again at once."""
        token = self.current_token
        if token is not None:
            self.put_token(replace(token, resend_after=self.now))

    def opt_out(self) -> None:
        """Record the opt-out and cancel all queued texts."""
        self.update(opt_out_wording=self.opt_out_wording)
        self.cancel = Cancel.ALL
        self.app_events.append(AppEvent(EventType.OPTED_OUT))

    def opt_in(self) -> None:
        """Record that the person has opted in again."""
        self.app_events.append(AppEvent(EventType.OPTED_IN))

    def record_stop(self) -> None:
        """Record when STOP was texted, so that an earlier START cannot undo it."""
        self.update(opted_out_at=self._latest_of(self.conversation.opted_out_at))

    def record_start(self) -> None:
        """Record when START was texted, so that an earlier STOP cannot undo it."""
        self.update(opted_in_at=self._latest_of(self.conversation.opted_in_at))

    def _latest_of(self, known: datetime | None) -> datetime:
        """Return the later of this text's time and a known one; ignore one from a wrong clock."""
        latest = self.now + MAX_CLOCK_SKEW
        plausible = known if known is not None and known <= latest else None
        return _latest(plausible, self.received_at)

    def reply_to_app(
        self,
        outcome: RequestOutcome,
        retry_at: datetime | None = None,
        tries_left: int = 0,
        *,
        counted: bool = True,
    ) -> None:
        """Set the answer to the app's request."""
        self.answer = AppAnswer(outcome, retry_at, tries_left, counted)


def _latest(known: datetime | None, new: datetime) -> datetime:
    return new if known is None else max(known, new)


def _with_lock(limits: PhoneLimits, now: datetime, longest: timedelta) -> PhoneLimits:
    until = now + lock_length(limits.locks, longest)
    return replace(limits, wrong_guesses=0, locks=limits.locks + 1, locked_until=until)


ACTIONS: Mapping[Action, Callable[[Turn], None]] = {
    Action.ISSUE_CODE: Turn.issue_code,
    Action.RESEND_CODE: Turn.resend_code,
    Action.END_CODES: Turn.end_codes,
    Action.END_CODE: Turn.end_code,
    Action.END_UNUSABLE_CODES: Turn.end_unusable_codes,
    Action.RECORD_SUCCESS: Turn.record_success,
    Action.RESET_WRONG_GUESSES: Turn.reset_wrong_guesses,
    Action.RESET_WRONG_SUBMISSIONS: Turn.reset_wrong_submissions,
    Action.LOCK: Turn.lock,
    Action.LOCK_SUBMISSIONS: Turn.lock_submissions,
    Action.REFUSE_CODES: Turn.refuse_codes,
    Action.RECORD_WAIT_NOTICE: Turn.record_wait_notice,
    Action.CLEAR_COOLDOWN: Turn.clear_cooldown,
    Action.OPT_OUT: Turn.opt_out,
    Action.OPT_IN: Turn.opt_in,
    Action.RECORD_STOP: Turn.record_stop,
    Action.RECORD_START: Turn.record_start,
}
