"""Records app events in the transaction of the change that they report.

Their types are in `bot/conversation/app_events.py`, their payloads in `bot/services/schemas.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bot.conversation.app_events import EventType, OptEventCount
from bot.services.schemas import (
    AlertView,
    AppEventView,
    NumberLockView,
    NumberView,
    VerificationView,
)
from bot.store import opt_event_counts, verifications
from bot.store.opt_event_counts import OptEvents
from bot.store.queues import app_events

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from bot.conversation.app_events import AppEvent
    from bot.conversation.verification import Verification
    from bot.store.alerts import Alert
    from bot.store.conversations import ConversationKey

_PROGRESS = frozenset({EventType.SENT, EventType.DELIVERED})
"""Not recorded once a verification has ended: its result is already recorded."""
_OPT_EVENTS = frozenset({EventType.OPTED_OUT, EventType.OPTED_IN})


def record_app_events(
    connection: Connection,
    occurred: Sequence[tuple[ConversationKey | None, AppEvent]],
    now: datetime,
) -> None:
    """Queue app events in the order given, with the verifications as they are in the database now.

    An app event without a verification is about the phone of its conversation.
    """
    ids = {app_event.verification for _, app_event in occurred if app_event.verification}
    stored = verifications.load(connection, ids)
    left_out = _count_opt_events(connection, occurred, now)
    new = [
        _number_event(key, app_event, left_out.get(position), now)
        if key and app_event.verification is None
        else _verification_event(app_event, stored, now)
        for position, (key, app_event) in enumerate(occurred)
    ]
    app_events.add(connection, [event for event in new if event is not None], now)


def record_left_out(connection: Connection, now: datetime) -> None:
    """Queue one event for each number of which opt-outs or opt-ins were left out for an hour.

    It reports the state that holds now, and how many changes before that had no event.
    """
    due = [each for each in opt_event_counts.take_due(connection, now) if each.hour.left_out]
    if not due:
        return
    opt_event_counts.save(
        connection,
        [each._replace(hour=OptEventCount((*each.hour.reported_at[1:], now))) for each in due],
    )
    new = [
        _serialize(
            each.phone,
            each.latest,
            NumberView(
                number=each.phone, bot_number=each.bot_number, left_out=each.hour.left_out - 1
            ),
            now,
        )
        for each in due
    ]
    app_events.add(connection, new, now)


def record_alert(connection: Connection, alert: Alert, now: datetime) -> None:
    """Queue an app event for an alert."""
    view = AlertView(**alert._asdict())
    app_events.add(connection, [_serialize(alert.code, EventType.ALERT, view, now)], now)


def _count_opt_events(
    connection: Connection,
    occurred: Sequence[tuple[ConversationKey | None, AppEvent]],
    now: datetime,
) -> dict[int, int | None]:
    """Count opt-outs and opt-ins; return how many before each were left out, by position.

    None means that it is left out too.
    """
    changes = {
        position: (key, app_event.type)
        for position, (key, app_event) in enumerate(occurred)
        if key and app_event.type in _OPT_EVENTS
    }
    if not changes:
        return {}
    counts = opt_event_counts.load(connection, {key.phone for key, _ in changes.values()})
    changed: dict[str, OptEvents] = {}
    left_out = {}
    for position, (key, event_type) in changes.items():
        count, left_out[position] = counts.get(key.phone, OptEventCount()).after(now)
        counts[key.phone] = count
        changed[key.phone] = OptEvents(key.phone, key.bot_number, event_type, count)
    opt_event_counts.save(connection, changed.values())
    return left_out


def _verification_event(
    app_event: AppEvent, stored: dict[str, Verification], now: datetime
) -> app_events.NewAppEvent | None:
    verification = stored.get(app_event.verification or "")
    if verification is None or (verification.ended_at and app_event.type in _PROGRESS):
        return None
    view = VerificationView.of(verification, now)
    return _serialize(verification.id, app_event.type, view, now)


def _number_event(
    key: ConversationKey, app_event: AppEvent, left_out: int | None, now: datetime
) -> app_events.NewAppEvent | None:
    if app_event.channel is not None:
        lock = NumberLockView(number=key.phone, channel=app_event.channel, until=app_event.until)
        return _serialize(key.phone, app_event.type, lock, now)
    if app_event.type in _OPT_EVENTS and left_out is None:
        return None
    view = NumberView(number=key.phone, bot_number=key.bot_number, left_out=left_out or 0)
    return _serialize(key.phone, app_event.type, view, now)


def _serialize(
    subject: str,
    event_type: EventType,
    data: VerificationView | NumberView | NumberLockView | AlertView,
    now: datetime,
) -> app_events.NewAppEvent:
    body = AppEventView(type=event_type, timestamp=now, data=data).model_dump_json()
    return app_events.NewAppEvent(subject, event_type, body)
