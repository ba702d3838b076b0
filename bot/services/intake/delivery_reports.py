"""Applies the progress of texts: app events, failed codes, opt-outs at the carrier.

The inbox learns of progress from delivery reports, the sender from the carrier's answers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bot.carrier.errors import OPTED_OUT_FAULT
from bot.conversation.app_events import AppEvent, EventType
from bot.conversation.inputs import DeliveryFailed, OptedOutAtCarrier
from bot.conversation.numbers import spellings
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
    connection: Connection, progress: Sequence[TextProgress], now: datetime, rules: Rules
) -> None:
    """Apply the progress of texts in the order given: decide inputs, record app events.

    The next text to a phone whose number has two spellings goes to the other one if this one has
    failed for good.
    """
    _mark_unreachable(connection, progress)
    inputs: list[tuple[ConversationKey, Input]] = []
    events: list[tuple[ConversationKey | None, AppEvent]] = []
    token_ids = [text.token_id for text in progress if text.token_id]
    verification_ids = tokens.verification_ids(connection, token_ids)
    for text in progress:
        if text.fault == OPTED_OUT_FAULT:
            inputs.append((_key(connection, text), OptedOutAtCarrier(OPTED_OUT_FAULT)))
        elif text.token_id not in verification_ids:
            continue
        elif text.state in OUTBOX_FAILURES:
            if outbox.all_failed(connection, text.token_id):
                inputs.append((_key(connection, text), DeliveryFailed(text.token_id)))
        elif text.state in _EVENT_TYPES:
            verification_id = verification_ids[text.token_id]
            events.append((None, AppEvent(_EVENT_TYPES[text.state], verification_id)))
    decide_and_save(connection, inputs, now, rules)
    if rules.has_app and events:
        record_app_events(connection, events, now)


def _mark_unreachable(connection: Connection, progress: Sequence[TextProgress]) -> None:
    """Save the spellings to which texts have failed for good; an opt-out is no such failure."""
    failed = {
        text.conversation_id: text.recipient
        for text in progress
        if text.state is OutboxState.FAILED and text.fault != OPTED_OUT_FAULT
    }
    phones = conversations.phones_of(connection, failed)
    unreachable = {
        row_id: failed[row_id] or phone
        for row_id, phone in phones.items()
        if len(spellings(phone)) > 1
    }
    conversations.save_unreachable(connection, unreachable)


def _key(connection: Connection, text: TextProgress) -> ConversationKey:
    return conversations.key_of(connection, text.conversation_id)
