"""References: short words that an app shows and a person texts, as in `VERIFY 7Q2K42`.

A label says in the code text what the verification of a reference is about, so that a person sees
whose session it is: the sender of a text can be forged, so the reference may be a stranger's.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

from bot.conversation.replies import MAX_LABEL_LENGTH

if TYPE_CHECKING:
    from collections.abc import Callable

_DIGITS, _LETTERS = "23456789", "BCDFGHJKMNPQRSTVWXZ"
_LENGTH = 6
"""28 bits: with a thousand open verifications, one guess in 400,000 finds one."""

PATTERN = rf"(?=[a-z]*\d)(?=\d*[a-z])[{_DIGITS}{_LETTERS.lower()}]{{{_LENGTH}}}"
"""The pattern of a reference, in lower case. Without vowels, and with both letters and digits, it
is never a word or a code; no two of its characters look alike."""
_WHOLE = re.compile(PATTERN)

_OTHER_LETTERS = "ÄÅÆÉÑÖØÜßàäåæèéìñòöøùü"
_MAX_LABEL_DIGITS = 2
# Without other marks, and with few digits, no label looks like a link, a phone number or a code.
_LABEL = re.compile(rf"[A-Za-z0-9{_OTHER_LETTERS} '&-]{{1,{MAX_LABEL_LENGTH}}}")


def make(choose: Callable[[str], str]) -> str:
    """Return a reference; `choose` returns one of the given characters at random."""
    while True:
        reference = "".join(choose(_DIGITS + _LETTERS) for _ in range(_LENGTH))
        if _WHOLE.fullmatch(reference.lower()):
            return reference


def to_label(text: str) -> str:
    """Return a label in Unicode's form NFC; raise ValueError if it cannot be one.

    Its letters are those that Telnyx sends in GSM-7, where a text of one segment has 160 characters
    instead of 70 (Telnyx, "Message encoding": `Ç` and Greek letters are not among them).
    """
    label = unicodedata.normalize("NFC", text)
    digits = sum(char.isdigit() for char in label)
    named = any(char.isalpha() for char in label) and label == label.strip()
    if not _LABEL.fullmatch(label) or digits > _MAX_LABEL_DIGITS or not named:
        raise ValueError(
            f"must be 1 to {MAX_LABEL_LENGTH} letters, spaces, ', & or -, with at most"
            f" {_MAX_LABEL_DIGITS} digits, and not begin or end with a space;"
            f" letters are A to Z, a to z and {_OTHER_LETTERS}"
        )
    return label
