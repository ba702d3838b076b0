"""What is known of a person between two texts: values only, decided on by the machine."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from msgspec import Struct

from bot.conversation.verification import Origin

if TYPE_CHECKING:
    from datetime import datetime


class State(StrEnum):
    """Where a conversation stands."""

    IDLE = "idle"
    AWAITING_CODE = "awaiting_code"
    VERIFIED = "verified"
    LOCKED = "locked"
    OPTED_OUT = "opted_out"


class Alphabet(StrEnum):
    """What a code is made of."""

    DIGITS = "digits"
    HEX = "hex"


class CodeDelivery(StrEnum):
    """How far the latest text with a code has come."""

    QUEUED = "queued"
    SENT = "sent"
    FAILED = "failed"


class CodeFormat(Struct, frozen=True):
    """The shape of a code: how many characters of which alphabet."""

    length: int
    alphabet: Alphabet


class Token(Struct, frozen=True):
    """One issued code. The code itself is derived when needed and never kept.

    A token works once, from `issued_at` until before `expires_at`, and not after `ended_at`
    (NIST SP 800-63B-4 §3.1.3.2). `guesses` counts every comparison made against it.
    `text` says how far the latest text with its code has come. `verification` is what it completes;
    without one the person has asked on their own account.
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

    @property
    def spent(self) -> bool:
        """Tell whether it was used or ended, whatever the time."""
        return self.used_at is not None or self.ended_at is not None

    def works_at(self, now: datetime) -> bool:
        """Tell whether the token may still be guessed; one from the future has expired."""
        return not self.spent and self.issued_at <= now < self.expires_at


class PhoneLimits(Struct, frozen=True):
    """What one phone has spent, whichever bot number it texted and however many codes it had.

    `wrong_guesses` counts since the last success or lock, `locks` since the last success
    (NIST SP 800-63B-4 §3.2.2: a new code must not reset the count). `code_times` are the code
    texts of the last day. `told_until` is the end of a wait the person has been told of.
    """

    wrong_guesses: int = 0
    locks: int = 0
    locked_until: datetime | None = None
    refused_until: datetime | None = None
    told_until: datetime | None = None
    code_times: tuple[datetime, ...] = ()

    def locked_at(self, now: datetime) -> bool:
        """Tell whether a lock runs at `now`."""
        return self.locked_until is not None and now < self.locked_until

    def refused_at(self, now: datetime) -> bool:
        """Tell whether NOT ME keeps new codes away at `now`."""
        return self.refused_until is not None and now < self.refused_until

    def honours(self, token: Token, now: datetime) -> bool:
        """Tell whether no lock or NOT ME, at whichever number of the bot, has ended the token."""
        locked_since = self.locked_until is not None and token.issued_at < self.locked_until
        return not self.refused_at(now) and not locked_since


NOTHING_USED = PhoneLimits()
"""What a phone has spent of which nothing is known."""


class Conversation(Struct, frozen=True):
    """One person's number and one of the bot's, both E.164, and where they stand.

    `verified_at` is a fact beside the state: asking anew never erases it. So are the last opt-out
    and the last START (`opted_in_at`), each by when the carrier received it.
    `token` is the latest one issued for the person's own asking, live or not; `asked` are those of
    verifications, as long as they matter. `hints` and `answers` count texts of courtesy in a row,
    each with the time of the last.
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
    asked: tuple[Token, ...] = ()
