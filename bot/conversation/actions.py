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
from bot.conversation.channels import FORM, TEXT
from bot.conversation.limits import MAX_CLOCK_SKEW
from bot.conversation.person import NOT_ME_REACH
from bot.conversation.policy import closed, with_success
from bot.conversation.state import CodeDelivery, State, Token
from bot.conversation.transitions import Action
from bot.conversation.verification import AppAnswer, Origin, Reason, ReplyRule, RequestOutcome

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from bot.conversation.channels import Channel
    from bot.conversation.context import Context
    from bot.conversation.guards import Reading
    from bot.conversation.state import CodeFormat
    from bot.conversation.transitions import Transition


class Cancel(StrEnum):
    """Which queued texts of this conversation must not be sent."""

    NOTHING = "nothing"
    CODES = "codes"
    """Those whose code no longer works."""
    ALL = "all"


class Effects(Struct, frozen=True):
    """The effects of transitions: the context after them, texts to cancel, app events, the answer.

    `answer` is the answer to an app's own request. The phone's verifications that succeeded after
    `revoke_since` (UTC) must be revoked.
    """

    context: Context
    cancel: Cancel = Cancel.NOTHING
    app_events: tuple[AppEvent, ...] = ()
    answer: AppAnswer | None = None
    revoke_since: datetime | None = None


@dataclass(slots=True)
class _Draft:
    """The effects of a transition so far."""

    context: Context
    reading: Reading
    transition: Transition
    cancel: Cancel
    app_events: list[AppEvent]
    revoke_since: datetime | None

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

    def update_person(self, **facts: Any) -> None:
        """Change fields of the person."""
        self.put(person=replace(self.context.person, **facts))

    def report(self, event_type: EventType, token: Token, reason: Reason | None = None) -> None:
        """Record an event for the app, if the token belongs to a verification."""
        if token.verification is not None:
            self.app_events.append(AppEvent(event_type, token.verification, reason))

    def count_guess(self) -> None:
        self.context = self.context.with_guess_counted(self.reading.compared)

    def count_submission(self) -> None:
        token, limits = self.token, self.context.channel_limits
        self.context = self.context.with_tokens(replace(token, guesses=token.guesses + 1))
        if self.context.channel != FORM:  # without a lock, there is nothing to count for
            wrong_guesses = limits.wrong_guesses + 1
            self.put(channel_limits=replace(limits, wrong_guesses=wrong_guesses))

    def count_failure(self) -> None:
        context, policy, wrong = self.context, self.context.policy, len(self.reading.compared)
        if context.channel == TEXT:
            self.put(limits=policy.with_failure(context.limits, context.now, wrong))
            return
        self.put(channel_limits=policy.with_failure(context.channel_limits, context.now, wrong))
        if self.token.by_text:
            self.put(limits=policy.with_comparisons(context.limits, context.now, wrong))

    def issue_code(self) -> None:
        context, reading = self.context, self.reading
        token = Token(
            id=context.new_token_id,
            key_id=context.keyring.signing_key_id,
            format=self._new_format(),
            issued_at=context.now,
            expires_at=context.now + context.policy.code_lifetime,
            resend_after=context.now,
            verification=reading.verification,
            origin=reading.origin,
            reply_rule=reading.reply_rule,
            channel=context.channel,
            reference=reading.reference,
            label=reading.label,
        )
        self.context = context.with_tokens(self._with_own_letters(token))

    def _new_format(self) -> CodeFormat:
        """Return the format of a new code: as long as each channel that may guess it requires."""
        context = self.context
        if context.channel == TEXT:
            return context.next_format(context.limits)
        if self.reading.reply_rule is ReplyRule.LETTERS:
            return context.next_format(context.limits, context.channel_limits)
        return context.next_format(context.channel_limits)

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
        if self.token.origin is Origin.PERSON:
            self.put(person=context.person.with_own_code(context.now))

    def send_code_for_app(self) -> None:
        self._queue_code()
        context = self.context
        limits = context.policy.with_code_sent(
            context.limits, context.now, context.class_of_channel
        )
        self.put(limits=limits)

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

    def end_replied_codes(self) -> None:
        self._end(*(token for token in self.context.tokens if token.awaits_code_alone))

    def end_short_codes(self) -> None:
        context = self.context
        typed = context.least_length(context.channel_limits)
        by_text = context.least_length(context.limits)
        self._end(
            *(
                token
                for token in context.tokens
                if (token.channel == context.channel and token.format.length < typed)
                or (token.by_text and token.format.length < by_text)
            )
        )

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
        if token.key_id not in self.context.keyring or not token.is_current_at(self.context.now):
            self.report(EventType.EXPIRED, token)
            return
        reason = self.transition.reason or Reason.TOO_MANY_GUESSES
        self.report(EventType.FAILED, token, reason)

    def cancel_code(self) -> None:
        self._mark_ended(self.token)
        self.report(EventType.CANCELED, self.token)

    def record_success(self) -> None:
        now = self.context.now
        self.context = self.context.with_tokens(replace(self.token, used_at=now))
        self.update(hints=0, answers=0)
        self.update_person(verified_at=now)
        if self.token.origin is Origin.PERSON:
            self.update_person(verified_alone_at=self._sent_at, own_code_at=None)
        self.cancel = Cancel.CODES
        self.report(EventType.VERIFIED, self.token)

    def reset_wrong_guesses(self) -> None:
        self.put(limits=with_success(self.context.limits))

    def reset_wrong_submissions(self) -> None:
        self.put(channel_limits=with_success(self.context.channel_limits))

    def lock(self) -> None:
        context = self.context
        self.put(limits=context.policy.with_lock(context.limits, context.now))
        if context.limits.failures >= context.policy.failures_to_close:
            self.put(limits=replace(self.context.limits, failures=0))
            self._close(TEXT)

    def lock_submissions(self) -> None:
        context, limits = self.context, self.context.channel_limits
        if context.channel == FORM:  # a stranger can use it without any credential
            return
        if limits.wrong_guesses >= context.policy.attempts:
            self.put(channel_limits=context.policy.with_lock(limits, context.now))
        if limits.failures >= context.policy.failures_to_close:
            self.put(channel_limits=replace(self.context.channel_limits, failures=0))
            self._close(context.channel)

    def _close(self, channel: Channel) -> None:
        limits = closed(self.context.limits, channel, self.context.now)
        self.put(limits=limits)
        until = limits.closed_until(channel)
        self.app_events.append(AppEvent(EventType.LOCKED, channel=channel, until=until))

    def open_channels(self) -> None:
        for each in self.context.limits.closed:
            self.app_events.append(AppEvent(EventType.UNLOCKED, channel=each.channel))
        self.put(limits=replace(self.context.limits, closed=()))

    def refuse_codes(self) -> None:
        self.put(person=self.context.person.with_not_me(self._sent_at, self.context.now))

    def revoke_successes(self) -> None:
        since = self.revoke_since = self._sent_at - NOT_ME_REACH
        alone_at = self.context.person.verified_alone_at
        if alone_at is not None and alone_at > since:
            self.app_events.append(AppEvent(EventType.NUMBER_REVOKED))

    def clear_cooldown(self) -> None:
        token = self.context.current_token
        if token is not None:
            self.context = self.context.with_tokens(replace(token, resend_after=self.context.now))

    def opt_out(self) -> None:
        self.update_person(opted_out=True, opt_out_wording=self.reading.wording)
        self.cancel = Cancel.ALL
        self.app_events.append(AppEvent(EventType.OPTED_OUT))

    def cancel_texts(self) -> None:
        self.cancel = Cancel.ALL

    def block_number(self) -> None:
        self.update(blocked_at=self.context.now)

    def opt_in(self) -> None:
        self.update(blocked_at=None)
        if self.context.person.opted_out:
            self.update_person(opted_out=False)
            self.app_events.append(AppEvent(EventType.OPTED_IN))

    def record_stop(self) -> None:
        """Record when STOP was texted, so that an earlier START cannot undo it."""
        self.update_person(opted_out_at=self._latest(self.context.person.opted_out_at))

    def record_start(self) -> None:
        """Record when START was texted, so that an earlier STOP cannot undo it."""
        self.update_person(opted_in_at=self._latest(self.context.person.opted_in_at))

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
    draft = _Draft(
        before.context,
        reading,
        transition,
        before.cancel,
        [*before.app_events],
        before.revoke_since,
    )
    for action in transition.actions:
        _METHODS[action](draft)
    state = _next_state(draft.context, transition)
    if state is not before.context.state:
        draft.update(state=state)
    answer = _answer(draft, transition.answer) if transition.answer else None
    return Effects(draft.context, draft.cancel, tuple(draft.app_events), answer, draft.revoke_since)


def _next_state(context: Context, transition: Transition) -> State:
    if transition.unless_locked and context.limits.locked_at(context.now):
        return State.LOCKED
    stays = transition.unless_live and context.live_tokens
    return State.AWAITING_CODE if stays else transition.to


def _answer(draft: _Draft, outcome: RequestOutcome) -> AppAnswer:
    """Return the answer to an app: when the request may succeed, or how many tries are left."""
    context = draft.context
    if outcome is not RequestOutcome.WRONG:
        return AppAnswer(outcome, _retry_at(draft, outcome))
    locked = context.channel_limits.locked_at(context.now) or context.channel_closed
    tries_left = 0 if locked else context.tries_to_type(draft.token)
    counted = Action.COUNT_SUBMISSION in draft.transition.actions
    return AppAnswer(outcome, tries_left=tries_left, counted=counted)


def _retry_at(draft: _Draft, outcome: RequestOutcome) -> datetime | None:
    context = draft.context
    match outcome:
        case RequestOutcome.LOCKED:
            return context.limits.closed_until(context.channel)
        case RequestOutcome.NOT_ME:
            return context.person.refused_until(draft.reading.origin)
        case RequestOutcome.TOO_MANY_CODES:
            return context.policy.next_code_at(context.limits, context.class_of_channel)
        case RequestOutcome.TOO_MANY_GUESSES:
            return context.channel_limits.locked_until
        case RequestOutcome.TOO_SOON:
            return draft.token.resend_after
        case _:
            return None
