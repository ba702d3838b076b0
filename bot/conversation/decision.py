"""One event decided: perceive what happened, let the table move, carry out what it says.

Nothing happens by time alone: an expiry is noticed, by comparing times, when something else
happens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from bot.conversation.answering import say
from bot.conversation.machine import TABLE, Event
from bot.conversation.perceiving import perceive, perceive_rest, perceive_time
from bot.conversation.policy import clamped
from bot.conversation.state import NOTHING_USED
from bot.conversation.turn import ACTIONS, Cancel, Turn

if TYPE_CHECKING:
    from datetime import datetime

    from bot.conversation.codes import Keyring
    from bot.conversation.inputs import Input
    from bot.conversation.policy import Policy
    from bot.conversation.state import Conversation, PhoneLimits
    from bot.conversation.turn import Message
    from bot.conversation.verification import AppAnswer, AppEvent


class Decision(Struct, frozen=True):
    """What an event leads to: what to remember, what to cancel, and then what to send.

    New and changed tokens are those of `conversation`. `news` is what apps are to be told, in
    order, and `answer` what the app is answered that asked.
    """

    conversation: Conversation
    limits: PhoneLimits
    web_limits: PhoneLimits = NOTHING_USED
    cancel: Cancel = Cancel.NOTHING
    message: Message | None = None
    news: tuple[AppEvent, ...] = ()
    answer: AppAnswer | None = None


def decide(  # noqa: PLR0913 - all that a pure decision rests on is handed to it, by name
    conversation: Conversation,
    limits: PhoneLimits,
    happened: Input,
    *,
    now: datetime,
    policy: Policy,
    keyring: Keyring,
    fresh_id: str,
    web_limits: PhoneLimits = NOTHING_USED,
) -> Decision:
    """Decide what one event leads to.

    `now` is UTC; `fresh_id` is a name that no token has had, used where one is issued.
    `ledger` is what the phone has spent by text, `web_ledger` what others have spent for it.
    """
    limits_of = clamped(limits, now), clamped(web_limits, now)
    turn = Turn(conversation, *limits_of, now, policy, keyring, fresh_id)
    _make(turn, perceive_time(turn))
    _make(turn, perceive(turn, happened))
    _make(turn, perceive_rest(turn))
    return Decision(
        turn.conversation,
        turn.limits,
        turn.web_limits,
        turn.cancel,
        turn.message,
        tuple(turn.news),
        turn.answer,
    )


def _make(turn: Turn, event: Event) -> None:
    """Let the table move; a pair that is not in it changes nothing."""
    move = TABLE.get((turn.state, event))
    if move is None:
        return
    turn.event = event
    for action in move.actions:
        ACTIONS[action](turn)
    turn.keep(state=move.to)
    if move.reply is not None:
        say(turn, move.reply)
