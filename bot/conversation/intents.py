"""What did this person just say? Forgiving about how it is typed, strict about what it means."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from bot.conversation.state import Alphabet

if TYPE_CHECKING:
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
# rest and "any reasonable means", hence the wishes.
STOP_WORDS = frozenset(
    {"stop", "stopall", "stop all", "unsubscribe", "cancel", "end", "quit"}
    | {"revoke", "opt out", "optout"}
)
_STOP_WISH = re.compile(
    r"\b(?:(?:dont|do not|never) (?:contact|message|text) (?:me|us|this)"
    r"|(?:quit|stop) (?:contacting|messaging|sending|texting)"
    r"|remove (?:me|my number|this number)"
    r"|no more (?:messages|texts)"
    r"|leave me alone|opt me out|opt ?out|take me off|unsubscribe)\b"
)
_NO_STOP_WISH = re.compile(r"\b(?:dont|do not|never|did you|why) (?:\w+ )?(?:opt|stop|unsubscribe)")
_STOP_OPENINGS = frozenset({"stop", "stopall", "revoke"})
_OPENING_LONGEST = 6
_WISH_LONGEST = 12
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
_POLITE = frozenset(
    {"hello", "hey", "hi", "ok", "okay", "please", "pls", "plz", "sorry", "thank", "thanks", "you"}
)
_FILLING = _POLITE | {"it", "me", "my", "now", "number", "phone", "this"}

_WORD = re.compile(r"[^\W_]+")
_INVISIBLE = frozenset({"Cf", "Me"})
_APOSTROPHES = str.maketrans(dict.fromkeys("\u2018\u2019\u201b\u02bc\u00b4`", "'"))
_DASHES = str.maketrans(dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "-"))
_LONGEST = 480
"""Characters of a text that are looked at: three segments, far beyond any answer to ours."""

_DIGITS = re.compile(r"\d+(?:\s?[-.]?\s?\d+)*")
_NOT_DIGITS = re.compile(r"\D")
_HEX = re.compile(r"[0-9a-f]+")

# iMessage and RCS tell an SMS correspondent of a reaction by quoting the text reacted to.
_QUOTE_MARKS = '["\u201c\u201d\u201e\u201f\u00ab\u00bb\u2039\u203a\u300c\u300d\u300e\u300f]'
_QUOTE = re.compile(_QUOTE_MARKS)
_REACTION = re.compile(
    r"(?:liked|loved|disliked|laughed at|emphasi[sz]ed|questioned|(?:reacted|removed)\b.*)\s"
    rf"(?:{_QUOTE_MARKS}|'|an? \w+$)",
    re.DOTALL,
)
_EMOJI_REACTION = re.compile(rf"[^\w]+\s(?:to|a|an|auf|zu)\s+{_QUOTE_MARKS}")
_QUOTE_OF_OURS_WORDS = 4


def understand(text: str, code_format: CodeFormat) -> Understood:
    """Tell what a text means, where a code of `code_format` may be awaited.

    With the hex alphabet a guess must be the whole message, since words like "added" are hex.
    """
    visible = _visible(text[:_LONGEST])
    if _REACTION.match(visible) or _EMOJI_REACTION.match(visible):
        return Understood(Intent.REACTION)
    words = _WORD.findall(visible.replace("'", ""))
    if _is_stop(words):
        return Understood(Intent.STOP)
    if _quotes_ours(visible):
        return Understood(Intent.REACTION)
    if visible == "?":
        return Understood(Intent.HELP)
    return _phrase(words) or _guess(visible, code_format) or Understood(Intent.CHATTER)


def _visible(text: str) -> str:
    """Fold case, width, dashes, apostrophes and every script's digits; drop what is not seen."""
    seen = (
        char
        for char in unicodedata.normalize("NFKC", text.translate(_APOSTROPHES))
        if unicodedata.category(char) not in _INVISIBLE and not "\ufe00" <= char <= "\ufe0f"
    )
    return "".join(map(_ascii_digit, seen)).casefold().translate(_DASHES).strip()


def _ascii_digit(char: str) -> str:
    return str(unicodedata.decimal(char)) if char.isdecimal() else char


def _quotes_ours(visible: str) -> bool:
    """Tell a reaction in any language by what it quotes: a sentence, so one of ours."""
    quoted = _QUOTE.split(visible)[1::2]
    return any(
        sum(word.isalpha() for word in _WORD.findall(part)) >= _QUOTE_OF_OURS_WORDS
        for part in quoted
    )


def _is_stop(words: list[str]) -> bool:
    phrase = " ".join(words)
    if not STOP_WORDS.isdisjoint({phrase, _without(_FILLING, words)}):
        return True
    if not words or len(words) > _WISH_LONGEST or _NO_STOP_WISH.search(phrase):
        return False
    opens = words[0] in _STOP_OPENINGS and len(words) <= _OPENING_LONGEST
    return opens or _STOP_WISH.search(phrase) is not None


def _phrase(words: list[str]) -> Understood | None:
    spoken = {" ".join(words), _without(_POLITE, words), _without(_FILLING, words)}
    for intent, phrases in _PHRASES.items():
        if not spoken.isdisjoint(phrases):
            return Understood(intent)
    return None


def _without(fillers: frozenset[str], words: list[str]) -> str:
    return " ".join(word for word in words if word not in fillers)


def _guess(visible: str, code_format: CodeFormat) -> Understood | None:
    if code_format.alphabet is Alphabet.HEX:
        return _hex_guess(visible, code_format.length)
    runs = [_NOT_DIGITS.sub("", run) for run in _DIGITS.findall(visible)]
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
