"""People who text, as events; and the rules they are met with."""

from __future__ import annotations

import itertools

from bot.carrier.webhooks import DeliveryReport, DeliveryStatus, InboundText
from bot.conversation.codes import Keyring
from bot.conversation.inputs import AutoReply, TextReceived
from bot.conversation.policy import Policy
from bot.services.intake.unit_of_work import Rules
from bot.store.conversations import ConversationKey

BOT_NUMBER = "+13125550100"
PHONE = "+13125550001"
SECRET = "a secret of the tests, long enough to be one"
RULES = Rules(Policy(), Keyring([SECRET]))

_numbers = itertools.count(1)


def text(
    said: str,
    *,
    phone: str = PHONE,
    key: str | None = None,
    answered: AutoReply | None = None,
) -> InboundText:
    """Make the event of a person's text; every one is new unless a key is given."""
    name = key or f"message:{next(_numbers)}"
    return InboundText(name, phone, BOT_NUMBER, TextReceived(said, auto_reply=answered))


def report(carrier_id: str, delivery: DeliveryStatus, fault: str | None = None) -> DeliveryReport:
    """Make the event of a delivery report."""
    return DeliveryReport(f"event:{next(_numbers)}", carrier_id, delivery, fault)


def conversation(phone: str = PHONE) -> ConversationKey:
    """Name the conversation of a phone with the bot."""
    return ConversationKey(phone, BOT_NUMBER)
