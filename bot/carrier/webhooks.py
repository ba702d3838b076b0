"""Verifies and parses Telnyx's webhooks.

Real webhooks differ from Telnyx's documentation (unknown line types, missing fields), so only the
fields that are needed are read, and a webhook that is signed but unusable is ignored, not refused.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from bot.conversation.inputs import AutoReply, Shape, TextReceived
from bot.conversation.numbers import canonical, is_e164

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

SIGNATURE_HEADER = "telnyx-signature-ed25519"
TIMESTAMP_HEADER = "telnyx-timestamp"
TOLERANCE = 300
"""Seconds by which a signed timestamp may differ from our clock, in either direction."""

UNKNOWN_RECIPIENT = "recipient"
"""Why a text to a number that is not the bot's is ignored."""

_SIGNATURE_LENGTH = 64
_TIMESTAMP = re.compile(r"\d{1,12}", re.ASCII)
_ID = re.compile(r"[!-~]{1,128}", re.ASCII)
_MAX_TEXT_LENGTH = 1600
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


class SignatureError(Exception):
    """The request is not from Telnyx, or is too old; the message does not quote it."""


class BodyError(Exception):
    """The request is signed, but its body is not an event in JSON."""


class DeliveryStatus(StrEnum):
    """The delivery status of a text that Telnyx accepted."""

    SENT = "sent"
    UNCONFIRMED = "unconfirmed"
    DELIVERED = "delivered"
    FAILED = "failed"


class InboundText(Struct, frozen=True):
    """A person's text to one of the bot's numbers (both E.164); `key` identifies the text.

    `phone` is in its canonical spelling, `bot_number` as it is spelled in the settings.
    """

    key: str
    phone: str
    bot_number: str
    input: TextReceived


class DeliveryReport(Struct, frozen=True):
    """The status of a text that the bot sent; `key` identifies the webhook.

    `carrier_id` is Telnyx's id of the text, `fault` Telnyx's error code.
    """

    key: str
    carrier_id: str
    status: DeliveryStatus
    fault: str | None = None


class Ignored(Struct, frozen=True):
    """A signed webhook that the bot has no use for."""

    reason: str


WebhookEvent = InboundText | DeliveryReport | Ignored

# Telnyx adds statuses without notice; those not listed here are not final, and are ignored.
_STATUSES = {
    "sent": DeliveryStatus.SENT,
    "delivered": DeliveryStatus.DELIVERED,
    "delivery_unconfirmed": DeliveryStatus.UNCONFIRMED,
    "dlr_timeout": DeliveryStatus.UNCONFIRMED,
    "sending_failed": DeliveryStatus.FAILED,
    "delivery_failed": DeliveryStatus.FAILED,
    "expired": DeliveryStatus.FAILED,
    "gw_timeout": DeliveryStatus.FAILED,
}


_AUTO_REPLIES = {"STOP": AutoReply.STOP, "START": AutoReply.START}


class Verifier:
    """Verifies signatures with Telnyx's public keys: several while one replaces another."""

    def __init__(self, public_keys: Sequence[bytes]) -> None:
        self._keys = [VerifyKey(key) for key in public_keys]

    def verify(
        self, body: bytes, signatures: Sequence[str], timestamps: Sequence[str], now: datetime
    ) -> datetime:
        """Verify the raw body against all values of the two headers, or raise SignatureError.

        Return the latest time (UTC) at which Telnyx can have signed it: the timestamp is in whole
        seconds. The signature is Ed25519 over `timestamp|body` (Telnyx, "Webhook signing").
        """
        if len(signatures) != 1 or len(timestamps) != 1:
            raise SignatureError("signature headers missing or repeated")
        signature, timestamp = _signature(signatures[0]), timestamps[0]
        if not _TIMESTAMP.fullmatch(timestamp):
            raise SignatureError("timestamp is not in Unix seconds")
        if abs(now.timestamp() - int(timestamp)) > TOLERANCE:
            raise SignatureError("timestamp differs by more than 300 s from this machine's clock")
        signed = timestamp.encode() + b"|" + body
        if not any(_verifies(key, signed, signature) for key in self._keys):
            raise SignatureError("signature does not verify with any of the keys")
        return datetime.fromtimestamp(int(timestamp) + 1, UTC)


def parse(
    body: bytes,
    bot_numbers: Collection[str],
    arrived_at: datetime,
    signed_at: datetime | None = None,
) -> WebhookEvent:
    """Parse a verified body that arrived at `arrived_at` (UTC), for the bot's numbers (E.164).

    `signed_at` is the latest time at which Telnyx can have signed it: later than `arrived_at` if
    our clock is behind. Raise BodyError if the body is not a JSON object with an object `data`.
    """
    envelope = _json(body)
    data = envelope.get("data") if isinstance(envelope, dict) else None
    if not isinstance(data, dict):
        raise BodyError("the body is not an object with an object `data`")
    payload = _dict(data.get("payload"))
    match data.get("event_type"):
        case "message.received":
            latest = max(arrived_at, signed_at or arrived_at)
            return _inbound_text(payload, bot_numbers, arrived_at, latest)
        case "message.sent" | "message.finalized":
            return _delivery_report(data.get("id"), payload)
        case _:
            return Ignored("event type")


def _json(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (ValueError, RecursionError):
        # msgspec refuses some JSON that the standard library accepts, such as a lone surrogate.
        pass
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BodyError("the body is not JSON") from error


def _inbound_text(
    payload: Mapping[str, Any],
    bot_numbers: Collection[str],
    arrived_at: datetime,
    latest: datetime,
) -> WebhookEvent:
    message_id = storable_id(payload.get("id"))
    sender = _number(payload.get("from"))
    recipients = [_number(recipient) for recipient in _list(payload.get("to"))]
    others = [_number(other) for other in _list(payload.get("cc"))]
    own = {canonical(number): number for number in bot_numbers}
    to_bot = (
        own[canonical(number)] for number in recipients if number and canonical(number) in own
    )
    bot_number = next(to_bot, None)
    media = _list(payload.get("media"))
    text = payload.get("text")
    if message_id is None:
        return Ignored("message id")
    if sender is None or canonical(sender) in own:
        return Ignored("sender")
    phone = canonical(sender)
    if bot_number is None:
        return Ignored(UNKNOWN_RECIPIENT)
    if not isinstance(text, str) and not media:
        return Ignored("text")
    in_group = len(recipients) + len(others) > 1
    shape = Shape.GROUP if in_group else Shape.MEDIA if media else Shape.PLAIN
    received = TextReceived(
        _storable(text),
        shape,
        _auto_reply(payload.get("autoresponse_type")),
        received_at=_received_at(payload.get("received_at"), arrived_at, latest),
        sender=None if sender == phone else sender,
    )
    return InboundText(f"message:{message_id}", phone, bot_number, received)


def _delivery_report(event_id: object, payload: Mapping[str, Any]) -> WebhookEvent:
    key, carrier_id = storable_id(event_id), storable_id(payload.get("id"))
    statuses = [_dict(recipient).get("status") for recipient in _list(payload.get("to"))]
    status = next((_STATUSES[s] for s in statuses if isinstance(s, str) and s in _STATUSES), None)
    if key is None or carrier_id is None or status is None:
        return Ignored("report")
    codes = [_code(_dict(error).get("code")) for error in _list(payload.get("errors"))]
    fault = next((code for code in codes if code), None)
    return DeliveryReport(f"event:{key}", carrier_id, status, fault and fault[:64])


def _signature(header: str) -> bytes:
    try:
        signature = base64.b64decode(header, validate=True)
    except (binascii.Error, ValueError) as error:
        raise SignatureError("signature is not base64") from error
    if len(signature) != _SIGNATURE_LENGTH:
        raise SignatureError("signature is not 64 bytes long")
    return signature


def _verifies(key: VerifyKey, signed: bytes, signature: bytes) -> bool:
    try:
        key.verify(signed, signature)
    except BadSignatureError:
        return False
    return True


def _received_at(value: object, arrived_at: datetime, latest: datetime) -> datetime:
    """Return when Telnyx received a text, or `arrived_at` if that is missing or impossible."""
    if not isinstance(value, str):
        return arrived_at
    try:
        received_at = datetime.fromisoformat(value)
        if received_at.tzinfo is None:
            return arrived_at
        received_at = received_at.astimezone(UTC)
    except (ValueError, OverflowError):
        return arrived_at
    return received_at if received_at <= latest else arrived_at


def _auto_reply(keyword: object) -> AutoReply | None:
    if not isinstance(keyword, str) or not keyword:
        return None
    return _AUTO_REPLIES.get(keyword, AutoReply.OTHER)


def _number(party: object) -> str | None:
    number = _dict(party).get("phone_number")
    return number if isinstance(number, str) and is_e164(number) else None


def storable_id(value: object) -> str | None:
    """Return an id of Telnyx's, or None if it cannot be stored."""
    return value if isinstance(value, str) and _ID.fullmatch(value) else None


def _code(value: object) -> str | None:
    return storable_id(str(value)) if isinstance(value, int) else storable_id(value)


def _storable(text: object) -> str:
    return _UNSTORABLE.sub("", text)[:_MAX_TEXT_LENGTH] if isinstance(text, str) else ""


def _dict(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> Sequence[Any]:
    return value if isinstance(value, list) else []
