"""Characters that nobody sees, which phones and copied texts contain."""

from __future__ import annotations

import unicodedata

_CATEGORIES = frozenset({"Cf", "Me"})


def is_invisible(char: str) -> bool:
    """Return whether a character only formats others: marks of direction, joiners, selectors.

    (Unicode, general categories Cf and Me, and the variation selectors.)
    """
    return unicodedata.category(char) in _CATEGORIES or "\ufe00" <= char <= "\ufe0f"
