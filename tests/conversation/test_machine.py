from __future__ import annotations

from itertools import product

import pytest

from bot.conversation.machine import IGNORED, TRANSITIONS, Action, Event, Transition
from bot.conversation.replies import Reply
from bot.conversation.state import State

REACHABLE = [State.IDLE, State.AWAITING_CODE, State.VERIFIED, State.LOCKED]
BY_TIME = {Event.CODE_EXPIRED, Event.LOCK_ENDED, Event.LOCKED_ELSEWHERE}
BY_CARRIER = {Event.ANSWERED_AT_CARRIER, Event.STARTED_AT_CARRIER, Event.STOPPED_AT_CARRIER}
NEVER_MOVING = {
    Event.NOTHING,
    Event.REQUEST_TOO_SOON,
    Event.REQUEST_TOO_OFTEN_AGAIN,
    Event.GUESS_USED,
    Event.NOT_FOR_US,
    Event.OUTDATED,
    Event.ANSWERED_AT_CARRIER,
}


@pytest.mark.parametrize(("state", "event"), list(product(State, Event)))
def test_every_pair_is_either_in_the_table_or_ignored(state: State, event: Event) -> None:
    assert ((state, event) in TRANSITIONS) != ((state, event) in IGNORED)


def test_the_table_and_the_ignored_pairs_hold_nothing_else() -> None:
    assert set(TRANSITIONS) | IGNORED == set(product(State, Event))


def test_every_action_is_part_of_a_transition() -> None:
    assert {action for transition in TRANSITIONS.values() for action in transition.actions} == set(
        Action
    )


def test_every_event_has_a_transition_except_those_that_are_always_ignored() -> None:
    assert {event for _, event in TRANSITIONS} == set(Event) - NEVER_MOVING


def test_every_reply_is_in_the_table_except_the_variants_of_status_and_code() -> None:
    kinds_of_status = {
        Reply.STATUS_QUEUED,
        Reply.STATUS_SENT,
        Reply.STATUS_FAILED,
        Reply.STATUS_VERIFIED,
        Reply.STATUS_LOCKED,
    }
    kinds_of_code = {Reply.CODE_FORM}

    assert {transition.reply for transition in TRANSITIONS.values()} - {None} == (
        set(Reply) - kinds_of_status - kinds_of_code
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

    texted = {Event.GUESS_RIGHT, Event.GUESS_RIGHT_OF_SEVERAL}
    typed = {Event.SUBMITTED_RIGHT, Event.SUBMITTED_RIGHT_OF_SEVERAL}
    awaiting = State.AWAITING_CODE
    assert ways == {(awaiting, Event.GUESS_RIGHT), (awaiting, Event.SUBMITTED_RIGHT)}
    assert successes == {(awaiting, event) for event in texted | typed}
    assert congratulated == {(awaiting, event) for event in texted}


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
    assert issuing == set(product(("idle", "verified", "awaiting_code"), asking))


def test_a_code_is_texted_exactly_when_it_is_issued_or_sent_again() -> None:
    sending = {Action.ISSUE_CODE, Action.RESEND_CODE}
    texted = {pair for pair, transition in TRANSITIONS.items() if transition.reply is Reply.CODE}

    assert texted == {
        pair for pair, transition in TRANSITIONS.items() if sending & set(transition.actions)
    }


def test_no_code_outlives_the_wait_for_it() -> None:
    ending = {Action.END_CODES, Action.RECORD_SUCCESS}
    leaving = [
        transition
        for (state, event), transition in TRANSITIONS.items()
        if state is State.AWAITING_CODE
        and transition.to is not State.AWAITING_CODE
        and event is not Event.LAST_CODE_ENDED
    ]

    assert leaving
    assert all(ending & set(transition.actions) for transition in leaving)


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
        if state is State.LOCKED and transition.to is not State.LOCKED
    }

    assert leaving == {Event.LOCK_ENDED, Event.STOP, Event.STOPPED_AT_CARRIER}


def test_during_a_lock_only_status_help_not_me_and_stop_are_answered() -> None:
    answered = {
        event
        for (state, event), transition in TRANSITIONS.items()
        if transition.reply and state == "locked"
    }

    assert answered == {Event.STATUS, Event.HELP, Event.NOT_ME, Event.STOP}


@pytest.mark.parametrize("event", [Event.STOP, Event.STOPPED_AT_CARRIER])
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

    assert ways == acting == {Event.STOP, Event.STOPPED_AT_CARRIER}


def test_after_stop_only_start_leads_back_to_idle() -> None:
    heard = {
        event: transition
        for (state, event), transition in TRANSITIONS.items()
        if state is State.OPTED_OUT
    }

    starts = {Event.START, Event.STARTED_AT_CARRIER}
    stops = {Event.STOP, Event.STOPPED_AT_CARRIER}
    assert set(heard) == starts | stops | {Event.NOT_ME}
    assert {heard[event].to for event in starts} == {State.IDLE}
    assert {heard[event] for event in stops} == {
        Transition(State.OPTED_OUT, (Action.RECORD_STOP,), None)
    }


def test_events_of_time_and_texts_answered_by_the_carrier_get_no_reply() -> None:
    texted = {
        event for (_, event), transition in TRANSITIONS.items() if transition.reply is not None
    }

    assert texted.isdisjoint(BY_TIME | BY_CARRIER)


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
