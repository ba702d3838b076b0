"""What follows from texts that have moved: apps are told, and what cannot arrive ends.

The inbox learns of such texts from reports, the sender from the carrier's answers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bot.carrier.errors import BLOCKED
from bot.conversation.happened import Blocked, Undeliverable
from bot.conversation.verification import News, Occurrence
from bot.services.announcing import announce
from bot.services.turns import take_turns
from bot.store import conversations, outbox, tokens
from bot.store.models import OUTBOX_FAILURES, OutboxState

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from bot.conversation.happened import Happened
    from bot.services.turns import Rules
    from bot.store.conversations import Key
    from bot.store.outbox import Progress

_TOLD = {OutboxState.ACCEPTED: Occurrence.SENT, OutboxState.DELIVERED: Occurrence.DELIVERED}


def follow(connection: Connection, moved: Sequence[Progress], now: datetime, rules: Rules) -> None:
    """Do what follows from texts that have moved, in the order given."""
    happened: list[tuple[Key, Happened]] = []
    told: list[tuple[Key | None, News]] = []
    asked = tokens.verifications(connection, [text.token_id for text in moved if text.token_id])
    for text in moved:
        if text.fault == BLOCKED:
            happened.append((_key(connection, text), Blocked(BLOCKED)))
        elif text.token_id not in asked:
            continue
        elif text.state in OUTBOX_FAILURES:
            if outbox.all_failed(connection, text.token_id):
                happened.append((_key(connection, text), Undeliverable(text.token_id)))
        elif text.state in _TOLD:
            told.append((None, News(_TOLD[text.state], asked[text.token_id])))
    take_turns(connection, happened, now, rules)
    if rules.announces and told:
        announce(connection, told, now)


def _key(connection: Connection, text: Progress) -> Key:
    return conversations.key_of(connection, text.conversation_id)
