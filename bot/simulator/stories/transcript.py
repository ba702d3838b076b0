"""Sessions written as stories, so that they can be played again as tests."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from bot.conversation.replies import CODE_PLACEHOLDER, CODE_WORDINGS
from bot.simulator.sandbox import PHONE
from bot.simulator.stories.player import AT, REPLY_AUTHORS, SHAPES, WRONG
from bot.simulator.telnyx import faults
from bot.simulator.telnyx.journal import (
    Arrival,
    Author,
    ClockMoved,
    FaultArmed,
    FaultTriggered,
    PhoneStatus,
    PhoneText,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from bot.conversation.state import State
    from bot.simulator.telnyx.journal import Entry

_CODE_TEXT = re.compile(
    rf"code: ([0-9A-F]{{4,64}})\. (?:It is for [^.]+\. )?(?:{'|'.join(CODE_WORDINGS)})"
)
_RESOLUTION = timedelta(seconds=0.1)
_REPLY_TIME = timedelta(seconds=0.5)
"""Replies and states follow a text within this time; a later reply waited, say for a retry."""
_SEPARATOR = r"[\W_]*"
_UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))
_MARKS = {shape: mark for mark, shape in SHAPES.items()} | {
    author: mark for mark, author in REPLY_AUTHORS.items()
}


def code_in(text: str) -> str | None:
    """Return the code in one of the bot's texts, if there is one."""
    match = _CODE_TEXT.search(text)
    return match and match[1]


def transcript(entries: Sequence[Entry], now: datetime) -> str:
    """Write the session so far as a story, without the texts that failed."""
    latest = {entry.id: entry for entry in entries if isinstance(entry, PhoneText)}
    writer = _Writer(_start_time(entries[0]) if entries else now)
    written: set[int] = set()
    for entry in entries:
        match entry:
            case PhoneText() if entry.id not in written:
                written.add(entry.id)
                writer.add_text(latest[entry.id])
            case ClockMoved():
                writer.add_clock_move(entry)
            case FaultArmed():
                writer.add_fault(entry)
            case FaultTriggered():
                writer.note_triggered(entry)
            case PhoneStatus():
                writer.states[entry.phone] = entry.state
    return writer.finish(now)


def _start_time(first: Entry) -> datetime:
    return first.at - first.duration if isinstance(first, ClockMoved) else first.at


@dataclass(slots=True)
class _Writer:
    """Writes line after line; `at` is the player's time after the lines so far."""

    at: datetime
    lines: list[str] = field(init=False)
    phone: str = PHONE
    codes: list[str] = field(default_factory=list)
    last_code: str = ""
    states: dict[str, State] = field(default_factory=dict)
    written_states: dict[str, State] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.lines = [f"{AT}{self.at.isoformat()}"]

    def add_text(self, text: PhoneText) -> None:
        if text.author is Author.PERSON:
            self._before_action(text.at)
            self._switch_phone(text.phone)
            self.lines.append(f"{_MARKS[text.shape]} {self._mask_person_text(text.text)}".rstrip())
        elif text.arrival is not Arrival.FAILED:
            if text.at - self.at >= _REPLY_TIME:
                self._pass_time(text.at)
            self._switch_phone(text.phone)
            self.lines.append(f"{_MARKS[text.author]} {self._mask_bot_text(text.text)}")

    def add_clock_move(self, move: ClockMoved) -> None:
        self._before_action(move.at - move.duration)
        self.lines.append(f"/later {_format_duration(move.duration)}")
        self.at += move.duration

    def add_fault(self, fault: FaultArmed) -> None:
        name = faults.fault_name(fault.fault)
        if name is not None:
            self._before_action(fault.at)
            self.lines.append(f"/fault {name}")

    def note_triggered(self, fault: FaultTriggered) -> None:
        """Let time pass until a failed attempt: the delay of the next one counts from there."""
        if fault.at - self.at >= _REPLY_TIME:
            self._before_action(fault.at)

    def finish(self, now: datetime) -> str:
        self._write_states(now)
        return "\n".join([*self.lines, ""])

    def _before_action(self, at: datetime) -> None:
        self._write_states(at)
        self._pass_time(at)

    def _pass_time(self, until: datetime) -> None:
        """Let time pass until a time, in whole tenths of a second."""
        ticks = (until - self.at) // _RESOLUTION
        if ticks > 0:
            self.lines.append(f"/later {_format_duration(ticks * _RESOLUTION)}")
            self.at += ticks * _RESOLUTION

    def _write_states(self, at: datetime) -> None:
        """Write the phones' new states, if the latest text had time to take effect."""
        if at - self.at < _REPLY_TIME:
            return
        for phone, state in self.states.items():
            if self.written_states.get(phone) is not state:
                self._switch_phone(phone)
                self.lines.append(f"= {state}")
                self.written_states[phone] = state

    def _switch_phone(self, phone: str) -> None:
        if phone != self.phone:
            self.lines.append(f"/phone {phone}")
            self.phone = phone

    def _mask_bot_text(self, text: str) -> str:
        code = code_in(text)
        if code is None:
            return text
        if code not in self.codes:
            self.codes.append(code)
        self.last_code = code
        return text.replace(code, CODE_PLACEHOLDER, 1)

    def _mask_person_text(self, text: str) -> str:
        """Replace codes by placeholders: another session has other codes."""
        line = " ".join(text.split())
        for number, code in enumerate(self.codes, start=1):
            spelled = re.compile(_SEPARATOR.join(code), re.IGNORECASE)
            placeholder = CODE_PLACEHOLDER if code == self.last_code else f"{{code:{number}}}"
            line, count = spelled.subn(placeholder, line)
            if count:
                return line
        symbol = "[0-9]" if self.last_code.isdecimal() else "[0-9A-F]"
        shape = rf"{symbol}{{{len(self.last_code)}}}"
        return WRONG if self.last_code and re.fullmatch(shape, line) else line


def _format_duration(duration: timedelta) -> str:
    """Format a duration as `parse_duration` reads it: at most six digits and a tenth."""
    tenths = duration // _RESOLUTION
    units = [(unit, of) for unit, of in _UNITS if tenths < of * 10_000_000]
    whole = [f"{tenths // of // 10}{unit}" for unit, of in units if not tenths % (of * 10)]
    parts = [f"{tenths / of / 10:.1f}{unit}" for unit, of in reversed(units) if not tenths % of]
    return next(iter((*whole, *parts)), f"{tenths // 600}m")
