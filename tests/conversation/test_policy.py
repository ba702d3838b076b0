from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from bot.conversation.channels import TEXT
from bot.conversation.limits import MAX_CLOCK_SKEW
from bot.conversation.policy import Policy, clamped
from bot.conversation.state import Alphabet, Closing, CodeFormat, PhoneLimits

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SECOND, MINUTE, HOUR, DAY = (
    timedelta(seconds=1),
    timedelta(minutes=1),
    timedelta(hours=1),
    timedelta(days=1),
)

modest = settings(max_examples=60, deadline=None)


def ago(*lengths: timedelta) -> tuple[datetime, ...]:
    return tuple(NOW - length for length in lengths)


def test_the_defaults_are_the_documented_ones() -> None:
    assert Policy() == Policy(
        code_format=CodeFormat(6, Alphabet.DIGITS),
        code_lifetime=timedelta(minutes=10),
        attempts=5,
        resend_cooldown=timedelta(seconds=30),
        codes_per_hour=5,
        codes_per_day=10,
        app_name="Textproof",
        support_contact="",
    )


def test_a_phone_that_has_had_no_codes_may_have_one_at_once() -> None:
    assert Policy().next_code_at(PhoneLimits()) is None


def test_a_phone_below_both_limits_may_have_a_code_at_once() -> None:
    four = PhoneLimits(code_times=ago(4 * MINUTE, 3 * MINUTE, 2 * MINUTE, MINUTE))

    assert Policy().next_code_at(four) is None


def test_the_hour_counts_from_the_oldest_of_the_codes_that_fill_it() -> None:
    times = ago(55 * MINUTE, 40 * MINUTE, 30 * MINUTE, 20 * MINUTE, 10 * MINUTE)

    assert Policy().next_code_at(PhoneLimits(code_times=times)) == NOW + 5 * MINUTE


def test_codes_older_than_an_hour_do_not_fill_the_hour() -> None:
    times = ago(5 * HOUR, 40 * MINUTE, 30 * MINUTE, 20 * MINUTE, 10 * MINUTE)

    free_at = Policy().next_code_at(PhoneLimits(code_times=times))

    assert free_at is None or free_at <= NOW


def test_the_day_counts_from_the_oldest_of_the_codes_that_fill_it() -> None:
    times = ago(*(hours * HOUR for hours in range(20, 0, -2)))

    assert Policy().next_code_at(PhoneLimits(code_times=times)) == NOW + 10 * HOUR


def test_the_operator_sets_both_limits() -> None:
    times = ago(50 * MINUTE, 10 * MINUTE)

    assert Policy(codes_per_hour=2).next_code_at(PhoneLimits(code_times=times)) == NOW + 10 * MINUTE
    assert Policy(codes_per_day=1).next_code_at(PhoneLimits(code_times=times)) == (
        NOW + DAY - 10 * MINUTE
    )


def test_a_code_text_is_remembered_for_a_day() -> None:
    limits = PhoneLimits(2, code_times=ago(2 * DAY, DAY, DAY - SECOND, HOUR))

    assert Policy().with_code_sent(limits, NOW) == PhoneLimits(
        2, code_times=(*ago(DAY - SECOND, HOUR), NOW)
    )


@modest
@given(
    st.lists(st.integers(min_value=0, max_value=200_000), max_size=40),
    st.integers(min_value=1, max_value=6),
    st.integers(min_value=1, max_value=12),
)
def test_texting_only_when_allowed_never_exceeds_a_limit(
    pauses: list[int], per_hour: int, per_day: int
) -> None:
    policy = Policy(codes_per_hour=per_hour, codes_per_day=per_day)
    limits, now, sent = PhoneLimits(), NOW, list[datetime]()
    for pause in pauses:
        now += pause * SECOND
        free_at = policy.next_code_at(limits)
        if free_at is None or free_at <= now:
            sent.append(now)
            limits = policy.with_code_sent(limits, now)

    for time in sent:
        assert sum(time - HOUR < other <= time for other in sent) <= per_hour
        assert sum(time - DAY < other <= time for other in sent) <= per_day


def test_waits_left_by_a_clock_that_ran_ahead_are_cut_to_the_longest_possible() -> None:
    ahead = NOW + 365 * DAY
    times = NOW - MINUTE, NOW, ahead
    limits = PhoneLimits(
        wrong_guesses=3,
        locks=1,
        locked_until=ahead,
        wrong_times=times,
        told_until=ahead,
        code_times=times,
        key_code_times=times,
        form_code_times=times,
        unknown_reference_times=times,
        closed=(Closing(TEXT, ahead),),
    )

    assert clamped(limits, NOW) == PhoneLimits(
        wrong_guesses=3,
        locks=1,
        locked_until=NOW + DAY,
        wrong_times=(NOW - MINUTE, NOW),
        told_until=NOW + 30 * DAY,
        code_times=(NOW - MINUTE, NOW),
        key_code_times=(NOW - MINUTE, NOW),
        form_code_times=(NOW - MINUTE, NOW),
        closed=(Closing(TEXT, NOW + 30 * DAY),),
        unknown_reference_times=(NOW - MINUTE, NOW),
    )


def test_times_of_a_decision_a_moment_ahead_count() -> None:
    times = (NOW - MINUTE, NOW + MAX_CLOCK_SKEW)
    limits = PhoneLimits(
        wrong_times=times,
        code_times=times,
        key_code_times=times,
        form_code_times=times,
        unknown_reference_times=times,
    )

    assert clamped(limits, NOW) == limits


def test_waits_within_the_rules_are_left_as_they_are() -> None:
    limits = PhoneLimits(
        wrong_guesses=3,
        locks=1,
        locked_until=NOW + DAY,
        told_until=NOW + DAY,
        code_times=ago(DAY, HOUR, timedelta()),
    )

    assert clamped(limits, NOW) == limits
    assert clamped(PhoneLimits(), NOW) == PhoneLimits()
