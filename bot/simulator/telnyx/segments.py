"""The encoding of a text and the number of its segments."""

from __future__ import annotations

from enum import StrEnum

from bot.conversation.replies import GSM7_BASIC, SEGMENT

_GSM7_EXTENSION = frozenset("\f^{}\\[~]|€")
"""Characters that take two septets each in a GSM-7 text (3GPP TS 23.038 §6.2.1.1)."""
_GSM7_PART = 153
_BASIC_PLANE = 0xFFFF
"""Characters beyond it take two code units in UCS-2."""
_UCS2_SEGMENT, _UCS2_PART = 70, 67


class Encoding(StrEnum):
    """The encoding of a text, as Telnyx names it."""

    GSM7 = "GSM-7"
    UCS2 = "UCS-2"


def encoding_of(text: str) -> Encoding:
    """Return the encoding of a text: one character outside GSM-7 makes all of it UCS-2."""
    return Encoding.GSM7 if (GSM7_BASIC | _GSM7_EXTENSION).issuperset(text) else Encoding.UCS2


def segments_of(text: str) -> int:
    """Count the segments of a text; no character is split between two segments."""
    if encoding_of(text) is Encoding.GSM7:
        units = [2 if character in _GSM7_EXTENSION else 1 for character in text]
        return _count(units, SEGMENT, _GSM7_PART)
    units = [2 if ord(character) > _BASIC_PLANE else 1 for character in text]
    return _count(units, _UCS2_SEGMENT, _UCS2_PART)


def _count(units: list[int], single: int, part: int) -> int:
    if sum(units) <= single:
        return 1
    segments, left = 1, part
    for unit in units:
        if unit > left:
            segments, left = segments + 1, part
        left -= unit
    return segments
