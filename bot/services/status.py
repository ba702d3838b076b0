"""The output of `bot status`, `bot events` and `bot keys list`."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from bot.app_events import results
from bot.carrier.errors import Limit, advice
from bot.conversation.channels import TEXT
from bot.conversation.numbers import is_e164, masked
from bot.conversation.policy import Policy
from bot.conversation.state import State
from bot.conversation.throttle import ACCOUNT
from bot.conversation.verification import Origin, Status
from bot.services.intake.form_gate import FormLevel
from bot.services.upkeep.clock_monitor import ADVICE
from bot.store import (
    alerts,
    clock_drifts,
    conversations,
    people,
    phone_limits,
    throttle,
    verifications,
)
from bot.store.queues import app_events, outbox
from bot.store.tables import AppEventState, OutboxState
from bot.store.verifications import Filter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from bot.conversation.channels import Channel
    from bot.conversation.person import Person
    from bot.conversation.state import ChannelLimits, Conversation, PhoneLimits
    from bot.conversation.verification import Verification
    from bot.store.api_keys import ApiKey

_RECENT = timedelta(days=1)
_MAX_DEAD_EVENTS = 50
_MAX_VERIFICATIONS = 5
_FORM_LEVELS = {
    FormLevel.OPEN: "",
    FormLevel.PROOF: ": everybody does a proof of work first",
    FormLevel.CLOSED: ": only numbers that were verified before get one",
}


def overview(connection: Connection, now: datetime, form_budget: int | None = None) -> str:
    """Count conversations, texts and verifications by state, and list the last day's faults.

    `form_budget` is how many codes the web form may send in a day; None if there is no form.
    """
    verified, opted_out = people.counts(connection)
    states = conversations.counts(connection)
    texts = outbox.counts(connection)
    lines = ["people:", f"  {'verified':<14} {verified:>9}", f"  {'opted out':<14} {opted_out:>9}"]
    lines += ["", "conversations:"]
    lines += [f"  {state:<14} {states.get(state, 0):>9}" for state in State]
    lines += ["", "texts:"]
    lines += [f"  {state:<14} {texts.get(state, 0):>9}" for state in OutboxState]
    requested = verifications.counts(connection, now)
    lines += ["", "verifications that apps requested:"]
    lines += [f"  {status:<14} {requested.get(status, 0):>9}" for status in Status]
    given_up = app_events.counts(connection).get(AppEventState.DEAD, 0)
    if given_up or app_events.any_disabled(connection):
        lines += ["", f"events to your app: {given_up} given up, or paused; see: bot events"]
    if form_budget is not None:
        lines += ["", _form_budget(connection, form_budget, now)]
    lines += _slowed_throttles(connection, now)
    lines += _wrong_clocks(connection, now)
    lines += _alerts(connection, now)
    faults = outbox.faults(connection, now - _RECENT)
    if faults:
        lines += ["", "faults of the last day:"]
        lines += [
            f"  {state:<14} {count:>9}  {fault}: {advice(fault)}" for state, fault, count in faults
        ]
    return "\n".join(lines)


def _form_budget(connection: Connection, budget: int, now: datetime) -> str:
    """Describe how much of the web form's budget is used, and what that means."""
    used = outbox.count_form_codes(connection, now - _RECENT)
    share = f", {used * 100 // budget} %" if budget else ""
    return (
        f"codes of the web form in the last day: {used} of {budget}{share}"
        f"{_FORM_LEVELS[FormLevel.of(used, budget)]}"
    )


def _slowed_throttles(connection: Connection, now: datetime) -> list[str]:
    """List the throttles that are slowed because the carrier's rate limit was exceeded."""
    halved = [
        (name, halvings)
        for name, each in throttle.read(connection).items()
        if (halvings := each.halvings_at(now))
    ]
    return ["", *(_slowed_throttle(name, halvings) for name, halvings in halved)] if halved else []


def _slowed_throttle(name: str, halvings: int) -> str:
    limit = Limit.ACCOUNT if name == ACCOUNT else Limit.NUMBER
    return f"sending slowed to 1/{2**halvings}: {name}: {advice(limit.value)}"


def _wrong_clocks(connection: Connection, now: datetime) -> list[str]:
    """List the processes that have recorded a difference between their two clocks."""
    found = clock_drifts.current(connection, now)
    return ["", *map(_wrong_clock, found)] if found else []


def _wrong_clock(found: clock_drifts.ClockDrift) -> str:
    seconds = found.drift.total_seconds()
    return (
        f"clock of {found.process}: its time for decisions is {abs(seconds):.0f} s"
        f" {'behind' if seconds > 0 else 'ahead of'} its wall clock"
        f" (measured {_time(found.measured_at)}): {ADVICE}"
    )


def _alerts(connection: Connection, now: datetime) -> list[str]:
    """List the last day's alerts, the latest of each kind."""
    found = alerts.since(connection, now - _RECENT)
    return ["", "alerts of the last day:", *map(_alert, found)] if found else []


def _alert(stored: alerts.StoredAlert) -> str:
    alert = stored.alert
    return (
        f"  {alert.code} ({alert.scope}), {_time(stored.raised_at)}:"
        f" {alert.message}: {alert.action}"
    )


def of_phone(connection: Connection, phone: str, now: datetime) -> str:
    """Describe the conversations of a phone (E.164), and the verifications that apps requested."""
    stored = conversations.find(connection, phone)
    if not stored:
        return f"{phone} has never texted this bot"
    limits = phone_limits.read(connection, phone)
    by_channel = phone_limits.read_channels(connection, [phone])
    parts = [_person(phone, people.read(connection, phone), now)]
    parts += [
        _describe(each.conversation, limits, outbox.last_text(connection, each.id), now)
        for each in stored
    ]
    known = {TEXT: limits} | {channel: each for (_, channel), each in sorted(by_channel.items())}
    if lines := [*_closed(limits, now), *_limits_of_channels(known, now)]:
        parts.append("\n".join(["limits of this phone:", *lines]))
    requested = verifications.page(connection, Filter(phone=phone, limit=_MAX_VERIFICATIONS), now)
    if requested:
        lines = [_verification(each, now) for each in requested]
        parts.append("\n".join(["requested by apps, the latest first:", *lines]))
    return "\n\n".join(parts)


def _closed(limits: PhoneLimits, now: datetime) -> list[str]:
    return [
        f"  {each.channel}: closed until {_time(each.until)}; to open it: bot unlock PHONE"
        for each in limits.closed
        if now < each.until
    ]


def _limits_of_channels(known: Mapping[Channel, ChannelLimits], now: datetime) -> list[str]:
    """Describe the locks of a phone's channels, and the codes that have grown."""
    lines = []
    for channel, limits in known.items():
        until = limits.locked_until
        if until is not None and now < until:
            lines.append(f"  {channel}: locked until {_time(until)}")
        if length := Policy().least_length(limits, now):
            lines.append(f"  {channel}: codes of at least {length} characters")
    return lines


def _person(phone: str, person: Person, now: datetime) -> str:
    """Describe what holds for a phone at all of the bot's numbers."""
    since = person.verified_at
    lines = [f"{phone}", f"  verified   {f'since {_time(since)}' if since else 'never'}"]
    if person.opted_out and person.opted_out_at:
        lines.append(f"  opted out  since {_time(person.opted_out_at)}")
    refused = [
        f"{asker} until {_time(until)}"
        for asker, origin in (("apps", Origin.APP), ("the web form", Origin.FORM))
        if (until := person.refused_until(origin)) and now < until
    ]
    if refused:
        lines.append(f"  NOT ME     no codes for {', '.join(refused)}")
    return "\n".join(lines)


def of_events(connection: Connection) -> str:
    """Count the app events by state, and list the latest that were given up."""
    counts = app_events.counts(connection)
    lines = ["events:", *(f"  {state:<14} {counts.get(state, 0):>9}" for state in AppEventState)]
    if app_events.any_disabled(connection):
        lines += ["", f"paused, since the app answered 410: {results.advice(results.GONE)}"]
    dead = app_events.list_dead(connection, _MAX_DEAD_EVENTS)
    if dead:
        lines += ["", "given up (fix the fault, then run: bot events replay ID, or --all):"]
        lines += [line for event in dead for line in _dead_event(event)]
    if len(dead) < counts.get(AppEventState.DEAD, 0):
        lines += [f"  and {counts[AppEventState.DEAD] - len(dead)} that are older"]
    return "\n".join(lines)


def _dead_event(event: app_events.DeadAppEvent) -> list[str]:
    subject = masked(event.subject) if is_e164(event.subject) else event.subject
    fault = event.fault or "unknown"
    return [
        f"  {event.public_id}  {event.type} of {subject}, {_time(event.created_at)}",
        f"    {fault}: {results.advice(fault)}",
    ]


def of_keys(keys: Sequence[ApiKey]) -> str:
    """List API keys without their secrets, one a line."""
    return "\n".join(
        f"{key.public_id}  {key.title}: {', '.join(sorted(key.scopes))}, {key.per_minute} a minute,"
        f" since {_time(key.created_at)}"
        f"{f', revoked {_time(key.revoked_at)}' if key.revoked_at else ''}"
        for key in keys
    )


def _describe(
    conversation: Conversation, limits: PhoneLimits, last: outbox.TextSummary | None, now: datetime
) -> str:
    recipient = conversation.recipient
    other_spelling = [f"  texts to   {recipient}"] if recipient != conversation.phone else []
    return "\n".join(
        [
            f"{conversation.phone} with {conversation.bot_number}",
            *other_spelling,
            f"  state      {conversation.state}{_remark(conversation, limits, now)}",
            f"  last text  {_last_text(last)}",
        ]
    )


def _remark(conversation: Conversation, limits: PhoneLimits, now: datetime) -> str:
    """Describe a change that time alone has made; it is stored only at the next text."""
    token = conversation.token
    if limits.locked_at(now) and limits.text_locked_until:
        return f" (locked until {_time(limits.text_locked_until)})"
    if conversation.state is State.LOCKED:
        return " (the lock has ended)"
    if conversation.blocked_at is not None:
        blocked_at = _time(conversation.blocked_at)
        return (
            f" (Telnyx blocks this number alone, since {blocked_at}, until START is texted to it)"
        )
    if conversation.state is State.AWAITING_CODE and token and not token.works_at(now):
        return " (the code has expired)"
    return ""


def _verification(verification: Verification, now: datetime) -> str:
    why = f" ({verification.reason})" if verification.reason else ""
    how = f"{verification.origin}, {_time(verification.created_at)}"
    return f"  {verification.id}  {verification.status_at(now)}{why}, {how}"


def _last_text(text: outbox.TextSummary | None) -> str:
    if text is None:
        return "none"
    fault = f" ({text.fault}: {advice(text.fault)})" if text.fault else ""
    return f"{text.reply}, {text.state}{fault}, {_time(text.created_at)}"


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
