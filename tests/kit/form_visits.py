"""Requests at the web form without a browser."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from bot.conversation.verification import Origin
from bot.services.intake.form_gate import FormVisit
from bot.services.verifications import VerificationRequest

if TYPE_CHECKING:
    from bot.services.intake.app_requests import RequestResult
    from bot.services.verifications import Verifications


def visit(network: str = "network", *, wide: str = "", session: str = "s") -> FormVisit:
    """Return a visit from a network, which is a wide one of its own unless `wide` is given."""
    return FormVisit(session, network, wide or f"around {network}")


def proven(network: str = "network", *, wide: str = "", session: str = "s") -> FormVisit:
    """Return a visit with a new proof of work."""
    plain = visit(network, wide=wide, session=session)
    return FormVisit(session, network, plain.wide_network, proof=secrets.token_hex(16))


def waiting(network: str = "network", *, session: str = "s") -> FormVisit:
    """Return a visit that waits instead of a proof of work."""
    return FormVisit(session, network, f"around {network}", waits=True)


async def begin_at_form(
    apps: Verifications, phone: str, seen: FormVisit, *, session: str = "next"
) -> RequestResult:
    """Request a code; `session` is the one that begins."""
    return await apps.begin(VerificationRequest(Origin.FORM, phone, session=session, visit=seen))
