"""Bodies as in Telnyx's documentation and OpenAPI description."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from bot.conversation.inputs import Shape
from bot.simulator.telnyx.segments import encoding_of, segments_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime


def event(
    event_type: str, payload: Mapping[str, Any], occurred_at: datetime, webhook_url: str
) -> dict[str, Any]:
    """Return the body of a webhook, with an event id that is new at every call."""
    return {
        "data": {
            "event_type": event_type,
            "id": str(uuid.uuid4()),
            "occurred_at": occurred_at.isoformat(timespec="milliseconds"),
            "payload": payload,
            "record_type": "event",
        },
        "meta": {"attempt": 1, "delivered_to": webhook_url},
    }


def inbound(
    phone: str,
    bot_number: str,
    text: str | None,
    shape: Shape = Shape.PLAIN,
    received_at: datetime | None = None,
) -> dict[str, Any]:
    """Return the payload of a text from a phone to the bot, received by Telnyx at a time (UTC)."""
    picture = {"url": "http://127.0.0.1/picture.png", "content_type": "image/png", "size": 5}
    others = (
        [{"phone_number": "+13125550199", "line_type": "Wireless"}] if shape is Shape.GROUP else []
    )
    return {
        "cc": others,
        "completed_at": None,
        "cost": {"amount": "0.0000", "currency": "USD"},
        "direction": "inbound",
        "encoding": encoding_of(text or ""),
        "errors": [],
        "from": {"carrier": "Example Wireless", "line_type": "long_code", "phone_number": phone},
        "id": str(uuid.uuid4()),
        "media": [picture] if shape is Shape.MEDIA else [],
        "parts": segments_of(text or ""),
        "received_at": received_at and received_at.isoformat(timespec="microseconds"),
        "record_type": "message",
        "text": text,
        "to": [
            {
                "carrier": "Telnyx",
                "line_type": "Wireless",
                "phone_number": bot_number,
                "status": "webhook_delivered",
            }
        ],
        "type": "SMS" if shape is Shape.PLAIN else "MMS",
    }


def outbound(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the payload of the API's response to a send."""
    return {
        "cost": {"amount": "0.0040", "currency": "USD"},
        "direction": "outbound",
        "encoding": encoding_of(body["text"]),
        "errors": [],
        "from": {"carrier": "Telnyx", "line_type": "Wireless", "phone_number": body["from"]},
        "id": str(uuid.uuid4()),
        "media": [],
        "parts": segments_of(body["text"]),
        "record_type": "message",
        "text": body["text"],
        "to": [
            {
                "carrier": "Example Wireless",
                "line_type": "Wireless",
                "phone_number": body["to"],
                "status": "queued",
            }
        ],
        "type": "SMS",
    }


def delivery_report(payload: Mapping[str, Any], status: str) -> dict[str, Any]:
    """Return the payload of a delivery report for a text that the API accepted."""
    failed = {"code": "40008", "title": "Undeliverable", "detail": "A simulated fault"}
    return {
        **payload,
        "errors": [failed] if status == "delivery_failed" else [],
        "to": [recipient | {"status": status} for recipient in payload["to"]],
    }
