"""How a text travels: its alphabet, and how many messages it costs."""

from __future__ import annotations

from enum import StrEnum

from bot.conversation.replies import GSM7_BASIC, SEGMENT

_GSM7_EXTENSION = frozenset("\f^{}\\[~]|€")
"""Characters that cost two places each in a GSM-7 text (3GPP TS 23.038 §6.2.1.1)."""
_GSM7_SPLIT = 153
_BASIC_PLANE = 0xFFFF
"""Characters beyond it take two places in UCS-2."""
_UCS2_SEGMENT, _UCS2_SPLIT = 70, 67


class Encoding(StrEnum):
    """The alphabet of a text on its way, in Telnyx's words."""

    GSM7 = "GSM-7"
    UCS2 = "UCS-2"


def encoding_of(text: str) -> Encoding:
    """Tell which alphabet a text needs: one character beyond GSM-7 turns it whole."""
    return Encoding.GSM7 if (GSM7_BASIC | _GSM7_EXTENSION).issuperset(text) else Encoding.UCS2


def segments_of(text: str) -> int:
    """Count the messages a text is split into and paid for as; no character is cut in two."""
    if encoding_of(text) is Encoding.GSM7:
        places = [2 if character in _GSM7_EXTENSION else 1 for character in text]
        return _count(places, SEGMENT, _GSM7_SPLIT)
    places = [2 if ord(character) > _BASIC_PLANE else 1 for character in text]
    return _count(places, _UCS2_SEGMENT, _UCS2_SPLIT)


def _count(places: list[int], whole: int, split: int) -> int:
    if sum(places) <= whole:
        return 1
    segments, left = 1, split
    for place in places:
        if place > left:
            segments, left = segments + 1, split
        left -= place
    return segments
