"""What may happen to a conversation: somebody texts, the carrier refuses, an app asks."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from datetime import datetime

    from bot.conversation.verification import Origin


class Shape(StrEnum):
    """How a text came: only a plain one, from one person to one number, can carry a guess."""

    PLAIN = "plain"
    MEDIA = "media"
    GROUP = "group"


class AutoReply(StrEnum):
    """A keyword that the carrier has answered by itself, so that we stay silent."""

    STOP = "stop"
    START = "start"
    OTHER = "other"


class ReferenceLookup(Struct, frozen=True):
    """What is known of the reference in a text: the verification, and whether it may be begun.

    `begun_here` tells that this very conversation has begun it.
    """

    verification: str
    free: bool
    begun_here: bool


class TextReceived(Struct, frozen=True):
    """What a person texted; `referenced` is what its reference, if it has one, stands for.

    `received_at` (UTC) is when the carrier received the text: that, and not when its webhook
    arrived, is the order of what a person wants. None stands for the moment of the decision.
    """

    text: str
    shape: Shape = Shape.PLAIN
    answered: AutoReply | None = None
    referenced: ReferenceLookup | None = None
    received_at: datetime | None = None


class OptedOutAtCarrier(Struct, frozen=True):
    """The carrier refuses to text this person, who told it to stop (Telnyx error 40300)."""

    code: str


class CodeRequested(Struct, frozen=True):
    """An app, or somebody at the web form, asks that a code be texted."""

    verification: str
    origin: Origin


class ResendRequested(Struct, frozen=True):
    """An app asks that the code of a verification be texted once more."""

    verification: str


class CodeSubmitted(Struct, frozen=True):
    """Somebody typed this as the code of a verification, outside of the conversation."""

    verification: str
    code: str


class Cancelled(Struct, frozen=True):
    """An app does not need a verification any more."""

    verification: str


class DeliveryFailed(Struct, frozen=True):
    """No text with the code of this token has reached, or will reach, the phone."""

    token: str


class TimePassed(Struct, frozen=True):
    """Time has passed: what is over is to be noted."""


AppInput = CodeRequested | ResendRequested | CodeSubmitted | Cancelled
Input = TextReceived | OptedOutAtCarrier | AppInput | DeliveryFailed | TimePassed
