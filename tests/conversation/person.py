"""A person who texts the bot, for the tests of decisions."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from bot.conversation.channels import TEXT, Channel
from bot.conversation.codes import Keyring
from bot.conversation.decision import Decision, decide
from bot.conversation.inputs import AutoReply, Input, Shape, TextReceived, channel_of
from bot.conversation.person import NOTHING_KNOWN
from bot.conversation.policy import Policy
from bot.conversation.replies import Reply
from bot.conversation.state import (
    NOTHING_GUESSED,
    ChannelLimits,
    Conversation,
    PhoneLimits,
    State,
    Token,
)

if TYPE_CHECKING:
    from bot.conversation import person as person_facts
    from bot.conversation.reply_choice import Message

BOT, OTHER_BOT = "+13125550100", "+13125550101"
PHONE = "+13125550199"
SECRET, OTHER_SECRET = "s" * 32, "t" * 32
MORNING = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)
INSTANT, SECOND, MINUTE, HOUR, DAY = (
    timedelta(microseconds=1),
    timedelta(seconds=1),
    timedelta(minutes=1),
    timedelta(hours=1),
    timedelta(days=1),
)
RIGHT, WRONG = "<the right code>", "<a wrong code>"
"""Placeholders for a code in a script, since the code is not known before the script runs."""
HINTS = {Reply.HINT, Reply.HINT_CODE}

Step = str | timedelta | Input
"""A step of a script: a text, another input, or time that passes."""


def with_current_opt_times(person: Person, before: Decision) -> person_facts.Person:
    """Return the person before a decision, with the current times of STOP and START."""
    after = person.known
    times = {"opted_out_at": after.opted_out_at, "opted_in_at": after.opted_in_at}
    return replace(before.person, **times)


def new_conversations() -> dict[str, Conversation]:
    return {number: Conversation(number, PHONE) for number in (BOT, OTHER_BOT)}


@dataclass
class Person:
    """A person with one phone and a clock, texting the bot."""

    policy: Policy = field(default_factory=Policy)
    keyring: Keyring = field(default_factory=lambda: Keyring([SECRET]))
    now: datetime = MORNING
    limits: PhoneLimits = field(default_factory=PhoneLimits)
    channels: dict[Channel, ChannelLimits] = field(default_factory=dict)
    known: person_facts.Person = NOTHING_KNOWN
    conversations: dict[str, Conversation] = field(default_factory=new_conversations)
    decided: list[Decision] = field(default_factory=list)
    followed: list[Decision] = field(default_factory=list)
    """The decisions that followed at the other number."""

    def texts(
        self,
        text: str,
        *,
        to: str = BOT,
        shape: Shape = Shape.PLAIN,
        auto_reply: AutoReply | None = None,
    ) -> Reply | None:
        return self.handle(TextReceived(text, shape, auto_reply), at=to)

    def handle(self, incoming: Input, *, at: str = BOT) -> Reply | None:
        decision = self._decide(incoming, at)
        self.decided.append(decision)
        if decision.elsewhere is not None:
            for other in self.conversations:
                if other != at:
                    self.followed.append(self._decide(decision.elsewhere, other))
        return decision.message.reply if decision.message else None

    def _decide(self, incoming: Input, at: str) -> Decision:
        channel = channel_of(incoming)
        decision = decide(
            self.conversations[at],
            self.limits,
            incoming,
            now=self.now,
            policy=self.policy,
            keyring=self.keyring,
            new_token_id=f"{len(self.decided):032x}",
            channel_limits=self.channels.get(channel, NOTHING_GUESSED),
            person=self.known,
        )
        self.conversations[at], self.limits = decision.conversation, decision.limits
        self.known = decision.person
        if channel != TEXT:
            self.channels[channel] = decision.channel_limits
        return decision

    def plays(self, *script: Step, at: str = BOT) -> Reply | None:
        """Play a script and return the reply to its last step."""
        reply = None
        for step in script:
            match step:
                case timedelta():
                    self.now += step
                case str():
                    reply = self.texts(self.with_real_code(step, at=at), to=at)
                case _:
                    reply = self.handle(step, at=at)
        return reply

    def with_real_code(self, text: str, *, at: str = BOT) -> str:
        if text not in {RIGHT, WRONG}:
            return text
        if self.conversations[at].token is None:
            return "123456"
        return self.code(at=at) if text == RIGHT else self.wrong_code(at=at)

    def state(self, at: str = BOT) -> State:
        return self.conversations[at].state

    def token(self, at: str = BOT) -> Token:
        token = self.conversations[at].token
        assert token is not None
        return token

    def code(self, *, at: str = BOT) -> str:
        return self.keyring.code(self.token(at), at, PHONE)

    def wrong_code(self, *, at: str = BOT) -> str:
        code = self.code(at=at)
        return ("1" if code[0] == "0" else "0") + code[1:]

    def verified_at(self) -> datetime | None:
        return self.known.verified_at

    def last(self) -> Decision:
        return self.decided[-1]

    def message(self) -> Message:
        message = self.last().message
        assert message is not None
        return message

    def changes_token(self, **facts: object) -> None:
        token = replace(self.token(), **facts)
        self.conversations[BOT] = replace(self.conversations[BOT], token=token)


IN_STATE: dict[State, tuple[Step, ...]] = {
    State.IDLE: (),
    State.AWAITING_CODE: ("VERIFY",),
    State.VERIFIED: ("VERIFY", RIGHT),
    State.LOCKED: ("VERIFY", *[WRONG] * 5),
    State.OPTED_OUT: ("VERIFY", "STOP"),
}
REACHABLE = [state for state in State if state is not State.OPTED_OUT]


def someone_in(state: State) -> Person:
    someone = Person()
    someone.plays(*IN_STATE[state])
    assert someone.state() is state
    return someone


def texted(text: str, at: datetime, **more: Any) -> TextReceived:
    return TextReceived(text, received_at=at, **more)
