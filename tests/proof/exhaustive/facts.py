"""The facts that the rules read, in a form in which equal facts behave alike from now on.

All moments are relative to `NOW`. What is merged, and why that is sound:

- A moment that has passed is one value: the rules compare a moment only with the time. The end of a
  past lock is also compared with the time of issue of each code that a reply alone completes, so
  such a code that was issued before it is kept as `TOO_OLD`, and all others as younger.
- The number of locks is left out, because `max_lock` makes all locks equally long.
- Growth and closing are off in all scopes, so the failures and the times of wrong comparisons are
  left out. `tests/conversation/test_channels.py` and `test_guessing.py` check both.
- Codes texted more than a day ago are left out: no window contains them.
- An ended token is left out after its expiry: two rules refuse it then. A used one is kept while
  its code is recognized. Of both, and of a token that a lock has ended, the guesses and the
  cooldown are left out: only a code that works is compared or sent again.
- Nothing refers to a token or verification that is left out, so the next one gets the same name.
- A count of courtesy replies whose pause is over is zero: the next reply sets it to one in both
  cases. If courtesy is not limited, the counts and times are left out.
- The time of the last success, STOP and START is only whether there was one: inputs of this check
  refer to these times themselves ("a START as old as the last STOP"). Where NOT ME can be texted,
  the time of a success is kept as long as NOT ME reaches back, and that of NOT ME as long as it is
  remembered. Of the NOT MEs only so many are counted as there are lengths of refusals.
- The wording of an opt-out is never read.
- Tokens of verifications are left out when an idle conversation is loaded, as the store does.
- A code text that is queued and one that was sent are the same: only the wording of STATUS differs.
- The two numbers of the bot are interchangeable: the rules do not compare numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from bot.conversation import person as person_rules
from bot.conversation.person import NOTHING_KNOWN, Person
from bot.conversation.policy import COURTESY_PERIOD
from bot.conversation.state import Conversation, PhoneLimits, State, Token
from bot.conversation.verification import Origin
from tests.proof.exhaustive.scopes import HOUR, LONG_AGO, NOW, NUMBERS, PHONE, QUARTER, UNLIMITED

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime, timedelta

    from tests.proof.exhaustive.scopes import Scope

TOO_OLD = LONG_AGO - HOUR
"""The time of issue of a code that a lock has ended since."""
OWN = "own"
"""The id of a token that the person requested."""
_NOTHING = NOW - NOW


class Side(Struct, frozen=True):
    """A conversation and its person, and what the person knows without the bot's own records.

    Both numbers have the same person. `opted_out` is whether the last STOP or START that counts was
    a STOP, or the carrier blocks this number; `confirmed` is whether it was confirmed.
    """

    conversation: Conversation
    person: Person = NOTHING_KNOWN
    opted_out: bool = False
    confirmed: bool = False


def tokens_of(conversation: Conversation) -> tuple[Token, ...]:
    """Return all tokens, the person's own first."""
    own, others = conversation.token, conversation.verification_tokens
    return others if own is None else (own, *others)


def is_spent(token: Token) -> bool:
    """Return whether a token was used or ended; the rules have a question of their own for it."""
    return token.used_at is not None or token.ended_at is not None


def held_by(side: Side) -> set[str | None]:
    """Return the names of the verifications that have a token at a number."""
    return {token.verification for token in side.conversation.verification_tokens}


def as_loaded(conversation: Conversation, now: datetime) -> Conversation:
    """Return a conversation as `bot.store` loads it later: without tokens that no longer matter."""
    tokens = conversation.verification_tokens
    if not tokens:
        return conversation
    kept = () if conversation.state is State.IDLE else tokens
    kept = tuple(token for token in kept if not is_spent(token) or token.expires_at > now)
    return conversation if kept == tokens else replace(conversation, verification_tokens=kept)


def merged_side(side: Side, limits: PhoneLimits, now: datetime, scope: Scope) -> Side:
    """Return the facts of one number as they look at `now`, with all moments relative to `NOW`."""
    old = as_loaded(side.conversation, now)
    locked_until = limits.locked_until
    past_lock = locked_until if locked_until is not None and locked_until <= now else None
    own = old.token
    kept = [
        merged
        for token in old.verification_tokens
        if (merged := _merged_token(token, past_lock, now)) is not None
    ]
    # Only of those not spent, the newest last, does the order matter.
    kept.sort(key=lambda token: (not is_spent(token), token.id if is_spent(token) else ""))
    new = Conversation(
        NUMBERS[0],
        PHONE,
        old.state,
        None if own is None else _merged_token(own, past_lock, now),
        blocked_at=old.blocked_at and LONG_AGO,
        verification_tokens=tuple(kept),
    )
    facts: dict[str, object] = {}
    if scope.counts_courtesy:
        facts |= _merged_courtesy("hints", "hinted_at", old.hints, old.hinted_at, now)
        facts |= _merged_courtesy("answers", "answered_at", old.answers, old.answered_at, now)
    return Side(
        replace(new, **facts) if facts else new,
        merged_person(side.person, now, scope),
        side.opted_out,
        side.confirmed,
    )


def merged_person(person: Person, now: datetime, scope: Scope) -> Person:
    """Return a person as it looks at `now`, with all moments relative to `NOW`."""
    stopped_at = person.opted_out_at if scope.old_texts else None
    # Whether a START is on record decides what a block by the carrier means.
    started_at = None if person.opted_out else person.opted_in_at
    merged = Person(
        person.opted_out,
        stopped_at and LONG_AGO,
        started_at and LONG_AGO,
        verified_at=person.verified_at and LONG_AGO,
    )
    return _with_not_me(merged, person, now) if scope.not_me else merged


def _with_not_me(merged: Person, person: Person, now: datetime) -> Person:
    """Add what NOT ME has changed, and what the next one depends on."""
    reach, memory = person_rules.NOT_ME_REACH, person_rules.NOT_ME_MEMORY
    alone = _recent(person.verified_alone_at, now, reach)
    cancelled = _recent(person.cancelled_at, now, reach)
    own = _recent(person.own_code_at, now, person_rules.OWN_CODE_INTERVAL)
    said_at, count = person.not_me_at, min(person.not_mes, len(person_rules.FORM_REFUSALS))
    if said_at is None or now - said_at > memory:
        said_at, count = None, 0
    else:
        ended = person.refused_until(Origin.APP) is None
        said_at = NOW - (now - said_at)
        # A success that has ended the refusal stays as late as the NOT ME.
        alone = max(alone or said_at, said_at) if ended else alone
    return replace(
        merged,
        verified_at=_recent(person.verified_at, now, reach),
        verified_alone_at=alone,
        not_me_at=said_at,
        not_mes=count,
        cancelled_at=None if cancelled == LONG_AGO else cancelled,
        own_code_at=None if own == LONG_AGO else own,
    )


def _recent(moment: datetime | None, now: datetime, period: timedelta) -> datetime | None:
    """Return a moment relative to `NOW`, or `LONG_AGO` if a period has passed since it."""
    if moment is None:
        return None
    return LONG_AGO if moment + period <= now else NOW - (now - moment)


def _merged_courtesy(
    count_name: str, time_name: str, count: int, last: datetime | None, now: datetime
) -> dict[str, object]:
    if not count or last is None or last + COURTESY_PERIOD <= now:
        return {}
    return {count_name: count, time_name: NOW - (now - last)}


def _merged_token(token: Token, past_lock: datetime | None, now: datetime) -> Token | None:
    same = Token(
        id=token.id if token.verification else OWN,
        key_id=token.key_id,
        format=token.format,
        issued_at=LONG_AGO,
        expires_at=NOW + max(token.expires_at - now, _NOTHING),
        resend_after=NOW,
        verification=token.verification,
        origin=token.origin,
        reply_rule=token.reply_rule,
        letters_index=token.letters_index,
    )
    if token.used_at is not None:
        return replace(same, used_at=LONG_AGO)
    if token.expires_at <= now:
        return same if token.ended_at is None else None
    if token.ended_at is not None:
        return replace(same, ended_at=LONG_AGO)
    if past_lock is not None and token.issued_at < past_lock and token.awaits_code_alone:
        return replace(same, issued_at=TOO_OLD)
    return replace(
        same,
        resend_after=NOW + max(token.resend_after - now, _NOTHING),
        guesses=token.guesses,
        text=token.text,
        explained=token.explained,
    )


def merged_limits(limits: PhoneLimits, now: datetime, scope: Scope) -> PhoneLimits:
    """Return the limits of a channel as they look at `now`, with all moments relative to `NOW`."""
    longest = scope.day if scope.policy.codes_per_day < UNLIMITED else HOUR
    return PhoneLimits(
        wrong_guesses=limits.wrong_guesses,
        locked_until=_relative(limits.locked_until, now) or LONG_AGO,
        told_until=_relative(limits.told_until, now),
        code_times=tuple(NOW - (now - time) for time in limits.code_times if time + longest > now),
    )


def _relative(moment: datetime | None, now: datetime) -> datetime | None:
    return None if moment is None or moment <= now else NOW + (moment - now)


def core_of_side(side: Side) -> Side:
    """Return what a decision depends on: of each moment only whether it has passed."""
    conversation = side.conversation
    own, others = conversation.token, conversation.verification_tokens
    return replace(
        side,
        conversation=replace(
            conversation,
            token=own and _core_of_token(own),
            verification_tokens=tuple(map(_core_of_token, others)),
            hinted_at=conversation.hinted_at and _SOME_TIME_AGO,
            answered_at=conversation.answered_at and _SOME_TIME_AGO,
        ),
    )


def _core_of_token(token: Token) -> Token:
    return replace(
        token,
        expires_at=_SOME_LATER_TIME if token.expires_at > NOW else token.expires_at,
        resend_after=_SOME_TIME_LATER if token.resend_after > NOW else token.resend_after,
    )


def restored_side(decided: Side, original: Side) -> Side:
    """Return the side that a decision on the core of `original` leads to."""
    conversation, before = decided.conversation, original.conversation
    tokens = {token.id: token for token in tokens_of(before)}
    own = conversation.token
    facts = {
        name: getattr(before, name)
        for name in ("hinted_at", "answered_at")
        if getattr(conversation, name) == _SOME_TIME_AGO
    }
    restored = replace(
        conversation,
        token=own and _restored_token(own, tokens),
        verification_tokens=tuple(
            _restored_token(token, tokens) for token in conversation.verification_tokens
        ),
        **facts,
    )
    return replace(decided, conversation=restored)


def _restored_token(token: Token, before: Mapping[str, Token]) -> Token:
    facts = {}
    if token.expires_at == _SOME_LATER_TIME:
        facts["expires_at"] = before[token.id].expires_at
    if token.resend_after == _SOME_TIME_LATER:
        facts["resend_after"] = before[token.id].resend_after
    return replace(token, **facts) if facts else token


def core_of_limits(limits: PhoneLimits, scope: Scope) -> PhoneLimits:
    """Return what a decision depends on: of each moment only whether it has passed.

    The times of codes are replaced by others, which leave the next code free or not free.
    """
    blocked = code_free_at(limits.code_times, scope) > NOW
    return replace(
        limits,
        told_until=limits.told_until and _ANNOUNCED_TIME,
        code_times=(_SOME_TIME_LATER - HOUR,) * scope.policy.codes_per_hour if blocked else (),
    )


def restored_limits(
    decided: PhoneLimits, core: PhoneLimits, original: PhoneLimits, scope: Scope
) -> PhoneLimits:
    """Return the limits that a decision on `core`, the core of `original`, leads to.

    A wait is announced until nothing refuses a code any longer.
    """
    told_until = original.told_until
    if decided.told_until != core.told_until:
        core_free_at = _SOME_TIME_LATER if core.code_times else None
        ends = decided.locked_until, core_free_at
        if decided.told_until != _latest(*ends):
            raise AssertionError(f"a wait is announced until {decided.told_until}, not {ends}")
        free_at = code_free_at(original.code_times, scope)
        told_until = _latest(decided.locked_until, free_at)
    new_times = decided.code_times[len(core.code_times) :]
    return replace(
        decided,
        told_until=told_until,
        code_times=original.code_times + new_times,
    )


def _latest(*moments: datetime | None) -> datetime | None:
    return max((moment for moment in moments if moment is not None), default=None)


def code_free_at(code_times: tuple[datetime, ...], scope: Scope) -> datetime:
    """Return the first quarter at which another code is within the limits, by counting."""
    at = NOW
    while (
        sum(at - time < HOUR for time in code_times) >= scope.policy.codes_per_hour
        or sum(at - time < scope.day for time in code_times) >= scope.own_codes_per_day
    ):
        at += QUARTER
    return at


_SOME_TIME_AGO = NOW - QUARTER / 2
_SOME_TIME_LATER = NOW + QUARTER / 2
_SOME_LATER_TIME = NOW + QUARTER + QUARTER / 2
_ANNOUNCED_TIME = NOW + QUARTER / 5
"""These stand for any moment on the same side of now; no input leads to one of them."""


def locks_of(limits: PhoneLimits, scope: Scope) -> PhoneLimits:
    """Return what apps depend on: whether the person is locked."""
    ends = PhoneLimits(locked_until=limits.locked_until)
    return core_of_limits(ends, scope)


def moments_of_side(side: Side) -> Iterable[datetime]:
    """Return the moments at which a conversation may begin to behave differently."""
    for token in tokens_of(side.conversation):
        yield token.expires_at
        yield token.resend_after
    for last in (side.conversation.hinted_at, side.conversation.answered_at):
        if last is not None:
            yield last + COURTESY_PERIOD
    yield from _moments_of_person(side.person)


def _moments_of_person(person: Person) -> Iterable[datetime]:
    for success in (person.verified_at, person.verified_alone_at):
        if success is not None and success != LONG_AGO:
            yield success + person_rules.NOT_ME_REACH
    if person.not_me_at is not None:
        yield person.not_me_at + person_rules.NOT_ME_MEMORY
        # At the end of that time the NOT ME is still remembered.
        yield person.not_me_at + person_rules.NOT_ME_MEMORY + QUARTER
        for origin in (Origin.APP, Origin.FORM):
            until = person.refused_until(origin)
            if until is not None:
                yield until
    if person.own_code_at is not None:
        yield person.own_code_at + person_rules.OWN_CODE_INTERVAL


def moments_of_limits(limits: PhoneLimits, scope: Scope) -> Iterable[datetime]:
    """Return the moments at which the limits may begin to behave differently."""
    for end in (limits.locked_until, limits.told_until):
        if end is not None:
            yield end
    for time in limits.code_times:
        yield time + HOUR
        yield time + scope.day


def next_moment(moments: Iterable[datetime]) -> int:
    """Return how many quarters of an hour it is until the next moment; 0 if there is none."""
    later = [moment - NOW for moment in moments if moment > NOW]
    return min(later) // QUARTER if later else 0


def after(quarters: int) -> datetime:
    """Return the time after some quarters of an hour."""
    return NOW + quarters * QUARTER
