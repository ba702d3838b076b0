"""References: short words that an app shows and a person texts, as in `VERIFY 7Q2K42`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_DIGITS, _LETTERS = "23456789", "BCDFGHJKMNPQRSTVWXZ"
_LENGTH = 6
"""28 bits: with a thousand sessions open, a guess finds one in 400,000 times."""

WRITTEN = rf"(?=[a-z]*\d)(?=\d*[a-z])[{_DIGITS}{_LETTERS.lower()}]{{{_LENGTH}}}"
"""How one looks in lower case. No vowels and both kinds of characters: so no word is one, no code
is, and nothing looks like something else."""
_WHOLE = re.compile(WRITTEN)


def make(choose: Callable[[str], str]) -> str:
    """Make a reference of characters that `choose` picks out of those it is given, at random."""
    while True:
        made = "".join(choose(_DIGITS + _LETTERS) for _ in range(_LENGTH))
        if _WHOLE.fullmatch(made.lower()):
            return made
