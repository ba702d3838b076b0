"""A session, written down in the story language, so that it can be played again as a test."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from bot.conversation.replies import CODE_PLACEHOLDER, CODE_WORDING
from bot.simulator.sandbox import PHONE
from bot.simulator.stories.player import ANSWERS, AT, SHAPES, WRONG
from bot.simulator.telnyx import faults
from bot.simulator.telnyx.journal import (
    Arrival,
    Author,
    ClockMoved,
    FaultArmed,
    FaultMet,
    PhoneStatus,
    PhoneText,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from bot.conversation.state import State
    from bot.simulator.telnyx.journal import Entry

_CODE_TEXT = re.compile(rf"code: ([0-9A-F]{{4,64}})\. {re.escape(CODE_WORDING)}")
_TICK = timedelta(seconds=0.1)
_AT_ONCE = timedelta(seconds=0.5)
"""An answer that takes longer has waited for something, like another try; and in this time all
that a text leads to has been seen."""
_GAP = r"[\W_]*"
_UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))
_MARKS = {shape: mark for mark, shape in SHAPES.items()} | {
    author: mark for mark, author in ANSWERS.items()
}


def code_in(text: str) -> str | None:
    """Find the code in one of the bot's texts."""
    match = _CODE_TEXT.search(text)
    return match and match[1]


def transcript(entries: Sequence[Entry], now: datetime) -> str:
    """Write a session down as it stands now; a text that has failed is not in it."""
    latest = {entry.id: entry for entry in entries if isinstance(entry, PhoneText)}
    writer = _Writer(_began(entries[0]) if entries else now)
    told: set[int] = set()
    for entry in entries:
        match entry:
            case PhoneText() if entry.id not in told:
                told.add(entry.id)
                writer.text(latest[entry.id])
            case ClockMoved():
                writer.moved(entry)
            case FaultArmed():
                writer.armed(entry)
            case FaultMet():
                writer.met(entry)
            case PhoneStatus():
                writer.states[entry.phone] = entry.state
    return writer.finished(now)


def _began(first: Entry) -> datetime:
    return first.at - first.length if isinstance(first, ClockMoved) else first.at


@dataclass(slots=True)
class _Writer:
    """Writes line after line. `at` is the time as a player of the lines so far has it."""

    at: datetime
    lines: list[str] = field(init=False)
    phone: str = PHONE
    codes: list[str] = field(default_factory=list)
    last_code: str = ""
    states: dict[str, State] = field(default_factory=dict)
    states_told: dict[str, State] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.lines = [f"{AT}{self.at.isoformat()}"]

    def text(self, text: PhoneText) -> None:
        if text.author is Author.PERSON:
            self._before_action(text.at)
            self._turn_to(text.phone)
            self.lines.append(f"{_MARKS[text.shape]} {self._spoken(text.text)}".rstrip())
        elif text.progress is not Arrival.FAILED:
            if text.at - self.at >= _AT_ONCE:
                self._pass_time(text.at)
            self._turn_to(text.phone)
            self.lines.append(f"{_MARKS[text.author]} {self._heard(text.text)}")

    def moved(self, move: ClockMoved) -> None:
        self._before_action(move.at - move.length)
        self.lines.append(f"/later {_written(move.length)}")
        self.at += move.length

    def armed(self, fault: FaultArmed) -> None:
        name = faults.name_of(fault.fault)
        if name is not None:
            self._before_action(fault.at)
            self.lines.append(f"/fault {name}")

    def met(self, fault: FaultMet) -> None:
        """Stop where a try has failed: from then on the next one waits its time."""
        if fault.at - self.at >= _AT_ONCE:
            self._before_action(fault.at)

    def finished(self, now: datetime) -> str:
        self._tell_states(now)
        return "\n".join([*self.lines, ""])

    def _before_action(self, at: datetime) -> None:
        self._tell_states(at)
        self._pass_time(at)

    def _pass_time(self, until: datetime) -> None:
        """Have as much time pass as has, in whole tenths of a second."""
        ticks = (until - self.at) // _TICK
        if ticks > 0:
            self.lines.append(f"/later {_written(ticks * _TICK)}")
            self.at += ticks * _TICK

    def _tell_states(self, at: datetime) -> None:
        """Say where the phones stand, if what came last has had time to be seen."""
        if at - self.at < _AT_ONCE:
            return
        for phone, state in self.states.items():
            if self.states_told.get(phone) is not state:
                self._turn_to(phone)
                self.lines.append(f"= {state}")
                self.states_told[phone] = state

    def _turn_to(self, phone: str) -> None:
        if phone != self.phone:
            self.lines.append(f"/phone {phone}")
            self.phone = phone

    def _heard(self, text: str) -> str:
        code = code_in(text)
        if code is None:
            return text
        if code not in self.codes:
            self.codes.append(code)
        self.last_code = code
        return text.replace(code, CODE_PLACEHOLDER, 1)

    def _spoken(self, text: str) -> str:
        """Put placeholders for codes: another session has others."""
        line = " ".join(text.split())
        for number, code in enumerate(self.codes, start=1):
            spelled = re.compile(_GAP.join(code), re.IGNORECASE)
            word = CODE_PLACEHOLDER if code == self.last_code else f"{{code:{number}}}"
            line, found = spelled.subn(word, line)
            if found:
                return line
        symbol = "[0-9]" if self.last_code.isdecimal() else "[0-9A-F]"
        shape = rf"{symbol}{{{len(self.last_code)}}}"
        return WRONG if self.last_code and re.fullmatch(shape, line) else line


def _written(length: timedelta) -> str:
    """Write a length as the story language has it, which knows six figures and a tenth."""
    tenths = length // _TICK
    units = [(unit, of) for unit, of in _UNITS if tenths < of * 10_000_000]
    whole = [f"{tenths // of // 10}{unit}" for unit, of in units if not tenths % (of * 10)]
    parts = [f"{tenths / of / 10:.1f}{unit}" for unit, of in reversed(units) if not tenths % of]
    return next(iter((*whole, *parts)), f"{tenths // 600}m")
