"""What happens in one channel does not limit another one: texts, keys of apps, and the form."""

from __future__ import annotations

from datetime import timedelta
from itertools import product

import pytest
from msgspec.structs import replace

from bot.conversation import channels
from bot.conversation.app_events import AppEvent, EventType
from bot.conversation.channels import FORM, TEXT, Channel, ChannelClass
from bot.conversation.codes import Keyring
from bot.conversation.inputs import (
    CodeRequested,
    CodeSubmitted,
    ReferenceLookup,
    ResendRequested,
    TextReceived,
)
from bot.conversation.limits import Shares
from bot.conversation.policy import CLOSED_PERIOD, GROWTH_PERIOD, GrowthStep, Policy
from bot.conversation.replies import Reply
from bot.conversation.state import Closing, State, Token
from bot.conversation.verification import Complete, Origin, Reason, RequestOutcome
from tests.conversation.person import (
    BOT,
    DAY,
    HOUR,
    INSTANT,
    MINUTE,
    MORNING,
    OTHER_BOT,
    PHONE,
    RIGHT,
    SECRET,
    WRONG,
    Person,
)

KEY, OTHER_KEY = channels.of_key("0123456789ab"), channels.of_key("ba9876543210")
ORIGINS = {FORM: Origin.FORM, KEY: Origin.APP, OTHER_KEY: Origin.APP}
EACH_CHANNEL = pytest.mark.parametrize("channel", [FORM, KEY])


def asks(
    person: Person, id_: str, channel: Channel = KEY, complete: Complete = Complete.TYPED
) -> RequestOutcome:
    person.handle(CodeRequested(id_, ORIGINS[channel], complete, channel))
    return outcome(person)


def types(person: Person, id_: str, code: str, channel: Channel = KEY) -> RequestOutcome:
    person.handle(CodeSubmitted(id_, code, channel))
    return outcome(person)


def outcome(person: Person) -> RequestOutcome:
    answer = person.last().answer
    assert answer is not None
    return answer.outcome


def token_of(person: Person, id_: str) -> Token:
    tokens = person.conversations[BOT].verification_tokens
    return next(token for token in tokens if token.verification == id_)


def right(person: Person, id_: str) -> str:
    return person.keyring.code(token_of(person, id_), BOT, PHONE)


def wrong(person: Person, id_: str) -> str:
    code = right(person, id_)
    return ("1" if code[0] == "0" else "0") + code[1:]


def guesses(person: Person, number: int, channel: Channel = KEY) -> None:
    """Type so many wrong codes, each as soon as the limits allow it."""
    for count in range(number):
        id_ = f"{channel} {person.now} {count}"
        while asks(person, id_, channel) is not RequestOutcome.DONE:
            person.now += HOUR
        assert types(person, id_, wrong(person, id_), channel) is RequestOutcome.WRONG
        limits = person.channels[channel]
        person.now = max(person.now, limits.locked_until or person.now)


def guesses_by_text(person: Person, number: int) -> None:
    """Text so many wrong codes, each as soon as the limits allow it."""
    for _ in range(number):
        token = person.conversations[BOT].token
        if token is None or not token.works_at(person.now):
            while person.texts("VERIFY") is not Reply.CODE:
                person.now += HOUR
        person.plays(WRONG)


# The codes of a day.


def test_five_requests_at_the_form_leave_the_app_three_codes_and_the_person_three() -> None:
    person = Person()
    form = [asks(person, f"f{number}", FORM) for number in range(5)]
    assert form == [RequestOutcome.DONE] * 4 + [RequestOutcome.TOO_MANY_CODES]

    app = [asks(person, f"a{number}") for number in range(4)]
    assert app == [RequestOutcome.DONE] * 3 + [RequestOutcome.TOO_MANY_CODES]
    texted = [person.plays("VERIFY", RIGHT) for _ in range(3)]
    assert texted == [Reply.SUCCESS] * 3
    assert person.texts("VERIFY") is Reply.WAIT


def test_all_keys_together_share_what_is_kept_for_apps() -> None:
    person = Person()
    for number in range(4):
        asks(person, f"f{number}", FORM)

    outcomes = [asks(person, f"a{n}", (KEY, OTHER_KEY)[n % 2]) for n in range(4)]
    assert outcomes == [RequestOutcome.DONE] * 3 + [RequestOutcome.TOO_MANY_CODES]


def test_a_refused_request_says_when_the_next_code_is_free() -> None:
    person = Person()
    for number in range(4):
        asks(person, f"f{number}", FORM)
        person.now += MINUTE
    assert asks(person, "f", FORM) is RequestOutcome.TOO_MANY_CODES
    answer = person.last().answer
    assert answer is not None
    assert answer.retry_at == MORNING + DAY

    person.now = answer.retry_at - INSTANT
    assert asks(person, "f", FORM) is RequestOutcome.TOO_MANY_CODES
    person.now += INSTANT
    assert asks(person, "f", FORM) is RequestOutcome.DONE


@pytest.mark.parametrize(
    ("codes_per_day", "reserves"),
    [
        (1, (0, 0, 0)),
        (2, (0, 0, 0)),
        (3, (1, 1, 0)),
        (6, (1, 1, 0)),
        (7, (2, 2, 0)),
        (10, (3, 3, 0)),
        (100, (30, 30, 0)),
    ],
)
def test_three_tenths_are_kept_for_texts_and_for_apps(
    codes_per_day: int, reserves: tuple[int, int, int]
) -> None:
    assert Policy(codes_per_day=codes_per_day).reserves == reserves


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5])
def test_a_use_is_free_exactly_if_the_others_keep_theirs(limit: int) -> None:
    reserves = Policy(codes_per_day=limit).reserves
    shares = Shares(limit, DAY, reserves)
    for counts in product(range(limit + 1), repeat=3):
        beyond = sum(max(0, c - r) for c, r in zip(counts, reserves, strict=True))
        if beyond > limit - sum(reserves):
            continue
        times = [[MORNING] * count for count in counts]
        for user, reserve in enumerate(reserves):
            kept = sum(max(0, r - c) for r, c in zip(reserves, counts, strict=True))
            own = max(0, reserve - counts[user])
            free = sum(counts) + kept - own < limit
            assert shares.free_at(times, user) == (None if free else MORNING + DAY)


# Locks.


def test_five_wrong_codes_at_the_form_leave_every_apps_right_code_working() -> None:
    person = Person()
    asks(person, "a")
    asks(person, "b", OTHER_KEY)
    person.texts("VERIFY")
    asks(person, "f", FORM)
    for _ in range(5):
        assert types(person, "f", wrong(person, "f"), FORM) is RequestOutcome.WRONG

    assert types(person, "a", right(person, "a")) is RequestOutcome.RIGHT
    assert types(person, "b", right(person, "b"), OTHER_KEY) is RequestOutcome.RIGHT
    assert person.plays(RIGHT) is Reply.SUCCESS


def test_the_form_never_locks_a_phone() -> None:
    person = Person()
    for number in range(3):
        asks(person, f"f{number}", FORM)
        for _ in range(5):
            types(person, f"f{number}", wrong(person, f"f{number}"), FORM)
            if token_of(person, f"f{number}").spent:
                break

    assert asks(person, "f", FORM) is RequestOutcome.DONE
    assert types(person, "f", right(person, "f"), FORM) is RequestOutcome.RIGHT
    assert person.limits.closed == ()


def test_the_wrong_codes_of_one_key_lock_that_key_alone() -> None:
    person = Person()
    asks(person, "a")
    asks(person, "b")
    for _ in range(5):
        types(person, "a", wrong(person, "a"))

    assert types(person, "b", right(person, "b")) is RequestOutcome.TOO_MANY_GUESSES
    assert types(person, "b", right(person, "b"), OTHER_KEY) is RequestOutcome.RIGHT


def test_forged_texts_lock_texts_alone() -> None:
    person = Person()
    asks(person, "a", complete=Complete.REPLY)
    assert person.plays("VERIFY", *[WRONG] * 5) is Reply.LOCKED
    letters = person.keyring.letters("a", 0)

    assert person.state() is State.LOCKED
    assert person.texts(f"{right(person, 'a')} {letters}") is None
    assert person.texts("STATUS") is Reply.STATUS_LOCKED
    assert asks(person, "b") is RequestOutcome.DONE
    assert person.message().reply is Reply.CODE_TYPED
    for id_ in "ab":
        assert types(person, id_, right(person, id_)) is RequestOutcome.RIGHT
        assert person.state() is State.LOCKED
    assert person.plays(15 * MINUTE, "VERIFY") is Reply.CODE


def test_after_a_lock_the_codes_of_apps_are_awaited() -> None:
    person = Person(Policy(code_lifetime=HOUR))
    person.plays("VERIFY", *[WRONG] * 5)
    asks(person, "a")
    person.plays(15 * MINUTE, "hello")
    assert person.state() is State.AWAITING_CODE


def test_a_code_of_an_app_expires_during_a_lock() -> None:
    person = Person()
    person.plays("VERIFY", *[WRONG] * 5)
    asks(person, "a")
    person.plays(11 * MINUTE, "hello")
    assert person.last().app_events == (AppEvent(EventType.EXPIRED, "a"),)
    assert person.state() is State.LOCKED


def test_one_request_and_five_guesses_a_day_no_longer_keep_a_phone_locked() -> None:
    person = Person(Policy(growth=()))
    for number in range(10):
        asks(person, f"f{number}", FORM)
        for _ in range(5):
            types(person, f"f{number}", wrong(person, f"f{number}"), FORM)
        person.now += DAY
        asks(person, f"a{number}")
        assert types(person, f"a{number}", right(person, f"a{number}")) is RequestOutcome.RIGHT


# Growing codes.


@EACH_CHANNEL
def test_codes_grow_after_8_wrong_comparisons_and_again_after_40(channel: Channel) -> None:
    person = Person(Policy(codes_per_day=100, codes_per_hour=100))
    lengths: list[int] = []
    for _ in range(41):
        guesses(person, 1, channel)
        asks(person, f"n{person.now}{len(lengths)}", channel)
        lengths.append(person.conversations[BOT].verification_tokens[-1].format.length)

    assert lengths == [6] * 7 + [8] * 32 + [10] * 2


def test_codes_by_text_grow_too_and_the_text_says_how_long_they_are() -> None:
    person = Person()
    guesses_by_text(person, 8)
    assert person.message().reply is Reply.CODE_SPENT

    while person.texts("VERIFY") is not Reply.CODE:
        person.now += HOUR
    assert len(person.code()) == 8
    assert person.texts("123456") is Reply.MISTYPED
    assert "8 digits" in person.message().body
    assert person.token().guesses == 0
    assert person.plays(RIGHT) is Reply.SUCCESS


@EACH_CHANNEL
def test_a_success_does_not_make_codes_short_again(channel: Channel) -> None:
    person = Person()
    guesses(person, 8, channel)
    person.now += DAY
    for id_, length in (("one", 8), ("two", 8)):
        asks(person, id_, channel)
        assert token_of(person, id_).format.length == length
        assert types(person, id_, right(person, id_), channel) is RequestOutcome.RIGHT

    person.now += GROWTH_PERIOD
    asks(person, "three", channel)
    assert token_of(person, "three").format.length == 6


@EACH_CHANNEL
def test_a_code_that_is_now_too_short_ends_and_codes_of_other_channels_live_on(
    channel: Channel,
) -> None:
    person = Person(Policy(codes_per_hour=10, codes_per_day=100))
    other = OTHER_KEY
    person.texts("VERIFY")
    asks(person, "other", other)
    for id_ in ("first", "second", "third"):
        asks(person, id_, channel)
    for _ in range(4):
        types(person, "first", wrong(person, "first"), channel)
    person.now += INSTANT
    for _ in range(3):
        types(person, "second", wrong(person, "second"), channel)
        limits = person.channels[channel]
        person.channels[channel] = replace(limits, locked_until=None)
    assert types(person, "second", wrong(person, "second"), channel) is RequestOutcome.WRONG

    failed = {event.verification for event in person.last().app_events}
    assert failed == {"first", "second", "third"}
    assert {event.reason for event in person.last().app_events} == {Reason.TOO_MANY_GUESSES}
    assert types(person, "other", right(person, "other"), other) is RequestOutcome.RIGHT
    assert person.plays(RIGHT) is Reply.SUCCESS


def test_the_codes_of_another_key_are_too_short_for_a_key_whose_codes_have_grown() -> None:
    person = Person()
    guesses(person, 8)
    asks(person, "b", OTHER_KEY)
    assert token_of(person, "b").format.length == 6

    assert types(person, "b", right(person, "b")) is RequestOutcome.WRONG
    assert token_of(person, "b").spent


def test_wrong_codes_typed_for_a_reference_make_codes_by_text_grow() -> None:
    person = Person()
    for id_ in ("first", "second"):
        lookup = ReferenceLookup(id_, available=True, begun_here=False)
        person.handle(TextReceived("VERIFY 7Q2K42", reference=lookup))
        for _ in range(4):
            types(person, id_, wrong(person, id_))
            person.now = max(person.now, person.channels[KEY].locked_until or person.now)
        person.now += MINUTE
    assert len(person.limits.wrong_times) == len(person.channels[KEY].wrong_times)
    assert person.limits.wrong_guesses == 0
    if len(person.limits.wrong_times) == 8:
        person.texts("VERIFY")
        assert len(person.code()) == 8


def test_a_guess_by_text_counts_each_comparison_and_makes_no_more_than_are_left() -> None:
    person = Person(Policy(codes_per_hour=10, codes_per_day=100))
    person.texts("VERIFY")
    for id_ in ("first", "second", "third", "fourth"):
        lookup = ReferenceLookup(id_, available=True, begun_here=False)
        person.handle(TextReceived("VERIFY 7Q2K42", reference=lookup))

    assert person.plays(WRONG) is Reply.WRONG
    assert "1 try left" in person.message().body
    counts = [len(person.limits.wrong_times)]
    assert person.plays(WRONG) is Reply.CODE_SPENT
    counts.append(len(person.limits.wrong_times))
    assert counts == [5, 8]
    compared = [token_of(person, id_).guesses for id_ in ("first", "second", "third", "fourth")]
    assert [person.token().guesses, *compared] == [2, 1, 1, 2, 2]
    assert all(token_of(person, id_).spent for id_ in ("first", "second", "third", "fourth"))
    assert person.token().spent


def test_a_code_for_a_reply_is_as_long_as_both_channels_require() -> None:
    person = Person(Policy(codes_per_day=100))
    guesses_by_text(person, 8)
    asks(person, "typed")
    asks(person, "reply", complete=Complete.REPLY)

    assert token_of(person, "typed").format.length == 6
    assert token_of(person, "reply").format.length == 8
    letters = person.keyring.letters("reply", 0)
    person.now = max(person.now, person.limits.locked_until or person.now)
    assert person.texts(f"{right(person, 'reply')} {letters}") is Reply.SUCCESS


def test_a_reply_is_compared_with_no_code_that_is_too_short_for_texts() -> None:
    person = Person(Policy(codes_per_day=100, attempts=10))
    asks(person, "a", complete=Complete.REPLY)
    guesses_by_text(person, 8)
    asks(person, "b")
    letters = person.keyring.letters("a", 0)

    assert person.texts(f"{right(person, 'a')} {letters}") is Reply.WRONG_TYPE_IT
    assert token_of(person, "a").guesses == 0
    assert types(person, "a", right(person, "a")) is RequestOutcome.RIGHT


def test_the_codes_of_test_numbers_do_not_grow() -> None:
    person = Person(keyring=Keyring([SECRET], {PHONE: "424242"}))
    guesses(person, 9)
    asks(person, "a")
    assert token_of(person, "a").format.length == 6
    assert types(person, "a", "424242") is RequestOutcome.RIGHT


def test_a_long_code_stays_as_long_as_the_operator_has_set() -> None:
    policy = Policy(growth=(GrowthStep(1, 4),))
    person = Person(policy)
    guesses(person, 1)
    asks(person, "a")
    assert token_of(person, "a").format.length == 6


# Closing.


def closes(channel: Channel) -> Person:
    person = Person(Policy(codes_per_day=100, codes_per_hour=100))
    guesses_by_text(person, 100) if channel == TEXT else guesses(person, 100, channel)
    return person


def test_a_key_closes_for_the_phone_after_100_failures_in_a_row() -> None:
    person = closes(KEY)
    (closing,) = person.limits.closed
    locked = next(each for each in person.decided[-1].app_events if each.channel)
    assert locked == AppEvent(EventType.LOCKED, channel=KEY, until=closing.until)

    assert asks(person, "a") is RequestOutcome.LOCKED
    answer = person.last().answer
    assert answer is not None
    assert answer.retry_at == closing.until
    assert asks(person, "b", OTHER_KEY) is RequestOutcome.DONE
    assert types(person, "b", right(person, "b")) is RequestOutcome.LOCKED
    person.handle(ResendRequested("b", KEY))
    assert outcome(person) in {RequestOutcome.LOCKED, RequestOutcome.TOO_SOON}
    assert person.texts("VERIFY") is Reply.CODE


def test_a_success_in_another_channel_opens_a_closed_one() -> None:
    person = closes(KEY)
    asks(person, "b", OTHER_KEY)
    assert types(person, "b", right(person, "b"), OTHER_KEY) is RequestOutcome.RIGHT
    assert AppEvent(EventType.UNLOCKED, channel=KEY) in person.last().app_events

    assert asks(person, "a") is RequestOutcome.DONE
    assert types(person, "a", right(person, "a")) is RequestOutcome.RIGHT


def test_a_closed_channel_opens_by_itself_after_30_days() -> None:
    person = closes(KEY)
    person.now = person.limits.closed[0].until - INSTANT
    assert asks(person, "a") is RequestOutcome.LOCKED
    person.now += INSTANT
    assert asks(person, "a") is RequestOutcome.DONE
    assert person.last().app_events[0] == AppEvent(EventType.UNLOCKED, channel=KEY)
    assert person.limits.closed == ()


def test_texts_close_as_a_long_lock_and_apps_go_on() -> None:
    person = closes(TEXT)
    assert person.last().app_events[-1] == AppEvent(
        EventType.LOCKED, channel=TEXT, until=person.now + CLOSED_PERIOD
    )
    assert person.message().reply is Reply.LOCKED
    assert "30 days" in person.message().body
    person.now += 3 * DAY
    assert person.texts("VERIFY") is None
    assert person.state() is State.LOCKED

    asks(person, "a")
    assert types(person, "a", right(person, "a")) is RequestOutcome.RIGHT
    assert person.state() is State.VERIFIED
    assert person.texts("VERIFY") is Reply.CODE


def test_a_closed_text_channel_holds_at_the_bots_other_numbers() -> None:
    person = closes(TEXT)
    person.now += 3 * DAY
    assert person.texts("VERIFY", to=OTHER_BOT) is None
    assert person.state(OTHER_BOT) is State.LOCKED


def test_the_form_never_closes() -> None:
    person = closes(FORM)
    assert person.limits.closed == ()
    assert asks(person, "a", FORM) is RequestOutcome.DONE


def test_a_success_in_the_channel_begins_its_count_again() -> None:
    person = Person(Policy(codes_per_day=100, codes_per_hour=100))
    guesses(person, 99)
    asks(person, "a")
    types(person, "a", right(person, "a"))
    guesses(person, 99)
    assert person.limits.closed == ()


def test_a_closing_lasts_no_longer_than_30_days_after_a_clock_ran_ahead() -> None:
    person = Person()
    person.limits = replace(person.limits, closed=(Closing(KEY, MORNING + 365 * DAY),))
    asks(person, "a")
    assert person.limits.closed == (Closing(KEY, MORNING + CLOSED_PERIOD),)


def test_channels_are_named_as_apps_see_them() -> None:
    assert (TEXT, FORM, KEY) == ("text", "form", "api:0123456789ab")
    assert [channels.class_of(each) for each in (TEXT, FORM, KEY)] == [
        ChannelClass.TEXT,
        ChannelClass.FORM,
        ChannelClass.KEYS,
    ]


def test_an_input_decided_a_moment_behind_another_forgets_and_ends_nothing() -> None:
    person = Person()
    person.handle(CodeRequested("v", Origin.APP, channel=channels.of_key("one")))
    person.now -= timedelta(seconds=1)
    person.handle(CodeRequested("w", Origin.FORM, channel=FORM))

    assert not person.last().app_events or person.last().app_events[0].verification == "w"
    assert len(person.limits.key_code_times) == 1
    assert not token_of(person, "v").spent


def test_ten_form_requests_each_a_moment_behind_the_last_bring_four_codes() -> None:
    person = Person()
    for number in range(10):
        person.handle(CodeRequested(f"{number}", Origin.FORM, channel=FORM))
        person.now -= timedelta(milliseconds=1)

    assert len(person.limits.form_code_times) == 4
