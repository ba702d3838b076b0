"""The inputs of a conversation: texts, delivery results, requests of apps, and time."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from msgspec import Struct

from bot.conversation.channels import TEXT, UNKNOWN_KEY, Channel
from bot.conversation.verification import Complete

if TYPE_CHECKING:
    from datetime import datetime

    from bot.conversation.verification import Origin


class Shape(StrEnum):
    """The kind of text: only a plain one, from one person to one number, can carry a guess."""

    PLAIN = "plain"
    MEDIA = "media"
    GROUP = "group"


class AutoReply(StrEnum):
    """A keyword that the carrier has already answered, so the bot must not answer it."""

    STOP = "stop"
    START = "start"
    OTHER = "other"


class ReferenceLookup(Struct, frozen=True):
    """The verification of a reference (its id), and whether it is still available.

    `begun_here` means that the sender of this text began it. `reference` is the word as issued, and
    `label` what the app says that it is about, or "".
    """

    verification: str
    available: bool
    begun_here: bool
    complete: Complete = Complete.REPLY
    reference: str = ""
    label: str = ""


class TextReceived(Struct, frozen=True):
    """A text from a person; `reference` is the verification that its reference stands for.

    `received_at` (UTC) is when the carrier received the text: texts are ordered by it, not by the
    arrival of their webhooks. None means the time of the decision. `sender` is the spelling (E.164)
    of the sender's number; None means the canonical one.
    """

    text: str
    shape: Shape = Shape.PLAIN
    auto_reply: AutoReply | None = None
    reference: ReferenceLookup | None = None
    received_at: datetime | None = None
    sender: str | None = None


class OptedOutAtCarrier(Struct, frozen=True):
    """The carrier blocks texts to this person after a STOP; `code` is its error (Telnyx: 40300)."""

    code: str


class CodeRequested(Struct, frozen=True):
    """An app or the web form requests a code for a verification (its id)."""

    verification: str
    origin: Origin
    complete: Complete = Complete.TYPED
    channel: Channel = UNKNOWN_KEY


class ResendRequested(Struct, frozen=True):
    """An app or the web form requests that the code of a verification be sent again."""

    verification: str
    channel: Channel = UNKNOWN_KEY


class CodeSubmitted(Struct, frozen=True):
    """An app or the web form submits a code for a verification."""

    verification: str
    code: str
    channel: Channel = UNKNOWN_KEY


class Cancelled(Struct, frozen=True):
    """An app cancels a verification."""

    verification: str


class DeliveryFailed(Struct, frozen=True):
    """No text with the code of this token (its id) has reached the phone, and none will."""

    token: str


class TimePassed(Struct, frozen=True):
    """Time has passed, so that something may have expired."""


class NotMeElsewhere(Struct, frozen=True):
    """The person has texted NOT ME to another number of the bot."""


AppInput = CodeRequested | ResendRequested | CodeSubmitted | Cancelled
Input = TextReceived | OptedOutAtCarrier | AppInput | DeliveryFailed | TimePassed | NotMeElsewhere


def channel_of(incoming: Input) -> Channel:
    """Return the channel whose limits hold for an input: that of an app or the form, or texts."""
    if isinstance(incoming, CodeRequested | ResendRequested | CodeSubmitted):
        return incoming.channel
    return TEXT
