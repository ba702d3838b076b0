"""The facts that are kept between two inputs, as values without behaviour of their own."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from msgspec import Struct

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
    has said where to type the code, since it was last sent.
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

    @property
    def spent(self) -> bool:
        """Return whether it was used or ended, regardless of its expiry."""
        return self.used_at is not None or self.ended_at is not None

    def works_at(self, now: datetime) -> bool:
        """Return whether the token still works; one from the future counts as expired."""
        return not self.spent and self.issued_at <= now < self.expires_at


class PhoneLimits(Struct, frozen=True):
    """The counts and locks of one phone in one channel, for all bot numbers and codes together.

    `wrong_guesses` counts since the last success or lock, `locks` since the last success
    (NIST SP 800-63B-4 §3.2.2: a new code must not reset the count). NOT ME refuses codes until
    `refused_until`. `code_times` are the code texts of the last day. `told_until` is the end of the
    wait that was last announced to the person. `unknown_reference_times` are the look-ups of the
    last hour that found no reference.
    """

    wrong_guesses: int = 0
    locks: int = 0
    locked_until: datetime | None = None
    refused_until: datetime | None = None
    told_until: datetime | None = None
    code_times: tuple[datetime, ...] = ()
    unknown_reference_times: tuple[datetime, ...] = ()

    def locked_at(self, now: datetime) -> bool:
        """Return whether the phone is locked at `now`."""
        return self.locked_until is not None and now < self.locked_until

    def refused_at(self, now: datetime) -> bool:
        """Return whether NOT ME refuses new codes at `now`."""
        return self.refused_until is not None and now < self.refused_until

    def wait_announced_at(self, now: datetime) -> bool:
        """Return whether the person knows of the wait that runs at `now`."""
        return self.told_until is not None and now < self.told_until

    def allows(self, token: Token, now: datetime) -> bool:
        """Return whether no lock and no NOT ME, at any number of the bot, has ended the token."""
        locked_since = self.locked_until is not None and token.issued_at < self.locked_until
        return not self.refused_at(now) and not locked_since


NOTHING_USED = PhoneLimits()
"""The limits of a phone that has not used the bot before."""


class Conversation(Struct, frozen=True):
    """The facts of one conversation, between a person's number and a bot number (both E.164).

    `phone` is the canonical spelling. `texted_from` is the spelling that last texted us, if that is
    another one; `unreachable` is the spelling to which texts have failed for good, if the number
    has two.

    `verified_at` is separate from the state: a new request does not erase it. So are the times of
    the last opt-out and the last START (`opted_in_at`), as the carrier received them. `token` is
    the latest one that the person requested, live or not; `verification_tokens` are those of
    verifications, while they are relevant. `hints` and `answers` count courtesy replies in a row,
    each with the time of the last one.
    """

    bot_number: str
    phone: str
    state: State = State.IDLE
    verified_at: datetime | None = None
    token: Token | None = None
    opted_out_at: datetime | None = None
    opted_in_at: datetime | None = None
    opt_out_wording: str | None = None
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
