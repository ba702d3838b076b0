"""The facts that are kept between two inputs, as values without behaviour of their own."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from msgspec import Struct

from bot.conversation.channels import TEXT, Channel
from bot.conversation.limits import MAX_CLOCK_SKEW
from bot.conversation.numbers import spelling_to_text
from bot.conversation.verification import Origin, ReplyRule

if TYPE_CHECKING:
    from datetime import datetime


class State(StrEnum):
    """The state of a conversation."""

    IDLE = "idle"
    AWAITING_CODE = "awaiting_code"
    VERIFIED = "verified"
    LOCKED = "locked"
    OPTED_OUT = "opted_out"


class Alphabet(StrEnum):
    """The characters of a code."""

    DIGITS = "digits"
    HEX = "hex"


class CodeDelivery(StrEnum):
    """The delivery state of the latest text with a code."""

    QUEUED = "queued"
    SENT = "sent"
    FAILED = "failed"


class CodeFormat(Struct, frozen=True):
    """The format of a code: how many characters of which alphabet."""

    length: int
    alphabet: Alphabet


class Token(Struct, frozen=True):
    """One issued code. The code itself is derived when needed and never stored.

    A token works once, from `issued_at` until before `expires_at`, and not after `ended_at`
    (NIST SP 800-63B-4 §3.1.3.2). `guesses` counts every comparison with it. `text` is the delivery
    state of the latest text with its code. `verification` is the id of the verification that it
    completes; None if the person has requested it without an app. `explained` is whether a reply
    has said where to type the code, since it was last sent. `channel` is where it was asked for;
    None means an app, or the form, of an earlier version. `reference` and `label` are those of a
    verification that a texted reference has begun, or "".
    """

    id: str
    key_id: str
    format: CodeFormat
    issued_at: datetime
    expires_at: datetime
    resend_after: datetime
    guesses: int = 0
    used_at: datetime | None = None
    ended_at: datetime | None = None
    text: CodeDelivery = CodeDelivery.QUEUED
    verification: str | None = None
    origin: Origin = Origin.PERSON
    reply_rule: ReplyRule = ReplyRule.CODE
    letters_index: int = 0
    explained: bool = False
    channel: Channel | None = None
    reference: str = ""
    label: str = ""

    @property
    def by_text(self) -> bool:
        """Return whether the code was asked for by text."""
        return self.origin in (Origin.PERSON, Origin.REFERENCE)

    @property
    def awaits_code_alone(self) -> bool:
        """Return whether a reply with the code alone is compared with it."""
        return self.by_text and self.reply_rule is ReplyRule.CODE

    @property
    def spent(self) -> bool:
        """Return whether it was used or ended, regardless of its expiry."""
        return self.used_at is not None or self.ended_at is not None

    def works_at(self, now: datetime) -> bool:
        """Return whether the token still works."""
        return not self.spent and self.is_current_at(now)

    def is_current_at(self, now: datetime) -> bool:
        """Return whether `now` is in the token's time.

        One from the future counts as expired, unless another process may have issued it just now.
        """
        return self.issued_at - MAX_CLOCK_SKEW <= now < self.expires_at


class ChannelLimits(Struct, frozen=True):
    """The counts and locks of one phone in one channel, for all bot numbers and codes together.

    `wrong_guesses` counts since the last success or lock (NIST SP 800-63B-4 §3.2.2: a new code must
    not reset the count). `locks` counts since the last success, and one less for each day without a
    lock. `failures` counts wrong guesses since the last success or closing, through locks and days.
    `wrong_times` are the latest wrong comparisons of a guess with a code, the oldest first.
    """

    wrong_guesses: int = 0
    locks: int = 0
    locked_until: datetime | None = None
    failures: int = 0
    wrong_times: tuple[datetime, ...] = ()

    def locked_at(self, now: datetime) -> bool:
        """Return whether guesses are refused at `now`."""
        return self.locked_until is not None and now < self.locked_until


class Closing(NamedTuple):
    """A channel that is closed for a phone, until a time (UTC) or a success in another one."""

    channel: Channel
    until: datetime


class PhoneLimits(ChannelLimits, frozen=True):
    """The limits of a phone by text, and what belongs to the phone in all channels.

    `code_times`, `key_code_times` and `form_code_times` are the code texts of the last day that the
    person, apps and the form asked for. `told_until` is the end of the wait that was last announced
    to the person. `unknown_reference_times` are the look-ups of the last hour that found no
    reference. `closed` are the closed channels.
    """

    told_until: datetime | None = None
    code_times: tuple[datetime, ...] = ()
    unknown_reference_times: tuple[datetime, ...] = ()
    key_code_times: tuple[datetime, ...] = ()
    form_code_times: tuple[datetime, ...] = ()
    closed: tuple[Closing, ...] = ()

    @property
    def text_locked_until(self) -> datetime | None:
        """Return when texts are compared again, after the last lock and closing."""
        closed_until = self.closed_until(TEXT)
        if closed_until is None or self.locked_until is None:
            return closed_until or self.locked_until
        return max(closed_until, self.locked_until)

    def closed_until(self, channel: Channel) -> datetime | None:
        """Return until when a channel is closed; None if it is open."""
        return next((each.until for each in self.closed if each.channel == channel), None)

    def locked_at(self, now: datetime) -> bool:
        """Return whether the phone is locked at `now`: no text is compared with a code."""
        until = self.text_locked_until
        return until is not None and now < until

    def wait_announced_at(self, now: datetime) -> bool:
        """Return whether the person knows of the wait that runs at `now`."""
        return self.told_until is not None and now < self.told_until

    def allows(self, token: Token) -> bool:
        """Return whether no lock, at any number of the bot, has ended the token.

        A lock ends only the codes that are compared with a reply alone: texts can be forged, and
        must not end what an app or the form has asked for.
        """
        until = self.text_locked_until
        locked_since = until is not None and token.issued_at < until
        return not (locked_since and token.awaits_code_alone)


NOTHING_USED = PhoneLimits()
"""The limits of a phone that has not used the bot before."""
NOTHING_GUESSED = ChannelLimits()
"""The limits of a channel in which nothing was guessed for a phone."""


class Conversation(Struct, frozen=True):
    """The facts of one conversation, between a person's number and a bot number (both E.164).

    `phone` is the canonical spelling. `texted_from` is the spelling that last texted us, if that is
    another one; `unreachable` is the spelling to which texts have failed for good, if the number
    has two.

    What holds at all of the bot's numbers is the `Person`. `blocked_at` is when the carrier blocked
    texts from this bot number alone. `token` is the latest one that the person requested, live or
    not; `verification_tokens` are those of verifications, while they are relevant. `hints` and
    `answers` count courtesy replies in a row, each with the time of the last one.
    """

    bot_number: str
    phone: str
    state: State = State.IDLE
    token: Token | None = None
    blocked_at: datetime | None = None
    hints: int = 0
    hinted_at: datetime | None = None
    answers: int = 0
    answered_at: datetime | None = None
    verification_tokens: tuple[Token, ...] = ()
    texted_from: str | None = None
    unreachable: str | None = None

    @property
    def recipient(self) -> str:
        """Return the spelling of the phone's number (E.164) to which the next text goes."""
        return spelling_to_text(self.phone, self.texted_from, self.unreachable)
