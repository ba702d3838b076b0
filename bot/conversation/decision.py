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
from bot.conversation.policy import within_bounds
from bot.conversation.state import UNSPENT
from bot.conversation.turn import ACTIONS, Cancel, Turn

if TYPE_CHECKING:
    from datetime import datetime

    from bot.conversation.codes import Keyring
    from bot.conversation.happened import Happened
    from bot.conversation.policy import Policy
    from bot.conversation.state import Conversation, Ledger
    from bot.conversation.turn import Message
    from bot.conversation.verification import Answer, News


class Decision(Struct, frozen=True):
    """What an event leads to: what to remember, what to cancel, and then what to send.

    New and changed tokens are those of `conversation`. `news` is what apps are to be told, in
    order, and `answer` what the app is answered that asked.
    """

    conversation: Conversation
    ledger: Ledger
    web_ledger: Ledger = UNSPENT
    cancel: Cancel = Cancel.NOTHING
    message: Message | None = None
    news: tuple[News, ...] = ()
    answer: Answer | None = None


def decide(  # noqa: PLR0913 - all that a pure decision rests on is handed to it, by name
    conversation: Conversation,
    ledger: Ledger,
    happened: Happened,
    *,
    now: datetime,
    policy: Policy,
    keyring: Keyring,
    fresh_id: str,
    web_ledger: Ledger = UNSPENT,
) -> Decision:
    """Decide what one event leads to.

    `now` is UTC; `fresh_id` is a name that no token has had, used where one is issued.
    `ledger` is what the phone has spent by text, `web_ledger` what others have spent for it.
    """
    ledgers = within_bounds(ledger, now), within_bounds(web_ledger, now)
    turn = Turn(conversation, *ledgers, now, policy, keyring, fresh_id)
    _make(turn, perceive_time(turn))
    _make(turn, perceive(turn, happened))
    _make(turn, perceive_rest(turn))
    return Decision(
        turn.conversation,
        turn.ledger,
        turn.web_ledger,
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
