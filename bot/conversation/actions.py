"""Carries out the actions of a transition: a context goes in, its effects come out.

Each action changes the draft of the effects, which nothing outside this module sees.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from bot.conversation.app_events import AppEvent, EventType
from bot.conversation.limits import lock_length
from bot.conversation.policy import MAX_CLOCK_SKEW, NOT_ME_PERIOD
from bot.conversation.state import CodeDelivery, State, Token
from bot.conversation.transitions import Action
from bot.conversation.verification import AppAnswer, Reason, ReplyRule, RequestOutcome

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from bot.conversation.context import Context
    from bot.conversation.guards import Reading
    from bot.conversation.state import PhoneLimits
    from bot.conversation.transitions import Transition


class Cancel(StrEnum):
    """Which queued texts of this conversation must not be sent."""

    NOTHING = "nothing"
    CODES = "codes"
    """Those whose code no longer works."""
    ALL = "all"


class Effects(Struct, frozen=True):
    """The effects of transitions: the context after them, texts to cancel, app events, the answer.

    `answer` is the answer to an app's own request.
    """

    context: Context
    cancel: Cancel = Cancel.NOTHING
    app_events: tuple[AppEvent, ...] = ()
    answer: AppAnswer | None = None


@dataclass(slots=True)
class _Draft:
    """The effects of a transition so far."""

    context: Context
    reading: Reading
    transition: Transition
    cancel: Cancel
    app_events: list[AppEvent]

    @property
    def token(self) -> Token:
        """Return the token that the reading selects; raises ValueError if there is none."""
        token = self.context.token_of(self.reading.verification)
        if token is None:
            raise ValueError("this transition needs a token, but there is none")
        return token

    def put(self, **facts: Any) -> None:
        """Change fields of the context."""
        self.context = replace(self.context, **facts)

    def update(self, **facts: Any) -> None:
        """Change fields of the conversation."""
        self.put(conversation=replace(self.context.conversation, **facts))

    def report(self, event_type: EventType, token: Token, reason: Reason | None = None) -> None:
        """Record an event for the app, if the token belongs to a verification."""
        if token.verification is not None:
            self.app_events.append(AppEvent(event_type, token.verification, reason))

    def count_guess(self) -> None:
        self.context = self.context.with_guess_counted(self.reading.letters)

    def count_submission(self) -> None:
        token, web_limits = self.token, self.context.web_limits
        self.context = replace(
            self.context.with_tokens(replace(token, guesses=token.guesses + 1)),
            web_limits=replace(web_limits, wrong_guesses=web_limits.wrong_guesses + 1),
        )

    def issue_code(self) -> None:
        context, reading = self.context, self.reading
        token = Token(
            id=context.new_token_id,
            key_id=context.keyring.signing_key_id,
            format=context.policy.code_format,
            issued_at=context.now,
            expires_at=context.now + context.policy.code_lifetime,
            resend_after=context.now,
            verification=reading.verification,
            origin=reading.origin,
            reply_rule=reading.reply_rule,
        )
        self.context = context.with_tokens(self._with_own_letters(token))

    def _with_own_letters(self, token: Token) -> Token:
        """Give a new token letters that no other live request of the conversation has."""
        if token.reply_rule is not ReplyRule.LETTERS:
            return token
        taken = {self.context.letters_for(live) for live in self.context.live_tokens}
        while self.context.letters_for(token) in taken:
            token = replace(token, letters_index=token.letters_index + 1)
        return token

    def send_code(self) -> None:
        self._queue_code()
        self.update(hints=0, answers=0)
        context = self.context
        self.put(limits=context.policy.with_code_sent(context.limits, context.now))

    def send_code_for_app(self) -> None:
        self._queue_code()
        context = self.context
        self.put(web_limits=context.policy.with_code_sent(context.web_limits, context.now))

    def _queue_code(self) -> None:
        resend_after = self.context.now + self.context.policy.resend_cooldown
        token = replace(
            self.token, resend_after=resend_after, text=CodeDelivery.QUEUED, explained=False
        )
        self.context = self.context.with_tokens(token)

    def report_pending(self) -> None:
        self.report(EventType.PENDING, self.token)

    def end_codes(self) -> None:
        self._end(*self.context.tokens)

    def end_code(self) -> None:
        self._end(self.token)

    def end_unusable_codes(self) -> None:
        self._end(*(token for token in self.context.tokens if not self.context.is_usable(token)))

    def _end(self, *tokens: Token) -> None:
        for token in tokens:
            if not token.spent:
                self._mark_ended(token)
                self._report_end(token)

    def _mark_ended(self, token: Token) -> None:
        self.context = self.context.with_tokens(replace(token, ended_at=self.context.now))
        if self.cancel is Cancel.NOTHING:
            self.cancel = Cancel.CODES

    def _report_end(self, token: Token) -> None:
        now, keyring = self.context.now, self.context.keyring
        if token.key_id not in keyring or not token.issued_at <= now < token.expires_at:
            self.report(EventType.EXPIRED, token)
            return
        refused = self.context.limits.refused_at(now)
        elsewhere = Reason.NOT_ME if refused else Reason.TOO_MANY_GUESSES
        self.report(EventType.FAILED, token, self.transition.reason or elsewhere)

    def cancel_code(self) -> None:
        self._mark_ended(self.token)
        self.report(EventType.CANCELED, self.token)

    def record_success(self) -> None:
        now = self.context.now
        self.context = self.context.with_tokens(replace(self.token, used_at=now))
        self.update(verified_at=now, hints=0, answers=0)
        self.cancel = Cancel.CODES
        self.report(EventType.VERIFIED, self.token)

    def reset_wrong_guesses(self) -> None:
        self.put(limits=replace(self.context.limits, wrong_guesses=0, locks=0))

    def reset_wrong_submissions(self) -> None:
        self.put(web_limits=replace(self.context.web_limits, wrong_guesses=0, locks=0))

    def lock(self) -> None:
        self.put(limits=self._with_lock(self.context.limits))

    def lock_submissions(self) -> None:
        if self.context.web_limits.wrong_guesses >= self.context.policy.attempts:
            self.put(web_limits=self._with_lock(self.context.web_limits))

    def _with_lock(self, limits: PhoneLimits) -> PhoneLimits:
        until = self.context.now + lock_length(limits.locks, self.context.policy.max_lock)
        return replace(limits, wrong_guesses=0, locks=limits.locks + 1, locked_until=until)

    def refuse_codes(self) -> None:
        until = self._sent_at + NOT_ME_PERIOD
        known = self.context.limits.refused_until
        self.put(limits=replace(self.context.limits, refused_until=max(until, known or until)))

    def clear_cooldown(self) -> None:
        token = self.context.current_token
        if token is not None:
            self.context = self.context.with_tokens(replace(token, resend_after=self.context.now))

    def opt_out(self) -> None:
        self.update(opt_out_wording=self.reading.wording)
        self.cancel = Cancel.ALL
        self.app_events.append(AppEvent(EventType.OPTED_OUT))

    def opt_in(self) -> None:
        self.app_events.append(AppEvent(EventType.OPTED_IN))

    def record_stop(self) -> None:
        """Record when STOP was texted, so that an earlier START cannot undo it."""
        self.update(opted_out_at=self._latest(self.context.conversation.opted_out_at))

    def record_start(self) -> None:
        """Record when START was texted, so that an earlier STOP cannot undo it."""
        self.update(opted_in_at=self._latest(self.context.conversation.opted_in_at))

    @property
    def _sent_at(self) -> datetime:
        return self.reading.sent_at or self.context.now

    def _latest(self, known: datetime | None) -> datetime:
        """Return the later of this text's time and a known one; ignore one from a wrong clock."""
        if known is None or known > self.context.now + MAX_CLOCK_SKEW:
            return self._sent_at
        return max(known, self._sent_at)


_METHODS: Mapping[Action, Callable[[_Draft], None]] = {
    action: getattr(_Draft, action.name.lower()) for action in Action
}


def act(before: Effects, reading: Reading, transition: Transition) -> Effects:
    """Carry out a transition: its actions in their order, then the next state.

    Returns its effects together with those before it.
    """
    draft = _Draft(before.context, reading, transition, before.cancel, [*before.app_events])
    for action in transition.actions:
        _METHODS[action](draft)
    stays = transition.unless_live and draft.context.live_tokens
    state = State.AWAITING_CODE if stays else transition.to
    if state is not before.context.state:
        draft.update(state=state)
    answer = _answer(draft, transition.answer) if transition.answer else None
    return Effects(draft.context, draft.cancel, tuple(draft.app_events), answer)


def _answer(draft: _Draft, outcome: RequestOutcome) -> AppAnswer:
    """Return the answer to an app: when the request may succeed, or how many tries are left."""
    context = draft.context
    if outcome is not RequestOutcome.WRONG:
        return AppAnswer(outcome, _retry_at(draft, outcome))
    locked = context.web_limits.locked_at(context.now)
    tries_left = 0 if locked else context.policy.tries_left(context.web_limits, draft.token)
    counted = Action.COUNT_SUBMISSION in draft.transition.actions
    return AppAnswer(outcome, tries_left=tries_left, counted=counted)


def _retry_at(draft: _Draft, outcome: RequestOutcome) -> datetime | None:
    context = draft.context
    match outcome:
        case RequestOutcome.LOCKED:
            return context.limits.locked_until
        case RequestOutcome.NOT_ME:
            return context.limits.refused_until
        case RequestOutcome.TOO_MANY_CODES:
            return context.policy.next_code_at(context.web_limits)
        case RequestOutcome.TOO_MANY_GUESSES:
            return context.web_limits.locked_until
        case RequestOutcome.TOO_SOON:
            return draft.token.resend_after
        case _:
            return None
