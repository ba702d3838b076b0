"""References: short words that an app shows and a person texts, as in `VERIFY 7Q2K42`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_DIGITS, _LETTERS = "23456789", "BCDFGHJKMNPQRSTVWXZ"
_LENGTH = 6
"""28 bits: with a thousand open verifications, one guess in 400,000 finds one."""

PATTERN = rf"(?=[a-z]*\d)(?=\d*[a-z])[{_DIGITS}{_LETTERS.lower()}]{{{_LENGTH}}}"
"""The pattern of a reference, in lower case. Without vowels, and with both letters and digits, it
is never a word or a code; no two of its characters look alike."""
_WHOLE = re.compile(PATTERN)


def make(choose: Callable[[str], str]) -> str:
    """Return a reference; `choose` returns one of the given characters at random."""
    while True:
        reference = "".join(choose(_DIGITS + _LETTERS) for _ in range(_LENGTH))
        if _WHOLE.fullmatch(reference.lower()):
            return reference
