"""What an operator sees: how many people stand where, where one phone stands, which keys hold."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from bot.app_events import results
from bot.carrier.errors import Limit, advice
from bot.conversation.numbers import is_e164, masked
from bot.conversation.state import State
from bot.conversation.verification import Status
from bot.services.upkeep.clock_monitor import ADVICE
from bot.store import clock_drifts, conversations, phone_limits, throttle, verifications
from bot.store.queues import app_events, outbox
from bot.store.tables import AppEventState, OutboxState
from bot.store.verifications import Filter

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from bot.conversation.state import Conversation, PhoneLimits
    from bot.conversation.verification import Verification
    from bot.store.api_keys import ApiKey

_RECENT = timedelta(days=1)
_DEAD_SHOWN = 50
_ASKED_SHOWN = 5


def overview(connection: Connection, now: datetime) -> str:
    """Count conversations, texts and verifications by state, and name the last day's faults."""
    verified, states = conversations.counts(connection)
    texts = outbox.counts(connection)
    lines = [f"verified at some time: {verified}", "", "conversations:"]
    lines += [f"  {state:<14} {states.get(state, 0):>9}" for state in State]
    lines += ["", "texts:"]
    lines += [f"  {state:<14} {texts.get(state, 0):>9}" for state in OutboxState]
    asked = verifications.counts(connection, now)
    lines += ["", "verifications that apps asked for:"]
    lines += [f"  {status:<14} {asked.get(status, 0):>9}" for status in Status]
    given_up = app_events.counts(connection).get(AppEventState.DEAD, 0)
    if given_up or app_events.any_disabled(connection):
        lines += ["", f"events to your app: {given_up} given up, or paused; see: bot events"]
    lines += _slowed(connection, now)
    lines += _clocks_off(connection, now)
    faults = outbox.faults(connection, now - _RECENT)
    if faults:
        lines += ["", "faults of the last day:"]
        lines += [
            f"  {state:<14} {count:>9}  {fault}: {advice(fault)}" for state, fault, count in faults
        ]
    return "\n".join(lines)


def _slowed(connection: Connection, now: datetime) -> list[str]:
    """Name the paces that are slowed, since a limit of the carrier's was met."""
    halved = [
        (name, halvings)
        for name, pace in throttle.read(connection).items()
        if (halvings := pace.halvings_at(now))
    ]
    return ["", *(_slow(name, halvings) for name, halvings in halved)] if halved else []


def _slow(name: str, halvings: int) -> str:
    limit = Limit.ACCOUNT if name == throttle.ACCOUNT else Limit.NUMBER
    return f"sending slowed to 1/{2**halvings}: {name}: {advice(limit.value)}"


def _clocks_off(connection: Connection, now: datetime) -> list[str]:
    """Name the processes whose wall clock and steady clock differ, as these have recorded."""
    found = clock_drifts.current(connection, now)
    return ["", *map(_clock_off, found)] if found else []


def _clock_off(found: clock_drifts.ClockDrift) -> str:
    seconds = found.drift.total_seconds()
    return (
        f"clock of {found.process}: decides by a time {abs(seconds):.0f} s"
        f" {'behind' if seconds > 0 else 'ahead of'} its wall clock"
        f" (measured {_moment(found.measured_at)}): {ADVICE}"
    )


def of_phone(connection: Connection, phone: str, now: datetime) -> str:
    """Tell of a phone (E.164): of each conversation its state, since when verified, last text.

    Then of what apps asked of it, the latest first.
    """
    known = conversations.find(connection, phone)
    if not known:
        return f"{phone} has never texted this bot"
    limits = phone_limits.read(connection, phone)
    parts = [
        _describe(found.conversation, limits, outbox.last_text(connection, found.id), now)
        for found in known
    ]
    asked = verifications.page(connection, Filter(phone=phone, limit=_ASKED_SHOWN), now)
    if asked:
        lines = [_asked(verification, now) for verification in asked]
        parts.append("\n".join(["asked for by apps, the latest first:", *lines]))
    return "\n\n".join(parts)


def of_events(connection: Connection) -> str:
    """Count the events for the app by state, and name the latest that were given up."""
    counted = app_events.counts(connection)
    lines = ["events:", *(f"  {state:<14} {counted.get(state, 0):>9}" for state in AppEventState)]
    if app_events.any_disabled(connection):
        lines += ["", f"paused, since the app answered 410: {results.advice(results.GONE)}"]
    given_up = app_events.list_dead(connection, _DEAD_SHOWN)
    if given_up:
        lines += ["", "given up (mend the fault, then run: bot events replay ID, or --all):"]
        lines += [line for event in given_up for line in _given_up(event)]
    if len(given_up) < counted.get(AppEventState.DEAD, 0):
        lines += [f"  and {counted[AppEventState.DEAD] - len(given_up)} that are older"]
    return "\n".join(lines)


def _given_up(event: app_events.DeadAppEvent) -> list[str]:
    subject = masked(event.subject) if is_e164(event.subject) else event.subject
    fault = event.fault or "unknown"
    return [
        f"  {event.public_id}  {event.type} of {subject}, {_moment(event.created_at)}",
        f"    {fault}: {results.advice(fault)}",
    ]


def of_keys(keys: Sequence[ApiKey]) -> str:
    """List API keys, without their secrets; nothing where there are none."""
    return "\n".join(
        f"{key.public_id}  {key.title}: {', '.join(sorted(key.scopes))}, {key.per_minute} a minute,"
        f" since {_moment(key.created_at)}"
        f"{f', revoked {_moment(key.revoked_at)}' if key.revoked_at else ''}"
        for key in keys
    )


def _describe(
    conversation: Conversation, limits: PhoneLimits, last: outbox.TextSummary | None, now: datetime
) -> str:
    since = conversation.verified_at
    return "\n".join(
        [
            f"{conversation.phone} with {conversation.bot_number}",
            f"  state      {conversation.state}{_remark(conversation, limits, now)}",
            f"  verified   {f'since {_moment(since)}' if since else 'never'}",
            f"  last text  {_last(last)}",
        ]
    )


def _remark(conversation: Conversation, limits: PhoneLimits, now: datetime) -> str:
    """Say what time has changed since the state was written: it is noticed at the next text."""
    token = conversation.token
    if limits.locked_at(now) and limits.locked_until:
        return f" (locked until {_moment(limits.locked_until)})"
    if conversation.state is State.LOCKED:
        return " (the lock has ended)"
    if conversation.state is State.AWAITING_CODE and token and not token.works_at(now):
        return " (the code has expired)"
    return ""


def _asked(verification: Verification, now: datetime) -> str:
    why = f" ({verification.reason})" if verification.reason else ""
    how = f"{verification.origin}, {_moment(verification.created_at)}"
    return f"  {verification.id}  {verification.status_at(now)}{why}, {how}"


def _last(text: outbox.TextSummary | None) -> str:
    if text is None:
        return "none"
    fault = f" ({text.fault}: {advice(text.fault)})" if text.fault else ""
    return f"{text.reply}, {text.state}{fault}, {_moment(text.created_at)}"


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
