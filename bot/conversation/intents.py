"""What did this person just say? Forgiving about how it is typed, strict about what it means."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from bot.conversation.state import Alphabet

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bot.conversation.state import CodeFormat


class Intent(StrEnum):
    """What a text asks for."""

    VERIFY = "verify"
    RESEND = "resend"
    STATUS = "status"
    HELP = "help"
    START = "start"
    STOP = "stop"
    NOT_ME = "not_me"
    GUESS = "guess"
    MISTYPED = "mistyped"
    REACTION = "reaction"
    CHATTER = "chatter"


@dataclass(frozen=True, slots=True)
class Understood:
    """An intent and, for a guess alone, the code that was typed, as codes are written."""

    intent: Intent
    guess: str = ""


# Telnyx acts by itself on the first seven, as whole messages; 47 CFR 64.1200(a)(10) names the
# rest and "any reasonable means", hence the wordings.
STOP_WORDS = frozenset(
    {"stop", "stopall", "stop all", "unsubscribe", "cancel", "end", "quit"}
    | {"revoke", "opt out", "optout"}
)
_STOP_WORDINGS = (
    "do not contact",
    "do not message",
    "do not text",
    "dont contact",
    "dont message",
    "dont text",
    "leave me alone",
    "no more messages",
    "no more texts",
    "opt me out",
    "opt out",
    "optout",
    "remove me",
    "remove my number",
    "stop contacting",
    "stop messaging",
    "stop sending",
    "stop texting",
    "take me off",
    "unsubscribe",
)
_STOP_OPENINGS = frozenset({"stop", "stopall", "revoke", "quit"})
_STOP_LONGEST = 12
"""Words of a wish to be left alone: a longer text that holds such words may be about anything."""

_PHRASES: dict[Intent, frozenset[str]] = {
    Intent.START: frozenset({"start", "unstop"}),
    Intent.NOT_ME: frozenset(
        {
            "i did not ask for this",
            "i did not request this",
            "i didnt ask for this",
            "i didnt request this",
            "it was not me",
            "it wasnt me",
            "not me",
            "notme",
            "not mine",
            "that was not me",
            "that wasnt me",
            "this is not me",
            "this was not me",
            "this wasnt me",
            "wasnt me",
            "wrong number",
            "wrong person",
        }
    ),
    Intent.VERIFY: frozenset({"verify", "verfy", "varify", "verifiy", "veryfy"}),
    Intent.RESEND: frozenset(
        {
            "resend",
            "again",
            "another",
            "another code",
            "new code",
            "resend code",
            "resend it",
            "resend the code",
            "send again",
            "send code again",
            "send it again",
            "send me the code again",
            "send the code again",
        }
    ),
    Intent.STATUS: frozenset({"status", "am i verified"}),
    Intent.HELP: frozenset({"help", "info"}),
}
_COURTESIES = frozenset(
    {"hello", "hey", "hi", "it", "me", "my", "now", "number", "phone", "please", "pls", "plz"}
    | {"thank", "thanks", "this", "you"}
)

_WORD = re.compile(r"[^\W_]+")
_INVISIBLE = frozenset({"Cf", "Me"})
_APOSTROPHES = str.maketrans("", "", "'\u2018\u2019\u201b\u02bc\u00b4`")
_DASHES = str.maketrans(dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "-"))

_CLOSE_DIGITS = re.compile(r"\d+(?:[-.]\d+)*")
_SPACED_DIGITS = re.compile(r"\d+(?:\s?[-.]?\s?\d+)*")
_NOT_DIGITS = re.compile(r"\D")
_HEX = re.compile(r"[0-9a-f]+")

# iMessage and RCS tell an SMS correspondent of a reaction by quoting the text reacted to.
_QUOTE_MARKS = '"\u201c\u201d\u201e\u201f\u00ab\u00bb\u2039\u203a\u300c\u300e'
_QUOTE = re.compile(f"^(?P<before>[^{_QUOTE_MARKS}]*)[{_QUOTE_MARKS}](?P<quoted>.*)$", re.DOTALL)
_REACTION_VERBS = re.compile(
    r"liked|loved|disliked|laughed at|emphasi[sz]ed|questioned|(?:reacted|removed)\b.*", re.DOTALL
)
_REACTION_EMOJI = re.compile(r"^[^\w]+\s(?:to|a|an|auf|zu)\s*$")
_QUOTE_OF_OURS_WORDS = 4


def understand(text: str, code_format: CodeFormat) -> Understood:
    """Tell what a text means, where a code of `code_format` may be awaited.

    With the hex alphabet a guess must be the whole message, since words like "added" are hex.
    """
    visible = _visible(text)
    if _is_reaction(visible):
        return Understood(Intent.REACTION)
    words = _WORD.findall(visible.translate(_APOSTROPHES))
    if _is_stop(words):
        return Understood(Intent.STOP)
    if visible.strip() == "?":
        return Understood(Intent.HELP)
    return _phrase(words) or _guess(visible, code_format) or Understood(Intent.CHATTER)


def _visible(text: str) -> str:
    """Fold case, width, dashes and every script's digits; drop what cannot be seen."""
    seen = (
        char
        for char in unicodedata.normalize("NFKC", text)
        if unicodedata.category(char) not in _INVISIBLE and not "\ufe00" <= char <= "\ufe0f"
    )
    return "".join(map(_ascii_digit, seen)).casefold().translate(_DASHES)


def _ascii_digit(char: str) -> str:
    return str(unicodedata.decimal(char)) if char.isdecimal() else char


def _is_reaction(visible: str) -> bool:
    """Tell a reaction by its verb, or in any language by its quote of a whole text of ours."""
    quote = _QUOTE.match(visible)
    if quote is None:
        return False
    before = quote["before"].strip()
    if _REACTION_VERBS.fullmatch(before) or _REACTION_EMOJI.fullmatch(before + " "):
        return True
    words = [word for word in _WORD.findall(quote["quoted"]) if word.isalpha()]
    return len(words) >= _QUOTE_OF_OURS_WORDS


def _is_stop(words: list[str]) -> bool:
    phrase = " ".join(words)
    if phrase in STOP_WORDS or _without_courtesies(words) in STOP_WORDS:
        return True
    if not words or len(words) > _STOP_LONGEST:
        return False
    wished = any(f" {wording} " in f" {phrase} " for wording in _STOP_WORDINGS)
    return wished or words[0] in _STOP_OPENINGS


def _phrase(words: list[str]) -> Understood | None:
    spoken = {" ".join(words), _without_courtesies(words)}
    for intent, phrases in _PHRASES.items():
        if not spoken.isdisjoint(phrases):
            return Understood(intent)
    return None


def _without_courtesies(words: list[str]) -> str:
    return " ".join(word for word in words if word not in _COURTESIES)


def _guess(visible: str, code_format: CodeFormat) -> Understood | None:
    if code_format.alphabet is Alphabet.HEX:
        return _hex_guess(visible, code_format.length)
    # First digits as one word, then as people space them: "at 5: 123456" is no seven digits.
    for pattern in (_CLOSE_DIGITS, _SPACED_DIGITS):
        runs = _only_digits(pattern.findall(visible))
        codes = {run for run in runs if len(run) == code_format.length}
        if len(codes) == 1:
            return Understood(Intent.GUESS, codes.pop())
    return _mistyped(visible)


def _hex_guess(visible: str, length: int) -> Understood | None:
    typed = "".join(char for char in visible if char.isalnum())
    if len(typed) == length and _HEX.fullmatch(typed):
        return Understood(Intent.GUESS, typed.upper())
    return _mistyped(visible)


def _mistyped(visible: str) -> Understood | None:
    """Know a code with too few or too many digits: it cannot be right, so it costs no try."""
    letters = any(char.isalpha() for char in visible)
    digits = sum(char.isdecimal() for char in visible)
    return Understood(Intent.MISTYPED) if digits and not letters else None


def _only_digits(runs: Iterable[str]) -> list[str]:
    return [_NOT_DIGITS.sub("", run) for run in runs]
