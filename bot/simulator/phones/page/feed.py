"""Journal entries as the page and the HTTP answers have them: JSON, times in ISO 8601."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from bot.simulator.stories.transcript import code_in
from bot.simulator.telnyx.faults import name_of
from bot.simulator.telnyx.journal import FaultArmed, FaultMet, PhoneText
from bot.simulator.telnyx.segments import encoding_of, segments_of

if TYPE_CHECKING:
    from bot.simulator.telnyx.journal import Entry


def as_event(entry: Entry, now: datetime) -> str:
    """Tell the page of an entry; `now` lets it show the time as the bot has it."""
    match entry:
        case PhoneText():
            facts = of_text(entry)
        case FaultArmed() | FaultMet():
            facts = {"name": name_of(entry.fault)}
        case _:
            facts = asdict(entry)
    return to_json({"kind": type(entry).__name__, "now": now} | facts)


def of_text(text: PhoneText) -> dict[str, Any]:
    """Tell all of a text, with the code in it and what it costs."""
    return asdict(text) | {
        "code": code_in(text.text),
        "encoding": encoding_of(text.text),
        "segments": segments_of(text.text),
    }


def to_json(value: Any) -> str:
    """Write JSON; a length becomes its seconds."""
    return json.dumps(value, default=_plain)


def _plain(value: object) -> object:
    match value:
        case datetime():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
    raise TypeError(type(value).__name__)
