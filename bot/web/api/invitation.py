"""How a person is asked to text a reference: in words, as a link, and as a picture of that."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING
from urllib.parse import quote

import segno
from pydantic import ConfigDict, Field

from bot.conversation.numbers import readable
from bot.services.schemas import VerificationView

if TYPE_CHECKING:
    from datetime import datetime
    from typing import Self

    from bot.conversation.verification import Verification

_SCALE = 4


class InvitationView(VerificationView):
    """A verification that waits for somebody to text its reference, and how to ask them."""

    model_config = ConfigDict(frozen=True, title="Invitation")

    instruction: str = Field(description="What to tell the person, in words.")
    sms_link: str = Field(description="A link that opens the text ready to send (RFC 5724).")
    qr_code: str = Field(description="An SVG picture of the link, for the phone's camera.")

    @classmethod
    def of(cls, verification: Verification, now: datetime) -> Self:
        """Show a verification that has a reference to text, at `now` (UTC)."""
        words = what_to_text(verification.reference or "")
        link = sms_link(verification.bot_number, words)
        return cls(
            **VerificationView.of(verification, now).model_dump(),
            instruction=f"Text {words} to {readable(verification.bot_number)}",
            sms_link=link,
            qr_code=qr_code(link),
        )


def what_to_text(reference: str) -> str:
    """Say what the person texts."""
    return f"VERIFY {reference}"


def sms_link(number: str, words: str) -> str:
    """Link to a text to a number (E.164), ready to send (RFC 5724 §2.2)."""
    return f"sms:{number}?body={quote(words, safe='')}"


def qr_code(link: str) -> str:
    """Draw a link as SVG that stands alone, black on white whatever is around it."""
    drawn = io.BytesIO()
    segno.make(link, micro=False).save(
        drawn, kind="svg", scale=_SCALE, light="#fff", xmldecl=False, nl=False
    )
    return drawn.getvalue().decode()
