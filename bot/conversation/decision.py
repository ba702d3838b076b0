"""The decision on one input: find its event, look the transition up, run its actions.

No timer is involved: an expiry takes effect with the next input, by comparing times.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from bot.conversation.answering import write_reply
from bot.conversation.machine import TRANSITIONS, Event
from bot.conversation.perceiving import read_follow_up, read_input, read_time
from bot.conversation.policy import clamped
from bot.conversation.state import NOTHING_USED
from bot.conversation.turn import ACTIONS, Cancel, Turn

if TYPE_CHECKING:
    from datetime import datetime

    from bot.conversation.app_events import AppEvent
    from bot.conversation.codes import Keyring
    from bot.conversation.inputs import Input
    from bot.conversation.policy import Policy
    from bot.conversation.state import Conversation, PhoneLimits
    from bot.conversation.turn import Message
    from bot.conversation.verification import AppAnswer


class Decision(Struct, frozen=True):
    """The results of an input: facts to save, texts to cancel, and a message to send after that.

    `conversation` holds the new and changed tokens. `app_events` must be sent to apps in this
    order; `answer` is the answer to an app's own request.
    """

    conversation: Conversation
    limits: PhoneLimits
    web_limits: PhoneLimits = NOTHING_USED
    cancel: Cancel = Cancel.NOTHING
    message: Message | None = None
    app_events: tuple[AppEvent, ...] = ()
    answer: AppAnswer | None = None


def decide(  # noqa: PLR0913 - a pure decision takes everything it depends on, by name
    conversation: Conversation,
    limits: PhoneLimits,
    incoming: Input,
    *,
    now: datetime,
    policy: Policy,
    keyring: Keyring,
    new_token_id: str,
    web_limits: PhoneLimits = NOTHING_USED,
) -> Decision:
    """Return the results of one input.

    `now` is UTC; `new_token_id` is unique, for a token that may be issued. `limits` are those of
    the phone's own texts, `web_limits` those of apps and the form for this phone.
    """
    both_limits = clamped(limits, now), clamped(web_limits, now)
    turn = Turn(conversation, *both_limits, now, policy, keyring, new_token_id)
    _apply(turn, read_time(turn))
    _apply(turn, read_input(turn, incoming))
    _apply(turn, read_follow_up(turn))
    return Decision(
        turn.conversation,
        turn.limits,
        turn.web_limits,
        turn.cancel,
        turn.message,
        tuple(turn.app_events),
        turn.answer,
    )


def _apply(turn: Turn, event: Event) -> None:
    """Make the transition of an event, if it has one in this state."""
    transition = TRANSITIONS.get((turn.state, event))
    if transition is None:
        return
    turn.event = event
    for action in transition.actions:
        ACTIONS[action](turn)
    turn.update(state=transition.to)
    if transition.reply is not None:
        write_reply(turn, transition.reply)
