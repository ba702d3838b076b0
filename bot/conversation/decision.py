"""The decision on one input: read its event, look the transition up, carry it out.

No timer is involved: an expiry takes effect with the next input, by comparing times.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from bot.conversation import guards
from bot.conversation.actions import Cancel, Effects, act
from bot.conversation.app_events import AppEvent, EventType
from bot.conversation.context import Context
from bot.conversation.inputs import NotMeElsewhere, TextReceived, TimePassed, channel_of
from bot.conversation.person import NOTHING_KNOWN
from bot.conversation.policy import clamped, clamped_channel
from bot.conversation.reply_choice import write_reply
from bot.conversation.state import NOTHING_GUESSED, State
from bot.conversation.transitions import Action, Event, transition_of

if TYPE_CHECKING:
    from datetime import datetime

    from bot.conversation.codes import Keyring
    from bot.conversation.inputs import Input
    from bot.conversation.person import Person
    from bot.conversation.policy import Policy
    from bot.conversation.reply_choice import Message
    from bot.conversation.state import ChannelLimits, Conversation, PhoneLimits
    from bot.conversation.transitions import Transition
    from bot.conversation.verification import AppAnswer


class Decision(Struct, frozen=True):
    """The results of an input: facts to save, texts to cancel, and a message to send after that.

    `conversation` holds the new and changed tokens. `app_events` must be sent to apps in this
    order; `answer` is the answer to an app's own request. The phone's verifications that succeeded
    after `revoke_since` (UTC) must be revoked. `elsewhere` is the input of the phone's other
    conversations that follows at once.
    """

    conversation: Conversation
    limits: PhoneLimits
    channel_limits: ChannelLimits = NOTHING_GUESSED
    person: Person = NOTHING_KNOWN
    cancel: Cancel = Cancel.NOTHING
    message: Message | None = None
    app_events: tuple[AppEvent, ...] = ()
    answer: AppAnswer | None = None
    revoke_since: datetime | None = None
    elsewhere: Input | None = None


def decide(  # noqa: PLR0913 - a pure decision takes everything it depends on, by name
    conversation: Conversation,
    limits: PhoneLimits,
    incoming: Input,
    *,
    now: datetime,
    policy: Policy,
    keyring: Keyring,
    new_token_id: str,
    channel_limits: ChannelLimits = NOTHING_GUESSED,
    person: Person = NOTHING_KNOWN,
) -> Decision:
    """Return the results of one input.

    `now` is UTC; `new_token_id` is unique, for a token that may be issued. `limits` are those of
    the phone, with its counts by text; `channel_limits` are its counts in the channel of an app's
    or the form's input; `person` holds at all of the bot's numbers. Raises ImpossibleError if the
    facts contradict each other.
    """
    if isinstance(incoming, TextReceived) and incoming.sender != conversation.texted_from:
        conversation = replace(conversation, texted_from=incoming.sender)
    context = Context(
        conversation,
        clamped(limits, now),
        clamped_channel(channel_limits, now),
        person.clamped(now),
        now,
        policy,
        keyring,
        new_token_id,
        channel_of(incoming),
    )
    before, effects = context, pass_time(context)
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
        context.channel_limits,
        context.person,
        effects.cancel,
        message,
        effects.app_events,
        effects.answer,
        effects.revoke_since,
        _input_elsewhere(before, context, transition),
    )


def _input_elsewhere(
    before: Context, after: Context, transition: Transition | None
) -> Input | None:
    """Return the input of the phone's other conversations, if what holds there too has changed."""
    if transition is not None and Action.REFUSE_CODES in transition.actions:
        return NotMeElsewhere()
    locked = after.limits.text_locked_until != before.limits.text_locked_until
    opted = after.person.opted_out is not before.person.opted_out
    return TimePassed() if locked or opted else None


def pass_time(context: Context) -> Effects:
    """Return the effects of the time that has passed, and of inputs at other numbers meanwhile.

    One can lead to another: after a START elsewhere, a lock can still run.
    """
    effects = _with_opened(context)
    while (later := _pass_time_once(effects)) is not effects:
        effects = later
    return effects


def _pass_time_once(effects: Effects) -> Effects:
    context = effects.context
    reading = guards.read_time(context)
    transition = transition_of(context.state, reading.event)
    if transition is None:
        return effects
    by_text = any(token.awaits_code_alone for token in context.tokens if not token.spent)
    effects = act(effects, reading, transition)
    ended = reading.event is Event.CODE_EXPIRED and effects.context.state is State.IDLE
    expired = ended and by_text
    return replace(effects, context=replace(effects.context, code_expired=expired))


def _with_opened(context: Context) -> Effects:
    """Return the effects of the channels that are open again, since their time is over."""
    limits, now = context.limits, context.now
    still_closed = tuple(each for each in limits.closed if each.until > now)
    if still_closed == limits.closed:
        return Effects(context)
    opened = [
        AppEvent(EventType.UNLOCKED, channel=each.channel)
        for each in limits.closed
        if each.until <= now
    ]
    limits = replace(limits, closed=still_closed)
    return Effects(replace(context, limits=limits), app_events=tuple(opened))
