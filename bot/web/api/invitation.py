"""How to ask a person to text a reference: as a sentence, a link and a QR code."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING
from urllib.parse import quote

import segno

from bot.conversation.numbers import readable
from bot.services.schemas import VerificationView

if TYPE_CHECKING:
    from datetime import datetime
    from typing import Self

    from bot.conversation.verification import Verification

_SCALE = 4


class InvitationView(VerificationView):
    """A verification that waits for its reference to be texted, and how to ask the person."""

    instruction: str
    sms_link: str
    qr_code: str

    @classmethod
    def of(cls, verification: Verification, now: datetime) -> Self:
        """Return the view of a verification with a reference to text, at `now` (UTC)."""
        text = f"VERIFY {verification.reference}"
        link = sms_link(verification.bot_number, text)
        view = VerificationView.of(verification, now)
        return cls(
            **view.model_dump() | {"reference": verification.reference},
            instruction=f"Text {text} to {readable(verification.bot_number)}",
            sms_link=link,
            qr_code=qr_code(link),
        )


def sms_link(number: str, text: str) -> str:
    """Return a link that opens a text to a number (E.164), ready to send (RFC 5724 §2.2)."""
    return f"sms:{number}?body={quote(text, safe='')}"


def qr_code(link: str) -> str:
    """Return a link as a QR code: an SVG image, black on white on any background."""
    image = io.BytesIO()
    segno.make(link, micro=False).save(
        image, kind="svg", scale=_SCALE, light="#fff", xmldecl=False, nl=False
    )
    return image.getvalue().decode()
