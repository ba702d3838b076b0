"""What must be true of every edge: each invariant is a function that returns whether it is.

They are written without the bot's own rules. Counts are independent by induction: each edge must
change a count exactly as what happened requires, and no count begins above zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bot.conversation import person as person_rules
from bot.conversation.actions import Cancel
from bot.conversation.app_events import FINAL_STATUS, EventType
from bot.conversation.inputs import CodeSubmitted, DeliveryFailed, NotMeElsewhere, TimePassed
from bot.conversation.limits import FIRST_LOCK
from bot.conversation.replies import Reply
from bot.conversation.state import State
from bot.conversation.verification import Origin, RequestOutcome
from tests.proof.exhaustive.edges import Edge, make, row_of
from tests.proof.exhaustive.facts import as_loaded, code_free_at, is_spent, tokens_of
from tests.proof.exhaustive.offers import Kind, Offer
from tests.proof.exhaustive.scopes import HOUR, NOW, QUARTER

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from bot.conversation.state import Conversation, PhoneLimits, Token
    from tests.proof.exhaustive.edges import RecordingKeyring
    from tests.proof.exhaustive.facts import Side
    from tests.proof.exhaustive.scopes import Scope

_GUESSES = frozenset({Kind.RIGHT_CODE, Kind.WRONG_CODE})
_CODE_REQUESTS = frozenset({Kind.VERIFY, Kind.RESEND, Kind.REFERENCE})
_APP_CODE_REQUESTS = frozenset({Kind.APP_CODE, Kind.APP_RESEND})
_UNCLEAR = frozenset({Kind.CHATTER, Kind.MISTYPED})
_STATUS = frozenset({Kind.STATUS, Kind.START})

REASONS: Mapping[Reply, frozenset[Kind]] = {
    Reply.CODE: _CODE_REQUESTS | _APP_CODE_REQUESTS,
    Reply.CODE_TYPED: _APP_CODE_REQUESTS,
    Reply.CODE_FORM: frozenset(),
    Reply.CODE_SPENT: _GUESSES,
    Reply.REFERENCE_UNKNOWN: frozenset({Kind.REFERENCE}),
    Reply.REFERENCE_SPENT: frozenset({Kind.REFERENCE}),
    Reply.TYPE_IT: _GUESSES | _STATUS | _UNCLEAR | {Kind.RESEND},
    Reply.WRONG: _GUESSES,
    Reply.WRONG_TYPE_IT: _GUESSES,
    Reply.MISTYPED: frozenset({Kind.MISTYPED}),
    Reply.EXPIRED: _GUESSES,
    Reply.NO_CODE: _GUESSES | {Kind.RESEND},
    Reply.LOCKED: _GUESSES,
    Reply.SUCCESS: frozenset({Kind.RIGHT_CODE}),
    Reply.WAIT: _CODE_REQUESTS | _GUESSES | _UNCLEAR | _STATUS,
    Reply.WAIT_CODE: _CODE_REQUESTS,
    Reply.STATUS: _STATUS,
    Reply.STATUS_QUEUED: _STATUS,
    Reply.STATUS_SENT: _STATUS,
    Reply.STATUS_FAILED: _STATUS,
    Reply.STATUS_VERIFIED: _STATUS,
    Reply.STATUS_LOCKED: _STATUS,
    Reply.HELP: frozenset({Kind.HELP}),
    Reply.HINT: _UNCLEAR,
    Reply.HINT_CODE: _UNCLEAR,
    Reply.NOT_ME: frozenset({Kind.NOT_ME}),
    Reply.NOT_ME_WITHOUT_CODE: frozenset({Kind.NOT_ME}),
    Reply.STOPPED: frozenset({Kind.STOP}),
    Reply.WELCOME: frozenset({Kind.START}),
}
"""The inputs that may get each reply. Nothing else answers a person."""

_WORDINGS: Mapping[Reply, set[Reply]] = {
    Reply.STATUS: {
        Reply.STATUS_QUEUED,
        Reply.STATUS_SENT,
        Reply.STATUS_FAILED,
        Reply.STATUS_VERIFIED,
        Reply.TYPE_IT,
    },
    Reply.CODE: {Reply.CODE_TYPED},
    Reply.NO_CODE: {Reply.TYPE_IT},
    Reply.MISTYPED: {Reply.TYPE_IT},
    Reply.WRONG: {Reply.WRONG_TYPE_IT},
    Reply.HINT: {Reply.HINT_CODE, Reply.TYPE_IT},
    Reply.WAIT: {Reply.WAIT_CODE},
}
"""The other wordings of replies, for the moment."""

_CODES = frozenset({Reply.CODE, Reply.CODE_TYPED})
_INVITING = frozenset(
    {Reply.STATUS, Reply.STATUS_FAILED, Reply.NO_CODE, Reply.EXPIRED, Reply.HINT, Reply.WELCOME}
    | {Reply.CODE_SPENT}
)
_WAITING = frozenset(
    {
        RequestOutcome.TOO_SOON,
        RequestOutcome.TOO_MANY_CODES,
        RequestOutcome.TOO_MANY_GUESSES,
        RequestOutcome.LOCKED,
        RequestOutcome.NOT_ME,
    }
)


def no_success_without_the_right_code(edge: Edge) -> bool:
    """A success needs the right code, in its time, for that phone and request, by that channel."""
    used = edge.used
    verified_at = edge.decision.person.verified_at
    answer = edge.decision.answer
    signs = (
        bool(used),
        verified_at is not None and verified_at not in _successes_before(edge),
        edge.after.conversation.state is State.VERIFIED
        and edge.before.conversation.state is not State.VERIFIED,
        _has_event(edge, EventType.VERIFIED),
        answer is not None and answer.outcome is RequestOutcome.RIGHT,
        edge.reply is Reply.SUCCESS,
    )
    return not any(signs) or _may_succeed(edge)


def the_right_code_succeeds_once(edge: Edge) -> bool:
    """The right code, in its time, succeeds: its token is used now, and no other one."""
    used = edge.used
    if not _may_succeed(edge):
        return not used
    token = edge.offer.code_of
    assert token is not None
    submitted = edge.offer.kind is Kind.SUBMISSION
    answer = edge.decision.answer
    return (
        [each.id for each in used] == [token.id]
        and edge.decision.person.verified_at == edge.now
        and _has_event(edge, EventType.VERIFIED) is (token.verification is not None)
        and (edge.reply is Reply.SUCCESS) is not submitted
        and (answer is not None and answer.outcome is RequestOutcome.RIGHT) is submitted
    )


def nothing_spent_works_again(edge: Edge) -> bool:
    """A token that was used or ended stays as it is."""
    return all(
        token.used_at == before.used_at and token.ended_at == before.ended_at
        for token in edge.changed
        if (before := edge.tokens_before.get(token.id)) is not None and is_spent(before)
    )


def a_compared_guess_is_counted(edge: Edge) -> bool:
    """A guess counts once for each token it is compared with, within its attempts, and no other."""
    compared = {token.id for token in edge.compared if not is_spent(token)}
    for id_, token in edge.tokens_after.items():
        before = edge.tokens_before.get(id_)
        counted = token.guesses - (before.guesses if before else 0)
        if counted != int(id_ in compared) or token.guesses > edge.scope.policy.attempts:
            return False
    return compared <= edge.tokens_after.keys()


def only_guesses_are_compared(edge: Edge) -> bool:
    """Only a guess is compared, with a code that works, and not while its channel is locked."""
    compared = [each for each in edge.compared if not is_spent(each)]
    if not compared:
        return True
    if edge.offer.kind is Kind.SUBMISSION:
        request = edge.offer.incoming
        assert isinstance(request, CodeSubmitted)
        channel_open = not edge.web_limits.locked_at(edge.now)
        right_token = {each.verification for each in compared} == {request.verification}
        return channel_open and right_token and all(_works(edge, each) for each in compared)
    texts_open = not edge.limits.locked_at(edge.now)
    is_guess = edge.offer.kind in _GUESSES
    return is_guess and texts_open and all(_works(edge, each) for each in compared)


def a_reply_is_compared_only_with_what_it_is_for(edge: Edge) -> bool:
    """A code alone is compared only with those asked for by text, one with letters with theirs."""
    if edge.offer.by_app:
        return True
    owner = edge.offer.letters_of
    if _has_letters(edge):
        return {token.id for token in edge.compared} <= ({owner.id} if owner else set())
    return all(token.origin is not Origin.APP for token in edge.compared)


def wrong_guesses_lead_to_a_lock(edge: Edge) -> bool:
    """Wrong guesses in a channel are counted until a lock, with as many attempts at most."""
    submitted = edge.offer.kind is Kind.SUBMISSION
    by_text = _counts_guess(edge, edge.limits, edge.limits_after, here=not submitted)
    by_app = _counts_guess(edge, edge.web_limits, edge.web_limits_after, here=submitted)
    return by_text and by_app


def after_stop_only_one_confirmation(edge: Edge) -> bool:
    """From STOP until START the person gets one confirmation at most, and nothing else."""
    if not edge.after.opted_out:
        return True
    confirmed = edge.before.opted_out and edge.before.confirmed
    begins = not edge.before.opted_out
    return edge.reply is None or (edge.reply is Reply.STOPPED and begins and not confirmed)


def stop_ends_everything(edge: Edge) -> bool:
    """STOP opts out in every state, cancels queued texts, and ends every code."""
    conversation = edge.decision.conversation
    if edge.after.opted_out is not (conversation.state is State.OPTED_OUT):
        return False
    if not edge.after.opted_out:
        return True
    cancels = edge.before.opted_out or edge.decision.cancel is Cancel.ALL
    return cancels and all(is_spent(token) for token in tokens_of(conversation))


def opt_outs_are_reported(edge: Edge) -> bool:
    """Each opt-out and each opt-in of the person is one app event."""
    was, is_now = edge.before.person.opted_out, edge.decision.person.opted_out
    out, in_ = _count(edge, EventType.OPTED_OUT), _count(edge, EventType.OPTED_IN)
    return (out, in_) == (int(is_now and not was), int(was and not is_now))


def each_verification_begins_once(edge: Edge) -> bool:
    """An app hears that a verification is pending when its code is issued, and only then."""
    issued = sorted(
        token.verification
        for id_, token in edge.tokens_after.items()
        if id_ not in edge.tokens_before and token.verification is not None
    )
    events = edge.decision.app_events
    return issued == sorted(str(e.verification) for e in events if e.type is EventType.PENDING)


def each_verification_ends_once(edge: Edge) -> bool:
    """A verification gets one final app event, when its token is used or ended, and no other."""
    ended: dict[str | None, bool] = {
        token.verification: token.used_at is not None
        for token in edge.used + edge.ended
        if token.verification is not None
    }
    final = [event for event in edge.decision.app_events if event.type in FINAL_STATUS]
    return len(final) == len(ended) and all(
        ended.get(event.verification) is (event.type is EventType.VERIFIED) for event in final
    )


def app_events_name_what_they_are_about(edge: Edge) -> bool:
    """An app event is about the number or about a verification that has a token there."""
    tokens = edge.tokens_after.values()
    return all(
        any(token.verification == event.verification for token in tokens)
        if event.verification is not None
        else event.type in {EventType.OPTED_OUT, EventType.OPTED_IN, EventType.NUMBER_REVOKED}
        for event in edge.decision.app_events
    )


def no_pending_verification_is_lost(edge: Edge) -> bool:
    """The token of a pending verification stays known, and is loaded again later."""
    pending = {
        token.id
        for tokens in (edge.tokens_before, edge.tokens_after)
        for token in tokens.values()
        if token.verification is not None and not is_spent(edge.tokens_after.get(token.id, token))
    }
    if not pending:
        return True
    loaded = as_loaded(edge.decision.conversation, edge.now).verification_tokens
    return pending <= {token.id for token in loaded}


def codes_stay_within_the_limits(edge: Edge) -> bool:
    """A channel gets its code texts within an hour's and a day's limit, and each is counted."""
    by_app = edge.offer.kind in _APP_CODE_REQUESTS
    sent = edge.reply in _CODES
    policy, now = edge.scope.policy, edge.now
    for limits, after, counts in (
        (edge.limits, edge.limits_after, sent and not by_app),
        (edge.web_limits, edge.web_limits_after, sent and by_app),
    ):
        if not counts and after.code_times == limits.code_times:
            continue
        recent = _recent(limits, edge)
        if _recent(after, edge) != (*recent, now)[: len(recent) + counts]:
            return False
        in_hour = sum(now - time < HOUR for time in recent)
        in_day = len(recent)
        full = in_hour >= policy.codes_per_hour or in_day >= edge.scope.own_codes_per_day
        if counts and full:
            return False
    return True


def no_code_is_texted_while_refused(edge: Edge) -> bool:
    """No code is texted during a lock, after NOT ME, or for a token that does not work."""
    message = edge.decision.message
    if message is None or message.token is None:
        return True
    token = message.token
    current = edge.tokens_after.get(token.id)
    return (
        edge.reply in _CODES
        and token == current
        and not _is_refused(edge, token.origin)
        and _token_works(token, edge.limits_after, edge.now)
        and message.send_by == token.expires_at
    )


def a_resent_code_is_the_same_and_not_too_soon(edge: Edge) -> bool:
    """A code is sent again only after the cooldown, and its life does not change."""
    before = edge.tokens_before
    message = edge.decision.message
    if message is not None and message.token is not None and message.token.id in before:
        old = before[message.token.id]
        same_life = message.token.expires_at == old.expires_at
        return not is_spent(old) and old.resend_after <= edge.now and same_life
    return all(
        token.expires_at == before[token.id].expires_at
        for token in edge.changed
        if token.id in before
    )


def state_and_facts_agree(edge: Edge) -> bool:
    """A code is awaited if and only if one works and no lock runs, which is shown while it runs."""
    conversation, limits, now = edge.decision.conversation, edge.limits_after, edge.now
    if conversation.state is State.OPTED_OUT:
        return True
    works = any(_token_works(token, limits, now) for token in tokens_of(conversation))
    unspent = any(not is_spent(token) for token in tokens_of(conversation))
    awaiting = conversation.state is State.AWAITING_CODE
    # After a START during a lock, the conversation is locked from its next input on.
    started_here = edge.before.opted_out and edge.offer.kind is not Kind.ELSEWHERE
    locked = limits.locked_at(now) and not started_here
    shown = conversation.state is State.LOCKED
    ended = awaiting or not unspent or (shown and _all_work(conversation, limits, now))
    return awaiting is (works and not locked) and ended and shown is locked


def _all_work(conversation: Conversation, limits: PhoneLimits, now: datetime) -> bool:
    unspent = [token for token in tokens_of(conversation) if not is_spent(token)]
    return all(_token_works(token, limits, now) for token in unspent)


def every_reply_has_a_reason(edge: Edge) -> bool:
    """No reply without an input that may get it, and a row of the table that says so."""
    if edge.reply is None:
        return True
    row = row_of(edge)
    if row is None or row.reply is None or edge.offer.kind not in REASONS[edge.reply]:
        return False
    waits = {Reply.WAIT, Reply.STATUS_LOCKED} if row.reply.invites else set()
    return edge.reply in {row.reply} | _WORDINGS.get(row.reply, set()) | waits


def no_reply_suggests_verify_while_it_is_refused(edge: Edge) -> bool:
    """A reply that suggests VERIFY is sent only if VERIFY would get a code."""
    if edge.reply not in _INVITING:
        return True
    limits, now, policy = edge.limits_after, edge.now, edge.scope.policy
    recent = _recent(limits, edge)
    in_hour = sum(now - time < HOUR for time in recent)
    free = in_hour < policy.codes_per_hour and len(recent) < edge.scope.own_codes_per_day
    refused = edge.decision.person.refuses(Origin.PERSON, now)
    return free and not limits.locked_at(now) and not refused


def courtesy_is_limited(edge: Edge) -> bool:
    """Within an hour no more unclear texts or questions are answered in a row than allowed."""
    conversation, policy = edge.before.conversation, edge.scope.policy
    hint = edge.reply in {Reply.HINT, Reply.HINT_CODE}
    last, count, most = (
        (conversation.hinted_at, conversation.hints, policy.hints_in_a_row)
        if hint
        else (conversation.answered_at, conversation.answers, policy.answers_in_a_row)
    )
    limited = hint or edge.reply in {Reply.HELP, Reply.MISTYPED, Reply.NO_CODE, Reply.NOT_ME}
    limited = limited or edge.reply in {Reply.STOPPED, Reply.WELCOME, Reply.NOT_ME_WITHOUT_CODE}
    paused = count >= most and last is not None and edge.now < last + HOUR
    return not (limited and paused)


def every_app_request_is_answered(edge: Edge) -> bool:
    """A request of an app has an answer, and nothing else has; it is done as its answer says."""
    answer = edge.decision.answer
    if answer is None or not edge.offer.by_app:
        return answer is None and not edge.offer.by_app
    done = answer.outcome is RequestOutcome.DONE
    later = answer.retry_at is not None and answer.retry_at > edge.now
    if later is not (answer.outcome in _WAITING):
        return False
    if edge.offer.kind is Kind.CANCEL:
        return done is _has_event(edge, EventType.CANCELED)
    return done is (edge.reply in _CODES)


def apps_and_texts_have_their_own_limits(edge: Edge) -> bool:
    """No request of an app changes the limits by text, and no text changes those of apps."""
    if edge.offer.by_app:
        return edge.limits_after == edge.limits
    return edge.web_limits_after == edge.web_limits


def an_outdated_text_changes_nothing(edge: Edge) -> bool:
    """A text older than what was decided already does what the passing of time alone does."""
    if edge.offer.kind is not Kind.OUTDATED:
        return True
    kept = edge.decision.person == edge.before.person
    issued = edge.tokens_after.keys() - edge.tokens_before.keys()
    return edge.reply is None and kept and not issued and not edge.compared


def not_me_ends_every_code(edge: Edge) -> bool:
    """NOT ME ends every code and refuses those of others, if there is anything to cancel."""
    decision, now = edge.decision, edge.now
    if isinstance(edge.offer.incoming, NotMeElsewhere):
        return all(is_spent(token) for token in tokens_of(decision.conversation))
    if edge.offer.kind is not Kind.NOT_ME:
        return decision.revoke_since is None
    if not all(is_spent(token) for token in tokens_of(decision.conversation)):
        return False
    if decision.revoke_since is None:
        return decision.person == edge.before.person and not _may_act(edge)
    verified_at = decision.person.verified_at
    revoked = verified_at is None or verified_at <= decision.revoke_since
    return decision.person.refuses(Origin.APP, now) and revoked


def _may_act(edge: Edge) -> bool:
    """Return whether a code works at that number, or the person has succeeded a moment ago."""
    works = any(_works(edge, token) for token in edge.tokens_before.values())
    verified_at = edge.before.person.verified_at
    return works or (verified_at is not None and edge.now - verified_at < QUARTER)


def what_holds_for_the_person_follows_elsewhere(edge: Edge) -> bool:
    """A change of what holds at all numbers is followed at the others; what follows ends there."""
    before, decision = edge.before, edge.decision
    changed = (
        decision.person.opted_out is not before.person.opted_out
        or decision.limits.locked_until != edge.limits.locked_until
        or decision.revoke_since is not None
    )
    if edge.offer.kind is Kind.ELSEWHERE and (changed or edge.reply is not None):
        return False
    return (decision.elsewhere is not None) is changed


def an_undelivered_code_ends_its_verification(edge: Edge) -> bool:
    """A code that has not reached the phone, and will not, ends its verification at once."""
    if not isinstance(edge.offer.incoming, DeliveryFailed):
        return True
    token = edge.tokens_before.get(edge.offer.incoming.token)
    if token is None or token.verification is None:
        return True
    return is_spent(edge.tokens_after[token.id])


def ended_codes_are_cancelled(edge: Edge) -> bool:
    """A text with a code that no longer works must not be sent."""
    spent = edge.used or edge.ended
    return not spent or edge.decision.cancel in {Cancel.CODES, Cancel.ALL}


INVARIANTS: tuple[Callable[[Edge], bool], ...] = (
    no_success_without_the_right_code,
    the_right_code_succeeds_once,
    nothing_spent_works_again,
    a_compared_guess_is_counted,
    only_guesses_are_compared,
    a_reply_is_compared_only_with_what_it_is_for,
    wrong_guesses_lead_to_a_lock,
    after_stop_only_one_confirmation,
    stop_ends_everything,
    opt_outs_are_reported,
    each_verification_begins_once,
    each_verification_ends_once,
    app_events_name_what_they_are_about,
    no_pending_verification_is_lost,
    codes_stay_within_the_limits,
    no_code_is_texted_while_refused,
    a_resent_code_is_the_same_and_not_too_soon,
    state_and_facts_agree,
    every_reply_has_a_reason,
    no_reply_suggests_verify_while_it_is_refused,
    courtesy_is_limited,
    every_app_request_is_answered,
    apps_and_texts_have_their_own_limits,
    an_outdated_text_changes_nothing,
    not_me_ends_every_code,
    what_holds_for_the_person_follows_elsewhere,
    an_undelivered_code_ends_its_verification,
    ended_codes_are_cancelled,
)

_LATER = Offer("time passes", Kind.NO_WORDS, TimePassed())


def every_pending_verification_ends(
    side: Side, limits: PhoneLimits, scope: Scope, keyring: RecordingKeyring
) -> bool:
    """When the last code has expired, the passing of time ends every pending verification."""
    pending = [
        token
        for token in tokens_of(side.conversation)
        if token.verification is not None and not is_spent(token)
    ]
    if not pending:
        return True
    last = max(NOW, *(token.expires_at for token in pending))
    edge = make(side, limits, limits, _LATER, now=last, scope=scope, keyring=keyring)
    final = [e.verification for e in edge.decision.app_events if e.type in FINAL_STATUS]
    return sorted(map(str, final)) == sorted(str(token.verification) for token in pending)


def the_windows_are_free_when_counted(limits: PhoneLimits, scope: Scope) -> bool:
    """The next code is free when a count of the codes of the last hour and day says so."""
    free_at = scope.policy.next_code_at(limits)
    return max(NOW, free_at or NOW) == code_free_at(limits.code_times, scope)


def _count(edge: Edge, event_type: EventType) -> int:
    return sum(event.type is event_type for event in edge.decision.app_events)


def _has_event(edge: Edge, event_type: EventType) -> bool:
    return _count(edge, event_type) > 0


def _token_works(token: Token, limits: PhoneLimits, now: datetime) -> bool:
    """Return whether a code works: in its time, and not ended by a lock since.

    A lock ends only the codes that a reply alone completes.
    """
    if token.used_at is not None or token.ended_at is not None or now >= token.expires_at:
        return False
    before_lock = limits.locked_until is not None and token.issued_at < limits.locked_until
    return not (before_lock and token.origin is not Origin.APP)


def _is_refused(edge: Edge, origin: Origin) -> bool:
    """Return whether NOT ME refuses a code: an app's for an hour, the person's own once a day."""
    person, now = edge.before.person, edge.now
    if origin is not Origin.PERSON or not person.refuses(Origin.FORM, now):
        return person.refuses(origin, now)
    last = person.own_code_at
    return last is not None and now - last < person_rules.OWN_CODE_INTERVAL


def _successes_before(edge: Edge) -> set[datetime | None]:
    return {edge.before.person.verified_at, edge.before.person.verified_alone_at}


def _works(edge: Edge, token: Token) -> bool:
    """Return whether the code of a token worked before an edge."""
    token = edge.tokens_before[token.id]
    return not edge.before.opted_out and _token_works(token, edge.limits, edge.now)


def _may_succeed(edge: Edge) -> bool:
    """Return whether an input carries the right code, for a token that works, in its channel."""
    token, incoming = edge.offer.code_of, edge.offer.incoming
    if token is None or not _works(edge, token):
        return False
    if isinstance(incoming, CodeSubmitted):
        open_ = not edge.web_limits.locked_at(edge.now)
        return open_ and token.verification == incoming.verification
    if edge.offer.kind is not Kind.RIGHT_CODE or edge.limits.locked_at(edge.now):
        return False
    # A reply completes an app's request only with its letters, any other one only without.
    by_letters = edge.offer.letters_of is token
    return by_letters if token.origin is Origin.APP else not _has_letters(edge)


def _counts_guess(edge: Edge, before: PhoneLimits, after: PhoneLimits, *, here: bool) -> bool:
    """Return whether a channel's count and lock change as they must; `here` if it was used."""
    compared = here and (
        any(not is_spent(each) for each in edge.compared) or _has_letters_of_no_request(edge)
    )
    if compared and not edge.used:
        if after.locked_until != before.locked_until:
            return after.locked_until == edge.now + FIRST_LOCK and after.wrong_guesses == 0
        counted = after.wrong_guesses == before.wrong_guesses + 1
        return counted and after.wrong_guesses < edge.scope.policy.attempts
    expected = 0 if compared else before.wrong_guesses
    return after.wrong_guesses == expected and after.locked_until == before.locked_until


def _has_letters_of_no_request(edge: Edge) -> bool:
    """Return whether a code has letters that no live request has, while some code works."""
    owner = edge.offer.letters_of
    used_again = owner is not None and owner.used_at is not None and edge.offer.code_of is owner
    if edge.offer.by_app or used_again or (owner is not None and _works(edge, owner)):
        return False
    return _has_letters(edge)


def _has_letters(edge: Edge) -> bool:
    """Return whether the letters of a reply count: only while a live request has some."""
    tokens = edge.tokens_before.values()
    shown = any(token.origin is Origin.APP and _works(edge, token) for token in tokens)
    return bool(edge.offer.letters) and shown and not edge.limits.locked_at(edge.now)


def _recent(limits: PhoneLimits, edge: Edge) -> tuple[datetime, ...]:
    """Return the times of the codes of the last day."""
    return tuple(time for time in limits.code_times if edge.now - time < edge.scope.day)
