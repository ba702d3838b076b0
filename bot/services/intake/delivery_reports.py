"""What follows from texts that have moved: apps are told, and what cannot arrive ends.

The inbox learns of such texts from reports, the sender from the carrier's answers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bot.carrier.errors import OPTED_OUT_FAULT
from bot.conversation.inputs import DeliveryFailed, OptedOutAtCarrier
from bot.conversation.verification import AppEvent, EventType
from bot.services.intake.app_event_log import record_app_events
from bot.services.intake.unit_of_work import decide_and_save
from bot.store import conversations, tokens
from bot.store.queues import outbox
from bot.store.tables import OUTBOX_FAILURES, OutboxState

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from bot.conversation.inputs import Input
    from bot.services.intake.unit_of_work import Rules
    from bot.store.conversations import ConversationKey
    from bot.store.queues.outbox import TextProgress

_EVENT_TYPES = {OutboxState.ACCEPTED: EventType.SENT, OutboxState.DELIVERED: EventType.DELIVERED}


def apply_progress(
    connection: Connection, moved: Sequence[TextProgress], now: datetime, rules: Rules
) -> None:
    """Do what follows from texts that have moved, in the order given."""
    happened: list[tuple[ConversationKey, Input]] = []
    told: list[tuple[ConversationKey | None, AppEvent]] = []
    asked = tokens.verification_ids(connection, [text.token_id for text in moved if text.token_id])
    for text in moved:
        if text.fault == OPTED_OUT_FAULT:
            happened.append((_key(connection, text), OptedOutAtCarrier(OPTED_OUT_FAULT)))
        elif text.token_id not in asked:
            continue
        elif text.state in OUTBOX_FAILURES:
            if outbox.all_failed(connection, text.token_id):
                happened.append((_key(connection, text), DeliveryFailed(text.token_id)))
        elif text.state in _EVENT_TYPES:
            told.append((None, AppEvent(_EVENT_TYPES[text.state], asked[text.token_id])))
    decide_and_save(connection, happened, now, rules)
    if rules.announces and told:
        record_app_events(connection, told, now)


def _key(connection: Connection, text: TextProgress) -> ConversationKey:
    return conversations.key_of(connection, text.conversation_id)
