from __future__ import annotations

from itertools import product

import pytest

from bot.conversation.replies import Reply
from bot.conversation.state import State
from bot.conversation.transitions import (
    IGNORED,
    TRANSITIONS,
    Action,
    Event,
    ImpossibleError,
    Transition,
    transition_of,
)

REACHABLE = [State.IDLE, State.AWAITING_CODE, State.VERIFIED, State.LOCKED]
ELSEWHERE = {event for event in Event if event.name.endswith("_ELSEWHERE")}
BY_TIME = {Event.CODE_EXPIRED, Event.LOCK_ENDED} | ELSEWHERE
AT_CARRIER = {event for event in Event if event.name.endswith("_AT_CARRIER")}
STOPS = {Event.STOP, Event.STOPPED_AT_CARRIER, Event.BLOCKED_AT_CARRIER}
SILENCES = STOPS | {Event.NUMBER_BLOCKED, Event.OPTED_OUT_ELSEWHERE}
STARTS = {Event.START, Event.STARTED_AT_CARRIER}
NEVER_MOVING = {
    Event.NOTHING,
    Event.REQUEST_TOO_SOON,
    Event.REQUEST_TOO_OFTEN_AGAIN,
    Event.GUESS_USED,
    Event.NOT_FOR_US,
    Event.OUTDATED,
    Event.ANSWERED_AT_CARRIER,
}
COMPARED = {
    Event.GUESS_RIGHT,
    Event.GUESS_WRONG,
    Event.GUESS_WRONG_CODES_SPENT,
    Event.LAST_GUESS_WRONG,
}
COMPARED_SUBMISSIONS = {Event.SUBMITTED_RIGHT, Event.SUBMITTED_WRONG, Event.LAST_SUBMITTED_WRONG}
APP_REQUESTS = {
    Event.APP_REQUEST,
    Event.APP_REQUEST_AFTER_NOT_ME,
    Event.APP_REQUEST_TOO_OFTEN,
    Event.APP_CLOSED,
}
NEED_A_LIVE_CODE = {
    *(COMPARED | COMPARED_SUBMISSIONS),
    Event.SUBMITTED_MALFORMED,
    Event.SUBMITTED_DURING_LOCK,
    Event.CODE_REQUEST_AGAIN,
    Event.REQUEST_TOO_SOON,
    Event.APP_REQUEST_AGAIN,
    Event.APP_REQUEST_TOO_SOON,
    Event.APP_CANCELS,
    Event.CODE_EXPIRED,
    Event.CODE_UNDELIVERABLE,
}
APP_EVENTS = {
    *(APP_REQUESTS | COMPARED_SUBMISSIONS),
    Event.SUBMITTED_MALFORMED,
    Event.SUBMITTED_DURING_LOCK,
    Event.APP_REQUEST_AGAIN,
    Event.APP_REQUEST_TOO_SOON,
    Event.APP_CANCELS,
    Event.NOT_PENDING,
}
LOCKED_OUT = {*COMPARED}
"""During a lock no text is compared with a code, but what is typed elsewhere is."""
POSSIBLE_IN = {
    **{event: {State.AWAITING_CODE, State.LOCKED} for event in NEED_A_LIVE_CODE - LOCKED_OUT},
    **{event: {State.AWAITING_CODE} for event in LOCKED_OUT},
    Event.GUESS_TOO_LATE: {State.IDLE},
    Event.LOCK_ENDED: {State.LOCKED},
    # While a code is live there is always something to cancel.
    Event.NOT_ME_WITHOUT_CODE: set(State) - {State.AWAITING_CODE},
    Event.STOP_WHILE_BLOCKED: {State.OPTED_OUT},
    Event.OPTED_OUT_ELSEWHERE: set(State) - {State.OPTED_OUT},
    Event.OPTED_IN_ELSEWHERE: {State.OPTED_OUT},
    Event.LOCKED_ELSEWHERE: {State.IDLE, State.VERIFIED, State.AWAITING_CODE},
}
"""The states in which an event can occur; an event that is not listed can occur in each."""


@pytest.mark.parametrize(("state", "event"), list(product(State, Event)))
def test_a_pair_is_in_the_table_or_ignored_exactly_if_it_can_occur(
    state: State, event: Event
) -> None:
    places = ((state, event) in TRANSITIONS) + ((state, event) in IGNORED)

    assert places == (state in POSSIBLE_IN.get(event, set(State)))


def test_a_pair_that_cannot_occur_raises_and_is_named() -> None:
    with pytest.raises(ImpossibleError, match=r"^GUESS_RIGHT cannot occur in the state idle$"):
        transition_of(State.IDLE, Event.GUESS_RIGHT)


def test_an_ignored_pair_has_no_transition() -> None:
    assert transition_of(State.LOCKED, Event.CHATTER) is None


@pytest.mark.parametrize(("state", "event"), list(TRANSITIONS))
def test_counting_is_the_first_action_of_each_guess_and_of_nothing_else(
    state: State, event: Event
) -> None:
    actions = TRANSITIONS[state, event].actions

    assert (actions[:1] == (Action.COUNT_GUESS,)) == (event in COMPARED)
    assert (actions[:1] == (Action.COUNT_SUBMISSION,)) == (event in COMPARED_SUBMISSIONS)
    assert {Action.COUNT_GUESS, Action.COUNT_SUBMISSION}.isdisjoint(actions[1:])


@pytest.mark.parametrize(("state", "event"), list(TRANSITIONS))
def test_an_app_is_answered_whatever_it_requests_and_nobody_else_is(
    state: State, event: Event
) -> None:
    assert (TRANSITIONS[state, event].answer is not None) == (event in APP_EVENTS)


def test_no_request_of_an_app_is_ignored() -> None:
    assert APP_EVENTS.isdisjoint({event for _, event in IGNORED})


def test_every_action_is_part_of_a_transition() -> None:
    assert {action for transition in TRANSITIONS.values() for action in transition.actions} == set(
        Action
    )


def test_every_event_has_a_transition_except_those_that_are_always_ignored() -> None:
    assert {event for _, event in TRANSITIONS} == set(Event) - NEVER_MOVING


def test_every_reply_is_in_the_table_except_wordings_that_depend_on_the_moment() -> None:
    wordings = {
        Reply.STATUS_QUEUED,
        Reply.STATUS_SENT,
        Reply.STATUS_FAILED,
        Reply.STATUS_VERIFIED,
        Reply.STATUS_LOCKED,
        Reply.CODE_TYPED,
        Reply.CODE_FORM,
        Reply.TYPE_IT,
        Reply.WRONG_TYPE_IT,
        Reply.WAIT_CODE,
        Reply.HINT_CODE,
    }

    assert {transition.reply for transition in TRANSITIONS.values()} - {None} == (
        set(Reply) - wordings
    )


def test_no_transition_does_nothing() -> None:
    idle = [
        pair
        for pair, transition in TRANSITIONS.items()
        if transition == (type(transition))(pair[0])
    ]

    assert idle == []


def test_only_a_right_guess_of_an_awaited_code_verifies() -> None:
    ways = {
        pair
        for pair, transition in TRANSITIONS.items()
        if transition.to is State.VERIFIED != pair[0]
    }
    successes = {
        pair
        for pair, transition in TRANSITIONS.items()
        if Action.RECORD_SUCCESS in transition.actions
    }
    congratulated = {
        pair for pair, transition in TRANSITIONS.items() if transition.reply is Reply.SUCCESS
    }

    texted = (State.AWAITING_CODE, Event.GUESS_RIGHT)
    typed = {(state, Event.SUBMITTED_RIGHT) for state in (State.AWAITING_CODE, State.LOCKED)}
    assert ways == successes == {texted} | typed
    assert congratulated == {texted}


def test_a_code_is_awaited_exactly_after_one_was_issued() -> None:
    entering = {
        pair
        for pair, transition in TRANSITIONS.items()
        if transition.to is State.AWAITING_CODE and pair[0] is not State.AWAITING_CODE
    }
    issuing = {
        pair for pair, transition in TRANSITIONS.items() if Action.ISSUE_CODE in transition.actions
    }

    asking = {Event.CODE_REQUEST, Event.APP_REQUEST}
    assert entering == set(product(("idle", "verified"), asking))
    issued = set(product(("idle", "verified", "awaiting_code"), asking))
    assert issuing == issued | {(State.LOCKED, Event.APP_REQUEST)}


def test_a_code_is_texted_exactly_when_it_is_counted_and_sent() -> None:
    sending = {Action.SEND_CODE, Action.SEND_CODE_FOR_APP}
    texted = {pair for pair, transition in TRANSITIONS.items() if transition.reply is Reply.CODE}

    assert texted == {
        pair for pair, transition in TRANSITIONS.items() if sending & set(transition.actions)
    }


def test_no_code_outlives_the_wait_for_it() -> None:
    leaving = [
        transition
        for (state, _), transition in TRANSITIONS.items()
        if state is State.AWAITING_CODE and transition.to is not State.AWAITING_CODE
    ]

    assert leaving
    assert all(
        each.unless_live or Action.END_CODES in each.actions
        for each in leaving
        if each.to is not State.LOCKED
    )


def test_a_lock_begins_with_the_last_wrong_guess_or_at_another_number() -> None:
    entering = {
        event
        for (state, event), transition in TRANSITIONS.items()
        if transition.to is State.LOCKED != state
    }

    assert entering == {Event.LAST_GUESS_WRONG, Event.LOCKED_ELSEWHERE}
    assert [
        pair for pair, transition in TRANSITIONS.items() if Action.LOCK in transition.actions
    ] == [(State.AWAITING_CODE, Event.LAST_GUESS_WRONG)]


def test_a_lock_ends_only_by_time_or_by_opting_out() -> None:
    leaving = {
        event
        for (state, event), transition in TRANSITIONS.items()
        if state is State.LOCKED
        and transition.to is not State.LOCKED
        and not transition.unless_locked
    }

    assert leaving == SILENCES | {Event.LOCK_ENDED}


def test_during_a_lock_of_the_texts_only_these_are_answered_and_apps_get_codes() -> None:
    answered = {
        event
        for (state, event), transition in TRANSITIONS.items()
        if transition.reply and state == "locked"
    }

    codes = {Event.APP_REQUEST, Event.APP_REQUEST_AGAIN}
    not_me = {Event.NOT_ME, Event.NOT_ME_WITHOUT_CODE}
    assert answered == {Event.STATUS, Event.HELP, Event.STOP} | not_me | codes


@pytest.mark.parametrize("event", sorted(STOPS))
@pytest.mark.parametrize("state", REACHABLE)
def test_stop_opts_out_in_every_state(state: State, event: Event) -> None:
    transition = TRANSITIONS[state, event]

    assert transition.to is State.OPTED_OUT
    assert {Action.END_CODES, Action.OPT_OUT} <= set(transition.actions)


def test_only_stop_opts_a_person_out() -> None:
    ways = {
        event
        for (state, event), transition in TRANSITIONS.items()
        if transition.to is State.OPTED_OUT is not state
    }
    acting = {
        event
        for (_, event), transition in TRANSITIONS.items()
        if Action.OPT_OUT in transition.actions
    }

    assert ways == SILENCES
    assert acting == STOPS | {Event.STOP_WHILE_BLOCKED}


def test_after_stop_only_start_leads_back_to_idle() -> None:
    heard = {
        event: transition
        for (state, event), transition in TRANSITIONS.items()
        if state is State.OPTED_OUT
    }

    heard_stops = STOPS - {Event.BLOCKED_AT_CARRIER}
    answered = APP_REQUESTS | {Event.NOT_PENDING}
    back = STARTS | {Event.OPTED_IN_ELSEWHERE}
    other = {Event.NOT_ME, Event.STOP_WHILE_BLOCKED}
    assert set(heard) == back | heard_stops | answered | other
    assert {heard[event].to for event in back} == {State.IDLE}
    assert {heard[event] for event in heard_stops} == {
        Transition(State.OPTED_OUT, (Action.RECORD_STOP,))
    }
    assert {heard[event].to for event in answered} == {State.OPTED_OUT}
    assert {heard[event].actions for event in answered} == {()}


def test_events_of_time_and_texts_answered_by_the_carrier_get_no_reply() -> None:
    texted = {
        event for (_, event), transition in TRANSITIONS.items() if transition.reply is not None
    }

    assert texted.isdisjoint(BY_TIME | AT_CARRIER)


def test_every_state_can_be_reached_from_the_beginning() -> None:
    assert _reached_from(State.IDLE) == set(State)


@pytest.mark.parametrize("state", list(State))
def test_from_every_state_there_is_a_way_to_be_verified(state: State) -> None:
    assert State.VERIFIED in _reached_from(state)


def test_states_are_stored_under_names_that_do_not_change() -> None:
    assert {str(state) for state in State} == {
        "idle",
        "awaiting_code",
        "verified",
        "locked",
        "opted_out",
    }


def _reached_from(start: State) -> set[State]:
    reached = {start}
    while (
        new := {transition.to for (state, _), transition in TRANSITIONS.items() if state in reached}
        - reached
    ):
        reached |= new
    return reached
