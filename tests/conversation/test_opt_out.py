from __future__ import annotations

from datetime import timedelta
from itertools import permutations

import pytest
from msgspec.structs import replace

from bot.conversation.actions import Cancel
from bot.conversation.decision import Decision
from bot.conversation.inputs import AutoReply, OptedOutAtCarrier, Shape, TextReceived
from bot.conversation.intents import STOP_WORDS
from bot.conversation.policy import Policy
from bot.conversation.replies import Reply
from bot.conversation.state import Alphabet, CodeFormat, Conversation, PhoneLimits, State
from tests.conversation.person import (
    BOT,
    DAY,
    HOUR,
    INSTANT,
    MINUTE,
    MORNING,
    PHONE,
    REACHABLE,
    RIGHT,
    SECOND,
    Person,
    someone_in,
    texted,
    with_current_opt_times,
)


@pytest.mark.parametrize(
    "text", [*sorted(STOP_WORDS), "Stop texting me", "don't text me", "remove me", "STOP!"]
)
def test_every_stop_word_is_confirmed_once_and_kept_with_its_time_and_wording(
    awaiting: Person, text: str
) -> None:
    awaiting.now += MINUTE

    assert awaiting.texts(text) is Reply.STOPPED
    assert awaiting.state() is State.OPTED_OUT
    assert awaiting.known.opted_out_at == MORNING + MINUTE
    assert awaiting.known.opt_out_wording == text
    assert awaiting.texts(text) is None


@pytest.mark.parametrize("state", REACHABLE)
@pytest.mark.parametrize(
    ("incoming", "reply", "wording"),
    [
        (TextReceived("Stop"), Reply.STOPPED, "Stop"),
        (TextReceived("Stop", Shape.MEDIA), Reply.STOPPED, "Stop"),
        (TextReceived("Stop", Shape.GROUP), Reply.STOPPED, "Stop"),
        (TextReceived("Stop", auto_reply=AutoReply.STOP), None, "Stop"),
        (TextReceived("arrêt", auto_reply=AutoReply.STOP), None, "arrêt"),
        (OptedOutAtCarrier("40300"), None, "40300"),
    ],
    ids=["said", "media", "group", "carrier", "other language", "blocked"],
)
def test_stop_opts_out_in_every_state(
    state: State, incoming: TextReceived | OptedOutAtCarrier, reply: Reply | None, wording: str
) -> None:
    someone = someone_in(state)

    assert someone.handle(incoming) is reply
    assert someone.state() is State.OPTED_OUT
    assert someone.known.opted_out_at == someone.now
    assert someone.known.opt_out_wording == wording
    assert someone.last().cancel is Cancel.ALL


def test_only_the_beginning_of_a_long_wording_is_kept(person: Person) -> None:
    person.texts("stop " + "x" * 100)

    assert person.known.opt_out_wording == "stop " + "x" * 59


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("stop 123456", "stop …"),
        ("123-456 Stop texting me", "… Stop texting me"),
        ("stop 12 34 56 please", "stop … … … please"),
        ("stop FACADE", "stop …"),
    ],
)
def test_a_possible_code_is_left_out_of_the_wording(person: Person, text: str, kept: str) -> None:
    assert person.texts(text) is Reply.STOPPED
    assert person.known.opt_out_wording == kept


def test_a_second_opt_out_changes_only_which_start_is_outdated(opted_out: Person) -> None:
    before, known = opted_out.conversations[BOT], opted_out.known

    assert opted_out.plays(HOUR, OptedOutAtCarrier("40300")) is None
    assert opted_out.known == known
    assert opted_out.plays(TextReceived("END", auto_reply=AutoReply.STOP)) is None
    assert opted_out.plays(HOUR, "cancel") is None
    assert opted_out.conversations[BOT] == before
    assert opted_out.known == replace(known, opted_out_at=opted_out.now)


def test_stop_ends_the_code(awaiting: Person) -> None:
    code = awaiting.code()

    awaiting.texts("STOP")
    assert awaiting.token().ended_at == MORNING
    assert awaiting.plays("START", code) is Reply.NO_CODE


@pytest.mark.parametrize(
    "incoming",
    [
        TextReceived("VERIFY"),
        TextReceived("RESEND"),
        TextReceived("STATUS"),
        TextReceived("HELP"),
        TextReceived("STOP"),
        TextReceived("123456"),
        TextReceived("12345"),
        TextReceived("hello"),
        TextReceived("VERIFY", Shape.MEDIA),
        TextReceived("START", Shape.GROUP),
        TextReceived("HELP", auto_reply=AutoReply.OTHER),
        TextReceived("STOP", auto_reply=AutoReply.STOP),
        OptedOutAtCarrier("40300"),
    ],
)
@pytest.mark.parametrize("later", [timedelta(), 11 * MINUTE, DAY])
def test_after_an_opt_out_only_start_has_an_effect(
    opted_out: Person, incoming: TextReceived | OptedOutAtCarrier, later: timedelta
) -> None:
    before = opted_out.last()
    opted_out.now += later

    assert opted_out.handle(incoming) is None
    known = with_current_opt_times(opted_out, before)
    assert opted_out.last() == Decision(before.conversation, before.limits, person=known)


def test_a_code_verifies_nobody_after_an_opt_out(opted_out: Person) -> None:
    assert opted_out.plays(RIGHT) is None
    assert opted_out.verified_at() is None


@pytest.mark.parametrize("text", ["START", "unstop", "Start please"])
def test_start_welcomes_back_and_the_opt_out_stays_on_record(opted_out: Person, text: str) -> None:
    assert opted_out.plays(DAY, text) is Reply.WELCOME
    assert opted_out.state() is State.IDLE
    assert opted_out.known.opted_out_at == MORNING
    assert opted_out.known.opt_out_wording == "STOP"


def test_start_that_the_carrier_has_answered_opts_in_without_a_text(opted_out: Person) -> None:
    assert opted_out.texts("START", auto_reply=AutoReply.START) is None
    assert opted_out.state() is State.IDLE


def test_after_start_a_new_code_comes_without_a_cooldown(opted_out: Person) -> None:
    old = opted_out.token()

    assert opted_out.plays("START", "VERIFY") is Reply.CODE
    assert opted_out.token().id != old.id


@pytest.mark.parametrize(
    "incoming", [TextReceived("START"), TextReceived("START", auto_reply=AutoReply.START)]
)
def test_start_while_a_code_is_awaited_clears_the_cooldown(
    awaiting: Person, incoming: TextReceived
) -> None:
    before = awaiting.token()

    awaiting.handle(incoming)
    assert awaiting.state() is State.AWAITING_CODE
    assert awaiting.texts("RESEND") is Reply.CODE
    assert awaiting.token().id == before.id


def test_stop_and_start_erase_no_verification(verified: Person) -> None:
    assert verified.plays("STOP", "START", "STATUS") is Reply.STATUS_VERIFIED
    assert verified.verified_at() == MORNING


def test_stop_and_start_give_no_code_beyond_the_limit(person: Person) -> None:
    for _ in range(5):
        assert person.plays("VERIFY") is Reply.CODE
        welcome = person.plays("STOP", "START")

    assert welcome is Reply.WAIT
    assert person.texts("VERIFY") is None


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("text", ["HELP", "INFO", "aide", "VERIFY"])
def test_a_text_that_the_carrier_has_answered_gets_no_reply(state: State, text: str) -> None:
    someone = someone_in(state)
    before = (
        someone.last() if someone.decided else Decision(Conversation(BOT, PHONE), PhoneLimits())
    )

    assert someone.texts(text, auto_reply=AutoReply.OTHER) is None
    assert someone.last() == Decision(before.conversation, before.limits, person=before.person)


@pytest.mark.parametrize("state", [State.IDLE, State.VERIFIED, State.LOCKED])
def test_start_answered_by_the_carrier_changes_nothing_without_an_opt_out(state: State) -> None:
    someone = someone_in(state)
    before, known = someone.conversations[BOT], someone.known

    assert someone.texts("START", auto_reply=AutoReply.START) is None
    assert someone.conversations[BOT] == before
    assert someone.known == replace(known, opted_in_at=someone.now)


BOTH = {"carrier": (AutoReply.STOP, AutoReply.START), "bot": (None, None)}


@pytest.mark.parametrize("stop_first", [True, False])
@pytest.mark.parametrize("answered_by", list(BOTH))
@pytest.mark.parametrize(
    ("between", "opted_out"),
    [(SECOND, False), (INSTANT, False), (timedelta(), True), (-INSTANT, True), (-HOUR, True)],
)
def test_of_stop_and_start_the_later_one_holds_whichever_is_decided_first(
    answered_by: str, between: timedelta, *, opted_out: bool, stop_first: bool
) -> None:
    stopped_by, started_by = BOTH[answered_by]
    for before in ((), (HOUR, "STOP"), (HOUR, "VERIFY"), (HOUR, "VERIFY", RIGHT)):
        someone = Person()
        someone.plays(*before)
        stopped_at = someone.now + 2 * HOUR
        someone.now += DAY
        script = [
            texted("opt out", stopped_at, auto_reply=stopped_by),
            texted("START", stopped_at + between, auto_reply=started_by),
        ]
        someone.plays(*(script if stop_first else reversed(script)))
        assert (someone.state() is State.OPTED_OUT) is opted_out
        assert (someone.plays("VERIFY") is Reply.CODE) is not opted_out


def test_a_start_between_two_stops_opts_in_nobody_whenever_it_is_decided() -> None:
    texts = [texted("STOP", MORNING), texted("START", MORNING + SECOND)]
    texts += [texted("revoke", MORNING + 2 * SECOND)]
    for order in permutations(texts):
        someone = Person()
        someone.plays(HOUR, *order)
        assert someone.state() is State.OPTED_OUT


def test_an_opt_out_without_a_text_has_the_time_of_its_decision(person: Person) -> None:
    person.plays(HOUR, OptedOutAtCarrier("40300"))
    assert person.plays(texted("START", person.now - SECOND)) is None
    assert person.plays(MINUTE, texted("START", person.now + SECOND)) is Reply.WELCOME


def test_a_time_from_a_clock_that_ran_ahead_keeps_nobody_opted_out(person: Person) -> None:
    person.now += DAY
    person.plays(OptedOutAtCarrier("40300"))
    person.now -= DAY
    assert person.plays(texted("START", person.now)) is Reply.WELCOME


def test_clocks_that_differ_within_the_tolerance_do_not_undo_a_stop(person: Person) -> None:
    person.plays(texted("STOP", person.now))
    person.now -= 4 * SECOND  # decided by another process
    assert person.plays(texted("START", person.now + SECOND)) is None
    assert person.state() is State.OPTED_OUT


def test_an_outdated_guess_costs_no_try(awaiting: Person) -> None:
    early = awaiting.now
    awaiting.plays(MINUTE, "STOP", MINUTE, "START", "VERIFY")
    before = awaiting.limits
    assert awaiting.plays(texted(awaiting.wrong_code(), early)) is None
    assert awaiting.limits == before


def test_stop_and_start_are_answered_after_the_hints_have_ended(person: Person) -> None:
    assert person.plays("hello", "hello", "hello", "hello") is None
    assert person.texts("STOP") is Reply.STOPPED
    assert person.texts("START") is Reply.WELCOME


def test_alternating_stop_and_start_always_takes_effect_but_is_not_answered_endlessly(
    person: Person,
) -> None:
    answers = 0
    for _ in range(50):
        answers += person.texts("STOP") is not None
        assert person.state() is State.OPTED_OUT
        answers += person.texts("START") is not None
        assert person.state() is State.IDLE
    assert answers == 10


@pytest.mark.parametrize("said", ["stop ①②③④⑤⑥", "Stop \uff21\uff22\uff23\uff24 now"])
def test_no_code_however_typed_is_kept_with_an_opt_out(person: Person, said: str) -> None:
    person.texts(said)
    wording = person.known.opt_out_wording
    assert wording is not None
    assert wording.startswith(("stop", "Stop"))
    assert "…" in wording
    assert not set(wording) & set("①⑥ＡＤ")


@pytest.mark.parametrize("written", ["ab-cd-ef", "a.b.c.d.e.f", "A_B_C_D_E_F", "(abc)(def)"])
def test_no_hexadecimal_code_is_kept_in_a_wording_however_it_is_divided(written: str) -> None:
    person = Person(Policy(code_format=CodeFormat(6, Alphabet.HEX)))
    person.plays("VERIFY", f"stop {written}")
    assert person.known.opt_out_wording == "stop \N{HORIZONTAL ELLIPSIS}"
