from __future__ import annotations

import re
from collections import Counter
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bot.conversation import decision
from bot.conversation.channels import UNKNOWN_KEY
from bot.conversation.codes import Keyring
from bot.conversation.decision import Decision, decide
from bot.conversation.inputs import (
    AutoReply,
    Cancelled,
    CodeRequested,
    CodeSubmitted,
    DeliveryFailed,
    OptedOutAtCarrier,
    ReferenceLookup,
    ResendRequested,
    Shape,
    TextReceived,
    TimePassed,
)
from bot.conversation.policy import Policy
from bot.conversation.replies import CODE_PLACEHOLDER, GSM7_BASIC, SEGMENT, Reply
from bot.conversation.state import (
    Alphabet,
    Closing,
    CodeFormat,
    Conversation,
    PhoneLimits,
    State,
    Token,
)
from bot.conversation.transitions import Event, Transition, transition_of
from bot.conversation.verification import Complete, Origin
from tests.conversation.person import (
    BOT,
    DAY,
    HINTS,
    HOUR,
    INSTANT,
    MINUTE,
    MORNING,
    OTHER_BOT,
    PHONE,
    RIGHT,
    SECOND,
    SECRET,
    WRONG,
    Person,
    Step,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bot.conversation.person import Person as KnownPerson


FIRST_TOKEN = Token(
    f"{0:032x}",
    Keyring([SECRET]).signing_key_id,
    CodeFormat(6, Alphabet.DIGITS),
    issued_at=MORNING,
    expires_at=MORNING,
    resend_after=MORNING,
)
"""What a script's first step issues."""

CODE_OF_FIRST = Keyring([SECRET]).code(FIRST_TOKEN, BOT, PHONE)

WRONG_FOR_FIRST = ("1" if CODE_OF_FIRST[0] == "0" else "0") + CODE_OF_FIRST[1:]

SCRIPT_OF: dict[Event, tuple[Step, ...]] = {
    Event.CODE_REQUEST: ("VERIFY",),
    Event.OUTDATED: ("STOP", HOUR, TextReceived("START", received_at=MORNING)),
    Event.CODE_REQUEST_AGAIN: ("VERIFY", MINUTE, "RESEND"),
    Event.REQUEST_TOO_SOON: ("VERIFY", "VERIFY"),
    Event.REQUEST_TOO_OFTEN: ("VERIFY", "NOT ME", "VERIFY", MINUTE, "VERIFY"),
    Event.REQUEST_TOO_OFTEN_AGAIN: ("VERIFY", "NOT ME", "VERIFY", MINUTE, "VERIFY", "VERIFY"),
    Event.RESEND_WITHOUT_CODE: ("RESEND",),
    Event.GUESS_RIGHT: ("VERIFY", RIGHT),
    Event.GUESS_WRONG: ("VERIFY", WRONG),
    Event.LAST_GUESS_WRONG: ("VERIFY", *[WRONG] * 5),
    Event.GUESS_TOO_LATE: ("VERIFY", HOUR, RIGHT),
    Event.GUESS_WITHOUT_CODE: ("123456",),
    Event.GUESS_USED: ("VERIFY", RIGHT, RIGHT),
    Event.GUESS_MISTYPED: ("VERIFY", "12345"),
    Event.STATUS: ("STATUS",),
    Event.HELP: ("HELP",),
    Event.NOT_ME: ("VERIFY", "NOT ME"),
    Event.NOT_ME_WITHOUT_CODE: ("NOT ME",),
    Event.NOT_ME_ELSEWHERE: ("VERIFY", "NOT ME"),
    Event.START: ("START",),
    Event.STOP: ("STOP",),
    Event.CHATTER: ("hello",),
    Event.NOT_FOR_US: ("Liked “hello”",),
    Event.ANSWERED_AT_CARRIER: (TextReceived("HELP", auto_reply=AutoReply.OTHER),),
    Event.STARTED_AT_CARRIER: (TextReceived("START", auto_reply=AutoReply.START),),
    Event.STOPPED_AT_CARRIER: (TextReceived("STOP", auto_reply=AutoReply.STOP),),
    Event.BLOCKED_AT_CARRIER: (OptedOutAtCarrier("40300"),),
    Event.NUMBER_BLOCKED: ("START", OptedOutAtCarrier("40300")),
    Event.STOP_WHILE_BLOCKED: ("START", OptedOutAtCarrier("40300"), "STOP"),
    Event.OPTED_OUT_ELSEWHERE: ("STOP",),
    Event.OPTED_IN_ELSEWHERE: ("STOP", "START"),
    Event.CODE_EXPIRED: ("VERIFY", HOUR, "hello"),
    Event.REFERENCE_UNKNOWN: ("VERIFY 7Q2K42",),
    Event.REFERENCE_SPENT: (
        TextReceived(
            "VERIFY 7Q2K42", reference=ReferenceLookup("v", available=False, begun_here=False)
        ),
    ),
    Event.APP_REQUEST: (CodeRequested("v", Origin.APP),),
    Event.APP_REQUEST_AGAIN: (CodeRequested("v", Origin.APP), MINUTE, ResendRequested("v")),
    Event.APP_REQUEST_AFTER_NOT_ME: ("VERIFY", "NOT ME", CodeRequested("v", Origin.APP)),
    Event.APP_REQUEST_TOO_OFTEN: tuple(CodeRequested(each, Origin.APP) for each in "uvwxyz"),
    Event.APP_REQUEST_TOO_SOON: (CodeRequested("v", Origin.APP), ResendRequested("v")),
    Event.APP_CLOSED: (CodeRequested("v", Origin.APP),),
    Event.APP_CANCELS: (CodeRequested("v", Origin.APP), Cancelled("v")),
    Event.NOT_PENDING: (Cancelled("v"),),
    Event.SUBMITTED_RIGHT: (CodeRequested("v", Origin.APP), CodeSubmitted("v", CODE_OF_FIRST)),
    Event.SUBMITTED_WRONG: (CodeRequested("v", Origin.APP), CodeSubmitted("v", WRONG_FOR_FIRST)),
    Event.LAST_SUBMITTED_WRONG: (
        CodeRequested("v", Origin.APP),
        *[CodeSubmitted("v", WRONG_FOR_FIRST)] * 5,
    ),
    Event.SUBMITTED_MALFORMED: (CodeRequested("v", Origin.APP), CodeSubmitted("v", "hello")),
    Event.SUBMITTED_DURING_LOCK: (
        CodeRequested("v", Origin.APP),
        *[CodeSubmitted("v", WRONG_FOR_FIRST)] * 5,
        CodeRequested("w", Origin.APP),
        CodeSubmitted("w", "123456"),
    ),
    Event.GUESS_WRONG_CODES_SPENT: (
        CodeRequested("v", Origin.APP, Complete.REPLY),
        *[CodeSubmitted("v", WRONG_FOR_FIRST)] * 4,
        f"{WRONG_FOR_FIRST} {Keyring([SECRET]).letters('v', 0)}",
    ),
    Event.CODE_UNDELIVERABLE: (CodeRequested("v", Origin.APP), DeliveryFailed(f"{0:032x}")),
    Event.NOTHING: (TimePassed(),),
    Event.LOCK_ENDED: ("VERIFY", *[WRONG] * 5, HOUR, "hello"),
    Event.LOCKED_ELSEWHERE: ("VERIFY", *[WRONG] * 5),
}


@pytest.mark.parametrize("event", list(Event))
def test_every_event_occurs_in_a_script(event: Event, monkeypatch: pytest.MonkeyPatch) -> None:
    found: set[Event] = set()

    def look_up_and_record(state: State, event: Event) -> Transition | None:
        found.add(event)
        return transition_of(state, event)

    monkeypatch.setattr(decision, "transition_of", look_up_and_record)
    someone = Person()
    if event is Event.APP_CLOSED:
        someone.limits = PhoneLimits(closed=(Closing(UNKNOWN_KEY, MORNING + DAY),))
    someone.plays(*SCRIPT_OF[event])

    assert event in found


Entry = str | TextReceived | OptedOutAtCarrier

Script = list[tuple[str, timedelta, Entry]]

PASSAGES: tuple[tuple[Entry, ...], ...] = (
    *[("VERIFY",), (RIGHT,), ("VERIFY", RIGHT), (WRONG, WRONG), ("VERIFY", *[WRONG] * 5)] * 3,
    *[("hello",) * 4, ("NOT ME", "VERIFY"), ("RESEND", "RESEND"), ("STATUS", "HELP"), ("12345",)],
    *[("Liked “123456”",), ("",), ("STOP",), ("STOP", "VERIFY", RIGHT, "hello", "HELP", "START")],
    ("START", "VERIFY"),
    (OptedOutAtCarrier("40300"), "VERIFY", TextReceived("START", auto_reply=AutoReply.START)),
    (TextReceived("STOP", auto_reply=AutoReply.STOP), "RESEND", "START"),
    (TextReceived("HELP", auto_reply=AutoReply.OTHER),),
    *[(TextReceived(text, shape),) for text in ("123456", "START") for shape in Shape],
)

PAUSES = (
    *[timedelta()] * 8,
    *(SECOND, 29 * SECOND, 30 * SECOND, 10 * MINUTE - INSTANT, 10 * MINUTE, 15 * MINUTE, HOUR, DAY),
)

passages = st.builds(
    lambda at, pause, passage: [(at, pause, passage[0]), *((at, SECOND, it) for it in passage[1:])],
    st.sampled_from((BOT, BOT, BOT, OTHER_BOT)),
    st.sampled_from(PAUSES),
    st.sampled_from(PASSAGES),
)

scripts: st.SearchStrategy[Script] = st.lists(passages, min_size=10, max_size=40).map(
    lambda lists: [step for steps in lists for step in steps]
)

policies = st.builds(
    Policy,
    code_format=st.sampled_from((CodeFormat(6, Alphabet.DIGITS), CodeFormat(64, Alphabet.HEX))),
    code_lifetime=st.sampled_from((10 * MINUTE, HOUR)),
    attempts=st.integers(1, 6),
    resend_cooldown=st.sampled_from((timedelta(), 30 * SECOND)),
    codes_per_hour=st.integers(1, 6),
    codes_per_day=st.integers(1, 10),
    app_name=st.just("W" * 24),
)

thorough = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Moment(NamedTuple):
    """One step of a long script: the facts before, the text, and the decision."""

    at: str
    before: Conversation
    known: KnownPerson
    text: str
    now: datetime
    decision: Decision

    @property
    def reply(self) -> Reply | None:
        return self.decision.message.reply if self.decision.message else None

    @property
    def after(self) -> Conversation:
        return self.decision.conversation

    @property
    def verified_at(self) -> datetime | None:
        return self.decision.person.verified_at


def moments(someone: Person, script: Script) -> Iterator[Moment]:
    for at, pause, entry in script:
        someone.now += pause
        incoming = (
            TextReceived(someone.with_real_code(entry, at=at)) if isinstance(entry, str) else entry
        )
        before, known = someone.conversations[at], someone.known
        someone.handle(incoming, at=at)
        text = incoming.text if isinstance(incoming, TextReceived) else ""
        yield Moment(at, before, known, text, someone.now, someone.last())


@thorough
@given(policies, scripts)
def test_whatever_happens_state_and_facts_agree(policy: Policy, script: Script) -> None:
    someone = Person(policy)
    for moment in moments(someone, script):
        after, known = moment.after, moment.decision.person
        assert (known.opted_out_at is None) == (known.opt_out_wording is None)
        match after.state:
            case State.OPTED_OUT:
                assert known.opted_out or after.blocked_at is not None
            case State.AWAITING_CODE:
                assert after.token is not None
                assert after.token.works_at(moment.now)
            case State.LOCKED:
                assert moment.decision.limits.locked_at(moment.now)
            case State.VERIFIED:
                assert after.token is not None
                assert after.token.used_at is not None
                assert known.verified_at is not None


@thorough
@given(policies, scripts)
def test_whatever_happens_no_token_takes_more_guesses_than_the_policy_allows(
    policy: Policy, script: Script
) -> None:
    someone = Person(policy)
    wrong_in_a_row = 0
    guessed: Counter[str] = Counter()
    for moment in moments(someone, script):
        token = moment.after.token
        if moment.reply in {Reply.WRONG, Reply.LOCKED, Reply.SUCCESS}:
            assert token is not None
            guessed[token.id] += 1
            assert token.guesses == guessed[token.id] <= policy.attempts
        wrong_in_a_row += moment.reply in {Reply.WRONG, Reply.LOCKED}
        assert wrong_in_a_row <= policy.attempts
        assert moment.decision.limits.wrong_guesses < policy.attempts
        if moment.reply in {Reply.LOCKED, Reply.SUCCESS}:
            wrong_in_a_row = 0


@thorough
@given(policies, scripts)
def test_whatever_happens_only_the_right_code_in_time_verifies(
    policy: Policy, script: Script
) -> None:
    someone = Person(policy)
    for moment in moments(someone, script):
        before, token = moment.before, moment.before.token
        right = token is not None and moment.text == someone.keyring.code(token, moment.at, PHONE)
        if moment.reply is Reply.SUCCESS:
            assert before.state is State.AWAITING_CODE
            assert token is not None
            assert right
            assert token.works_at(moment.now)
            assert moment.verified_at == moment.now
        elif moment.decision.revoke_since is None:
            assert moment.verified_at == moment.known.verified_at
        else:
            assert moment.verified_at in (None, moment.known.verified_at)


@thorough
@given(policies, scripts)
def test_whatever_happens_no_text_follows_stop_until_start(policy: Policy, script: Script) -> None:
    someone = Person(policy)
    for moment in moments(someone, script):
        if moment.before.state is State.OPTED_OUT:
            assert moment.reply in {None, Reply.WELCOME, Reply.WAIT, Reply.STATUS_LOCKED}
            assert moment.after == moment.before or moment.after.state is State.IDLE
        if moment.after.state is State.OPTED_OUT:
            assert moment.reply in {None, Reply.STOPPED}


@thorough
@given(policies, scripts)
def test_whatever_happens_the_limits_on_code_texts_hold(policy: Policy, script: Script) -> None:
    someone = Person(policy)
    sent: list[datetime] = []
    for moment in moments(someone, script):
        if moment.reply is Reply.CODE:
            sent.append(moment.now)
            assert sum(time > moment.now - HOUR for time in sent) <= policy.codes_per_hour
            assert sum(time > moment.now - DAY for time in sent) <= policy.codes_per_day


@thorough
@given(policies, scripts)
def test_whatever_happens_hints_stop_after_three_in_a_row(policy: Policy, script: Script) -> None:
    someone = Person(policy)
    hinted: dict[str, list[datetime]] = {BOT: [], OTHER_BOT: []}
    for moment in moments(someone, script):
        if moment.reply in HINTS:
            hinted[moment.at].append(moment.now)
            recent = [time for time in hinted[moment.at] if time > moment.now - HOUR]
            assert len(recent) <= 3
        elif moment.reply in {Reply.CODE, Reply.SUCCESS}:
            hinted[moment.at].clear()
        elif moment.reply is not None:
            recent = [time for time in hinted[moment.at] if time > moment.now - HOUR]
            hinted[moment.at] = recent if len(recent) == 3 else []


@thorough
@given(policies, scripts)
def test_whatever_happens_a_text_fits_one_segment_and_only_code_texts_carry_a_token(
    policy: Policy, script: Script
) -> None:
    someone = Person(policy)
    for moment in moments(someone, script):
        message = moment.decision.message
        if message is None:
            continue
        text = message.body.replace(CODE_PLACEHOLDER, "D" * policy.code_format.length)
        assert len(text) <= SEGMENT
        assert set(text) <= GSM7_BASIC
        assert message.send_by > moment.now
        assert (message.token is not None) == (message.reply is Reply.CODE)
        if message.token is not None:
            assert message.token == moment.after.token
            assert message.token.works_at(moment.now)


@thorough
@given(policies, scripts)
def test_whatever_happens_only_a_verified_person_reads_the_word_verified(
    policy: Policy, script: Script
) -> None:
    someone = Person(policy)
    for moment in moments(someone, script):
        message = moment.decision.message
        if message is not None and "verified" in message.body.casefold():
            assert moment.verified_at is not None


def wait_in(body: str) -> timedelta:
    """Read the wait that a text names."""
    found = re.search(r"(?:wait|VERIFY in) (\d+) (second|minute|hour)", body)
    if found is None:
        return timedelta()
    return int(found[1]) * {"second": SECOND, "minute": MINUTE, "hour": HOUR}[found[2]]


@thorough
@given(policies, scripts)
def test_whatever_happens_verify_works_from_when_a_text_says_so(
    policy: Policy, script: Script
) -> None:
    someone = Person(policy)
    for moment in moments(someone, script):
        message = moment.decision.message
        if message is None or "ext VERIFY" not in message.body or message.reply is Reply.HELP:
            continue
        named = {Reply.WAIT, Reply.LOCKED, Reply.STATUS_LOCKED, Reply.NOT_ME}
        wait = wait_in(message.body) if message.reply in named else timedelta()
        decision = decide(
            moment.after,
            moment.decision.limits,
            TextReceived("VERIFY"),
            now=moment.now + wait,
            policy=policy,
            keyring=someone.keyring,
            new_token_id="f" * 32,
            person=moment.decision.person,
        )
        assert decision.message is not None
        assert decision.message.reply is Reply.CODE
