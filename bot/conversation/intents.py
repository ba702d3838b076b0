"""What did this person just say? Forgiving about how it is typed, strict about what it means."""

from __future__ import annotations

import re
import unicodedata
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING

from msgspec import Struct

from bot.conversation import references
from bot.conversation.replies import CODE_WORDING
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
    THANKS = "thanks"
    CHATTER = "chatter"


class Understood(Struct, frozen=True):
    """An intent and, for a guess alone, the code that was typed, as codes are written.

    `reference` is an app's, in upper case, that came with VERIFY.
    """

    intent: Intent
    guess: str = ""
    reference: str = ""


# Telnyx acts by itself on the first seven, as whole messages; 47 CFR 64.1200(a)(10) names the
# rest and "any reasonable means", hence the wishes.
STOP_WORDS = frozenset(
    {"stop", "stopall", "stop all", "unsubscribe", "cancel", "end", "quit"}
    | {"revoke", "opt out", "optout"}
)
_STOP_WISH = re.compile(
    r"\b(?:(?:dont|do not|never) (?:ever )?(?:contact|message|text) (?:me|us|this number)"
    r"|(?:dont|do not) (?:send me|want)(?: \w+){0,3} (?:messages|texts)"
    r"|(?:cancel|end|quit|stop) (?:my )?(?:contacting|messages|messaging|sending|texting|texts)"
    r"|^remove$|(?:delete|remove) (?:me|my number|this number)"
    r"|^no (?:messages|texts)|no more (?:messages|texts)"
    r"|leave me alone|opt me out|opt ?out|revoke (?:my )?consent|take me off(?! hold)"
    r"|unsub(?:scribed?)?)\b"
)
_STOP_CRY = re.compile(r"\b(?:stop|stopall|stopp|revoke|unsubcribe)\b(?! by\b)")
_STOP_OPENING = re.compile(r"(?:stop|stopall|unsubscribe)\b(?! by\b)")
_NO_STOP_WISH = re.compile(
    r"\b(?:(?:bus|cant|did you|do not|dont|never|why|wont) (?:\w+ )?(?:opt|stop|unsubscribe)"
    r"|you (?:dont|do not|never|didnt))"
)
_MAX_CRY_LENGTH = 6
_MAX_WISH_LENGTH = 12
"""Words of a wish to be left alone: a longer text that holds such words may be about anything."""

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
_REFERENCE = re.compile(rf"\b{_VERIFY}\W+(?:\w+\W+){{0,2}}?({references.WRITTEN})\b")
_LONE_REFERENCE = re.compile(rf"^\W*({references.WRITTEN})\W*$")
_LIKE_REFERENCE = re.compile(
    rf"\b{_VERIFY}\W+(?:(?:code|id|ref|reference|with)\W+){{0,2}}((?=[a-z]*\d)(?=\d*[a-z])[a-z\d]{{4,8}})\b"
)
"""What one that was mistyped looks like: a code for it would verify the person for nobody."""
_MAX_PHRASE_LENGTH = 12

_POLITE = frozenset(
    {"hello", "hey", "hi", "ok", "okay", "please", "pls", "plz", "sorry", "thank", "thanks", "you"}
)
_FILLING = _POLITE | {"it", "me", "my", "now", "number", "phone", "this"}
_THANKS = frozenset(
    {"awesome", "cool", "done", "fine", "good", "great", "nice", "ok", "okay", "perfect", "sure"}
    | {"thank", "thanks", "thx", "ty", "you", "very", "much", "so", "again", "all", "yes", "no"}
)

_WORD = re.compile(r"[^\W_]+")
_INVISIBLE = frozenset({"Cf", "Me"})
_APOSTROPHES = str.maketrans(dict.fromkeys("\u2018\u2019\u201b\u02bc\u00b4`", "'"))
_DASHES = str.maketrans(dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "-"))
_MAX_LENGTH = 480
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
_SENTENCE_WORDS = 4
_OUR_WORDING = re.compile(rf"{CODE_WORDING.lower()}|\btext verify to\b|\bthen text verify\b")
_STOP_SIGN = "\N{OCTAGONAL SIGN}"


@lru_cache(maxsize=1024)
def understand(text: str, code_format: CodeFormat) -> Understood:
    """Tell what a text means, where a code of `code_format` may be awaited.

    With the hex alphabet a guess must be the whole message, since words like "added" are hex.
    Most people text the same few words, so what these mean is remembered.
    """
    visible = visible_part(text)
    if _REACTION.match(visible) or _EMOJI_REACTION.match(visible):
        return Understood(Intent.REACTION)
    words = _WORD.findall(visible.replace("'", ""))
    phrase = " ".join(words)
    before_quote = _QUOTE.split(visible)[0].replace("'", "")
    if _is_stop(words) or _is_stop(_WORD.findall(before_quote)) or _STOP_SIGN in visible:
        return Understood(Intent.STOP)
    if _quotes_a_sentence(visible):
        return Understood(Intent.REACTION)
    if _OUR_WORDING.search(phrase):
        # Our own text sent back, by whatever means: it holds the code, and proves nothing.
        return Understood(Intent.CHATTER)
    return (
        _phrase(phrase, len(words), Intent.NOT_ME)
        or _reference(visible, len(words))
        or _guess(visible, code_format)
        or _reference(visible, len(words), _LONE_REFERENCE)
        or _reference(visible, len(words), _LIKE_REFERENCE)
        or _phrase(phrase, len(words), *_PHRASES)
        or _small_talk(visible, words)
    )


def reference_in(text: str) -> str:
    """Read the reference of an app that a text holds; "" where there is none."""
    if not any(map(str.isdecimal, text)):
        return ""
    visible = visible_part(text)
    count = len(_WORD.findall(visible))
    understood = _reference(visible, count) or _reference(visible, count, _LONE_REFERENCE)
    return understood.reference if understood else ""


def guess_in(text: str, code_format: CodeFormat) -> str | None:
    """Read what was typed into a field for a code; None where it cannot be one."""
    understood = _guess(visible_part(text), code_format)
    return understood.guess if understood else None


def visible_part(text: str) -> str:
    """Fold case, width, dashes, apostrophes and every script's digits; drop what is not seen."""
    if text.isascii():  # as most is: there is only case to fold, and one sort of apostrophe
        return text[:_MAX_LENGTH].translate(_APOSTROPHES).lower().strip()
    seen = (
        char
        for char in unicodedata.normalize("NFKC", text[:_MAX_LENGTH].translate(_APOSTROPHES))
        if unicodedata.category(char) not in _INVISIBLE and not "\ufe00" <= char <= "\ufe0f"
    )
    folded = "".join(map(_ascii_digit, seen)).casefold().translate(_DASHES)
    return folded[:_MAX_LENGTH].strip()


def _ascii_digit(char: str) -> str:
    return str(unicodedata.decimal(char)) if char.isdecimal() else char


def _quotes_a_sentence(visible: str) -> bool:
    """Tell a reaction in any language by what it quotes: a sentence, so one of ours."""
    quoted = _QUOTE.split(visible)[1::2]
    return any(
        sum(word.isalpha() for word in _WORD.findall(part)) >= _SENTENCE_WORDS for part in quoted
    )


def _is_stop(words: list[str]) -> bool:
    phrase = " ".join(words)
    bare = " ".join(word for word in words if word not in _FILLING and not word.isdecimal())
    if not STOP_WORDS.isdisjoint({phrase, bare}) or _STOP_OPENING.match(phrase):
        return True
    if len(words) > _MAX_WISH_LENGTH or _NO_STOP_WISH.search(phrase):
        return False
    cries = len(words) <= _MAX_CRY_LENGTH and _STOP_CRY.search(phrase) is not None
    return cries or _STOP_WISH.search(phrase) is not None


def _phrase(phrase: str, count: int, *intents: Intent) -> Understood | None:
    if count > _MAX_PHRASE_LENGTH:
        return None
    spoken = (phrase, _polite_ends(phrase))
    found = (intent for intent in intents if any(map(_PHRASES[intent].search, spoken)))
    return next(map(Understood, found), None)


def _polite_ends(phrase: str) -> str:
    """Drop what people say for politeness before and after what they want."""
    words = phrase.split()
    while words and words[0] in _POLITE:
        del words[0]
    while words and words[-1] in _POLITE:
        del words[-1]
    return " ".join(words)


def _small_talk(visible: str, words: list[str]) -> Understood:
    if visible and set(visible) == {"?"}:
        return Understood(Intent.HELP)
    if any(word.isdecimal() for word in words) and not any(map(str.isalpha, visible)):
        # A code with too few or too many digits cannot be right, so it costs no try.
        return Understood(Intent.MISTYPED)
    if visible and _THANKS.issuperset(words):
        return Understood(Intent.THANKS)
    return Understood(Intent.CHATTER)


def _reference(
    visible: str, count: int, written: re.Pattern[str] = _REFERENCE
) -> Understood | None:
    found = written.search(visible) if count <= _MAX_PHRASE_LENGTH else None
    return Understood(Intent.VERIFY, reference=found[1].upper()) if found else None


def _guess(visible: str, code_format: CodeFormat) -> Understood | None:
    length = code_format.length
    if code_format.alphabet is Alphabet.HEX:
        typed = "".join(filter(str.isalnum, visible))
        whole = len(typed) == length and _HEX.fullmatch(typed)
        return Understood(Intent.GUESS, typed.upper()) if whole else None
    runs = [_NOT_DIGITS.sub("", run) for run in _DIGITS.findall(visible)]
    codes = {run for run in runs if len(run) == length}
    if not any(map(str.isalpha, visible)):
        codes.add("".join(runs))
    whole_codes = [code for code in codes if len(code) == length]
    return Understood(Intent.GUESS, whole_codes[0]) if len(whole_codes) == 1 else None
