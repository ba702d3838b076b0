"""Journal entries as JSON for the page and the HTTP API, with times in ISO 8601."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from bot.simulator.stories.transcript import code_in
from bot.simulator.telnyx.faults import fault_name
from bot.simulator.telnyx.journal import FaultArmed, FaultTriggered, PhoneText
from bot.simulator.telnyx.segments import encoding_of, segments_of

if TYPE_CHECKING:
    from bot.simulator.telnyx.journal import Entry


def as_event(entry: Entry, now: datetime) -> str:
    """Return an entry as a server-sent event's data; `now` is the bot's time."""
    match entry:
        case PhoneText():
            fields = text_fields(entry)
        case FaultArmed() | FaultTriggered():
            fields = {"name": fault_name(entry.fault)}
        case _:
            fields = asdict(entry)
    return to_json({"kind": type(entry).__name__, "now": now} | fields)


def text_fields(text: PhoneText) -> dict[str, Any]:
    """Return the fields of a text, with the code in it and its number of segments."""
    return asdict(text) | {
        "code": code_in(text.text),
        "encoding": encoding_of(text.text),
        "segments": segments_of(text.text),
    }


def to_json(value: Any) -> str:
    """Return JSON; a duration becomes its seconds."""
    return json.dumps(value, default=_encode)


def _encode(value: object) -> object:
    match value:
        case datetime():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
    raise TypeError(type(value).__name__)
