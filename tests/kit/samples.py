"""Sample webhooks and rules."""

from __future__ import annotations

import itertools

from bot.carrier.webhooks import DeliveryReport, DeliveryStatus, InboundText
from bot.conversation.codes import Keyring
from bot.conversation.inputs import AutoReply, TextReceived
from bot.conversation.policy import Policy
from bot.services.intake.unit_of_work import Rules
from bot.store.conversations import ConversationKey
from tests.kit.secret_keys import SECRET

BOT_NUMBER = "+13125550100"
PHONE = "+13125550001"
RULES = Rules(Policy(), Keyring([SECRET]))

_numbers = itertools.count(1)


def text(
    body: str,
    *,
    phone: str = PHONE,
    key: str | None = None,
    answered: AutoReply | None = None,
) -> InboundText:
    """Return a received text; each one is new unless a key is given."""
    webhook_key = key or f"message:{next(_numbers)}"
    return InboundText(webhook_key, phone, BOT_NUMBER, TextReceived(body, auto_reply=answered))


def report(carrier_id: str, delivery: DeliveryStatus, fault: str | None = None) -> DeliveryReport:
    """Return a delivery report."""
    return DeliveryReport(f"event:{next(_numbers)}", carrier_id, delivery, fault)


def conversation(phone: str = PHONE) -> ConversationKey:
    """Return the key of a phone's conversation with the bot."""
    return ConversationKey(phone, BOT_NUMBER)
