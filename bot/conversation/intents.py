"""The intent of a text: lenient about how it is typed, strict about what it means."""

from __future__ import annotations

import re
import unicodedata
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING

from msgspec import Struct

from bot.conversation import references
from bot.conversation.codes import LETTERS
from bot.conversation.invisible import is_invisible
from bot.conversation.replies import CODE_WORDINGS
from bot.conversation.state import Alphabet

if TYPE_CHECKING:
    from bot.conversation.state import CodeFormat


class Intent(StrEnum):
    """What a person wants to do by a text."""

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
    THANKS = "thanks"
    CHATTER = "chatter"


class ParsedText(Struct, frozen=True):
    """The intent of a text and, with `GUESS`, the code in it, normalized.

    `letters` are those that came with the code, in upper case, or "". `reference` is an app's
    reference that came with VERIFY, in upper case.
    """

    intent: Intent
    guess: str = ""
    reference: str = ""
    letters: str = ""


# Telnyx itself acts on the first seven, as whole messages; 47 CFR 64.1200(a)(10) names the others
# and "any reasonable means", hence the patterns below.
STOP_WORDS = frozenset(
    {"stop", "stopall", "stop all", "unsubscribe", "cancel", "end", "quit"}
    | {"revoke", "opt out", "optout"}
)
_STOP_REQUEST = re.compile(
    r"\b(?:(?:dont|do not|never) (?:ever )?(?:contact|message|text) (?:me|us|this number)"
    r"|(?:dont|do not) (?:send me|want)(?: \w+){0,3} (?:messages|texts)"
    r"|(?:cancel|end|quit|stop) (?:my )?(?:contacting|messages|messaging|sending|texting|texts)"
    r"|^remove$|(?:delete|remove) (?:me|my number|this number)"
    r"|^no (?:messages|texts)|no more (?:messages|texts)"
    r"|leave me alone|opt me out|opt ?out|revoke (?:my )?consent|take me off(?! hold)"
    r"|unsub(?:scribed?)?)\b"
)
_STOP_WORD = re.compile(r"\b(?:stop|stopall|stopp|revoke|unsubcribe)\b(?! by\b)")
_STOP_PREFIX = re.compile(r"(?:stop|stopall|unsubscribe)\b(?! by\b)")
_NO_STOP_REQUEST = re.compile(
    r"\b(?:(?:bus|cant|did you|do not|dont|never|why|wont) (?:\w+ )?(?:opt|stop|unsubscribe)"
    r"|you (?:dont|do not|never|didnt))"
)
_MAX_STOP_WORD_LENGTH = 6
_MAX_STOP_REQUEST_LENGTH = 12
"""The most words of a request to stop: a longer text with such words may be about anything."""

_VERIFY = "(?:verify|verfy|varify|verifiy|veryfy)"
_NO_REFUSAL = r"^(?!.*\b(?:cant|do not|dont|never|no|not|wont)\b)"
_PHRASES: dict[Intent, re.Pattern[str]] = {
    Intent.NOT_ME: re.compile(
        r"\b(?:(?:not|isnt|wasnt) me|notme|not mine|wrong (?:number|person)"
        r"|(?:did not|didnt|never|have not|havent) (?:ask|asked|order|ordered|request|requested))\b"
    ),
    Intent.STATUS: re.compile(r"^status\b|\bstatus$|\bam i verified\b"),
    Intent.RESEND: re.compile(
        rf"{_NO_REFUSAL}.*\b(?:re ?send|(?:another|new) code|send (?:\w+ ){{0,3}}again)\b"
        r"|\b(?:did not|didnt|have not|havent|never) (?:get|got|receive|received)"
        r" (?:\w+ )?(?:code|it)\b"
    ),
    Intent.HELP: re.compile(
        r"^help\b|\bneed help\b|^info$|^(?:who|what)(?:s| is) this$|^who are you$"
    ),
    Intent.START: re.compile(r"^(?:start|unstop)$"),
    Intent.VERIFY: re.compile(rf"{_NO_REFUSAL}.*\b{_VERIFY}\b"),
}
_REFERENCE = re.compile(rf"\b{_VERIFY}\W+(?:\w+\W+){{0,2}}?({references.PATTERN})\b")
_LONE_REFERENCE = re.compile(rf"^\W*({references.PATTERN})\W*$")
_LIKE_REFERENCE = re.compile(
    rf"\b{_VERIFY}\W+(?:(?:code|id|ref|reference|with)\W+){{0,2}}((?=[a-z]*\d)(?=\d*[a-z])[a-z\d]{{4,8}})\b"
)
"""A mistyped reference: a code sent for it would verify the person, but for no app."""
_MAX_PHRASE_LENGTH = 12

_POLITE = frozenset(
    {"hello", "hey", "hi", "ok", "okay", "please", "pls", "plz", "sorry", "thank", "thanks", "you"}
)
_FILLERS = _POLITE | {"it", "me", "my", "now", "number", "phone", "this"}
_THANKS = frozenset(
    {"awesome", "cool", "done", "fine", "good", "great", "nice", "ok", "okay", "perfect", "sure"}
    | {"thank", "thanks", "thx", "ty", "you", "very", "much", "so", "again", "all", "yes", "no"}
)

_WORD = re.compile(r"[^\W_]+")
_APOSTROPHES = str.maketrans(dict.fromkeys("\u2018\u2019\u201b\u02bc\u00b4`", "'"))
_DASHES = str.maketrans(dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "-"))
_MAX_LENGTH = 480
"""Only this many characters are read: three segments, far more than any answer needs."""

_DIGITS = re.compile(r"\d+(?:\s?[-.]?\s?\d+)*")
_NOT_DIGITS = re.compile(r"\D")
_HEX = re.compile(r"[0-9a-f]+")
_LETTER = f"([{LETTERS.lower()}])"
_LETTERS = rf"{_LETTER}[\W_]*{_LETTER}"
_JOIN = r"[\W_]*(?:(?:and|letters?|plus|the|with)[\W_]+)*"
"""Words that may stand between a code and its letters."""

# iMessage and RCS report a reaction by SMS with a quotation of the text.
_QUOTE_MARKS = '["\u201c\u201d\u201e\u201f\u00ab\u00bb\u2039\u203a\u300c\u300d\u300e\u300f]'
_QUOTE = re.compile(_QUOTE_MARKS)
_REACTION = re.compile(
    r"(?:liked|loved|disliked|laughed at|emphasi[sz]ed|questioned|(?:reacted|removed)\b.*)\s"
    rf"(?:{_QUOTE_MARKS}|'|an? \w+$)",
    re.DOTALL,
)
_EMOJI_REACTION = re.compile(rf"[^\w]+\s(?:to|a|an|auf|zu)\s+{_QUOTE_MARKS}")
_SENTENCE_WORDS = 4
_OUR_WORDING = re.compile(
    "|".join(["text verify to", "then text verify", *map(str.lower, CODE_WORDINGS)])
)
_STOP_SIGN = "\N{OCTAGONAL SIGN}"


@lru_cache(maxsize=1024)
def parse_text(text: str, code_format: CodeFormat) -> ParsedText:
    """Return the intent of a text while a code of `code_format` may be awaited.

    With the hex alphabet a guess must be the whole message, since words like "added" are hex.
    Most people text the same few words, so the results are cached.
    """
    normalized = normalize_text(text)
    if _REACTION.match(normalized) or _EMOJI_REACTION.match(normalized):
        return ParsedText(Intent.REACTION)
    words = _WORD.findall(normalized.replace("'", ""))
    phrase = " ".join(words)
    before_quote = _QUOTE.split(normalized)[0].replace("'", "")
    if _is_stop(words) or _is_stop(_WORD.findall(before_quote)) or _STOP_SIGN in normalized:
        return ParsedText(Intent.STOP)
    if _quotes_a_sentence(normalized):
        return ParsedText(Intent.REACTION)
    if _OUR_WORDING.search(phrase):
        # Our own text sent back: it contains the code, so it proves nothing.
        return ParsedText(Intent.CHATTER)
    return (
        _phrase(phrase, len(words), Intent.NOT_ME)
        or _reference(normalized, len(words))
        or _guess(normalized, code_format)
        or _reference(normalized, len(words), _LONE_REFERENCE)
        or _reference(normalized, len(words), _LIKE_REFERENCE)
        or _phrase(phrase, len(words), *_PHRASES)
        or _small_talk(normalized, words)
    )


def reference_in(text: str) -> str:
    """Return the app's reference in a text, or "" if it has none."""
    if not any(map(str.isdecimal, text)):
        return ""
    normalized = normalize_text(text)
    count = len(_WORD.findall(normalized))
    parsed = _reference(normalized, count) or _reference(normalized, count, _LONE_REFERENCE)
    return parsed.reference if parsed else ""


def guess_in(text: str, code_format: CodeFormat) -> str | None:
    """Return the code that was typed into a field, or None if it cannot be one."""
    parsed = _guess(normalize_text(text), code_format)
    return parsed.guess if parsed else None


def normalize_text(text: str) -> str:
    """Fold case, width, dashes, apostrophes and all digits; drop invisible characters."""
    if text.isascii():  # most texts: only case and one kind of apostrophe to fold
        return text[:_MAX_LENGTH].translate(_APOSTROPHES).lower().strip()
    visible = (
        char
        for char in unicodedata.normalize("NFKC", text[:_MAX_LENGTH].translate(_APOSTROPHES))
        if not is_invisible(char)
    )
    folded = "".join(map(_ascii_digit, visible)).casefold().translate(_DASHES)
    return folded[:_MAX_LENGTH].strip()


def _ascii_digit(char: str) -> str:
    return str(unicodedata.decimal(char)) if char.isdecimal() else char


def _quotes_a_sentence(normalized: str) -> bool:
    """Return whether a text quotes a sentence, hence one of ours: a reaction in any language."""
    quoted = _QUOTE.split(normalized)[1::2]
    return any(
        sum(word.isalpha() for word in _WORD.findall(part)) >= _SENTENCE_WORDS for part in quoted
    )


def _is_stop(words: list[str]) -> bool:
    phrase = " ".join(words)
    bare = " ".join(word for word in words if word not in _FILLERS and not word.isdecimal())
    if not STOP_WORDS.isdisjoint({phrase, bare}) or _STOP_PREFIX.match(phrase):
        return True
    if len(words) > _MAX_STOP_REQUEST_LENGTH or _NO_STOP_REQUEST.search(phrase):
        return False
    stops = len(words) <= _MAX_STOP_WORD_LENGTH and _STOP_WORD.search(phrase) is not None
    return stops or _STOP_REQUEST.search(phrase) is not None


def _phrase(phrase: str, count: int, *intents: Intent) -> ParsedText | None:
    if count > _MAX_PHRASE_LENGTH:
        return None
    variants = (phrase, _without_politeness(phrase))
    found = (intent for intent in intents if any(map(_PHRASES[intent].search, variants)))
    return next(map(ParsedText, found), None)


def _without_politeness(phrase: str) -> str:
    """Return a phrase without polite words at its beginning and end."""
    words = phrase.split()
    while words and words[0] in _POLITE:
        del words[0]
    while words and words[-1] in _POLITE:
        del words[-1]
    return " ".join(words)


def _small_talk(normalized: str, words: list[str]) -> ParsedText:
    if normalized and set(normalized) == {"?"}:
        return ParsedText(Intent.HELP)
    if any(word.isdecimal() for word in words) and not any(map(str.isalpha, normalized)):
        # A code with too few or too many digits cannot be right, so it costs no try.
        return ParsedText(Intent.MISTYPED)
    if normalized and _THANKS.issuperset(words):
        return ParsedText(Intent.THANKS)
    return ParsedText(Intent.CHATTER)


def _reference(
    normalized: str, count: int, pattern: re.Pattern[str] = _REFERENCE
) -> ParsedText | None:
    found = pattern.search(normalized) if count <= _MAX_PHRASE_LENGTH else None
    return ParsedText(Intent.VERIFY, reference=found[1].upper()) if found else None


def _guess(normalized: str, code_format: CodeFormat) -> ParsedText | None:
    """Return the code of a text, with the letters of a reply if they are there."""
    length = code_format.length
    if with_letters := _guess_with_letters(normalized, code_format):
        return with_letters
    if code_format.alphabet is Alphabet.HEX:
        typed = "".join(filter(str.isalnum, normalized))
        whole = len(typed) == length and _HEX.fullmatch(typed)
        return ParsedText(Intent.GUESS, typed.upper()) if whole else None
    runs = [_NOT_DIGITS.sub("", run) for run in _DIGITS.findall(normalized)]
    candidates = set(runs)
    if not any(map(str.isalpha, normalized)):
        candidates.add("".join(runs))
    codes = [candidate for candidate in candidates if len(candidate) == length]
    return ParsedText(Intent.GUESS, codes[0]) if len(codes) == 1 else None


def _guess_with_letters(normalized: str, code_format: CodeFormat) -> ParsedText | None:
    """Return a code with two letters after or before it, as in `123456 KT`."""
    if code_format.alphabet is Alphabet.HEX:
        normalized = "".join(filter(str.isalnum, normalized))
        code = f"([0-9a-f]{{{code_format.length}}})"
        after, before = f"^{code}{_LETTERS}$", f"^{_LETTERS}{code}$"
    else:
        digits = rf"\d(?:[\s.-]{{0,3}}\d){{{code_format.length - 1}}}"
        code = rf"(?<!\d)(?<!\d[\s.-])({digits})(?![\s.-]{{0,3}}\d)"
        after, before = f"{code}{_JOIN}{_LETTERS}(?!\\w)", f"(?<!\\w){_LETTERS}{_JOIN}{code}"
    if found := re.search(after, normalized):
        typed, *letters = found.groups()
    elif found := re.search(before, normalized):
        *letters, typed = found.groups()
    else:
        return None
    guess = "".join(filter(str.isalnum, typed)).upper()
    return ParsedText(Intent.GUESS, guess, letters="".join(letters).upper())
