"""The decision on one input: read its event, look the transition up, carry it out.

No timer is involved: an expiry takes effect with the next input, by comparing times.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from bot.conversation import guards
from bot.conversation.actions import Cancel, Effects, act
from bot.conversation.context import Context
from bot.conversation.inputs import TextReceived
from bot.conversation.policy import clamped
from bot.conversation.reply_choice import write_reply
from bot.conversation.state import NOTHING_USED, State
from bot.conversation.transitions import Event, transition_of

if TYPE_CHECKING:
    from datetime import datetime

    from bot.conversation.app_events import AppEvent
    from bot.conversation.codes import Keyring
    from bot.conversation.inputs import Input
    from bot.conversation.policy import Policy
    from bot.conversation.reply_choice import Message
    from bot.conversation.state import Conversation, PhoneLimits
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
    the phone's own texts, `web_limits` those of apps and the form for this phone. Raises
    ImpossibleError if the facts contradict each other.
    """
    if isinstance(incoming, TextReceived) and incoming.sender != conversation.texted_from:
        conversation = replace(conversation, texted_from=incoming.sender)
    both_limits = clamped(limits, now), clamped(web_limits, now)
    effects = pass_time(Context(conversation, *both_limits, now, policy, keyring, new_token_id))
    context = effects.context
    message = None
    reading = guards.read(context, incoming)
    transition = transition_of(context.state, reading.event)
    if transition is not None:
        effects = act(effects, reading, transition)
        context = effects.context
        if transition.reply is not None:
            context, message = write_reply(context, transition.reply, reading.verification)
    return Decision(
        context.conversation,
        context.limits,
        context.web_limits,
        effects.cancel,
        message,
        effects.app_events,
        effects.answer,
    )


def pass_time(context: Context) -> Effects:
    """Return the effects of the time that has passed since the last input."""
    effects = Effects(context)
    reading = guards.read_time(context)
    transition = transition_of(context.state, reading.event)
    if transition is None:
        return effects
    by_text = any(context.letters_for(token) == "" for token in context.tokens if not token.spent)
    effects = act(effects, reading, transition)
    ended = reading.event is Event.CODE_EXPIRED and effects.context.state is State.IDLE
    expired = ended and by_text
    return replace(effects, context=replace(effects.context, code_expired=expired))
