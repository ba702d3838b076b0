# ruff: noqa: RUF001 - people type these characters, so the tests do
from __future__ import annotations

import unicodedata
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bot.conversation.intents import STOP_WORDS, Intent, ParsedText, parse_text, reference_in
from bot.conversation.replies import CODE_PLACEHOLDER, Reply, compose
from bot.conversation.state import Alphabet, CodeFormat

SIX_DIGITS = CodeFormat(6, Alphabet.DIGITS)
SIX_HEX = CodeFormat(6, Alphabet.HEX)
FORMATS = [CodeFormat(length, Alphabet.DIGITS) for length in range(4, 11)] + [
    CodeFormat(length, Alphabet.HEX) for length in (4, 6, 8, 64)
]

ZERO_WIDTH_SPACE, ZERO_WIDTH_JOINER, WORD_JOINER = "\u200b", "\u200d", "\u2060"
BYTE_ORDER_MARK, LEFT_TO_RIGHT_MARK, SOFT_HYPHEN = "\ufeff", "\u200e", "\u00ad"
ISOLATED, END_ISOLATED = "\u2068", "\u2069"
EMOJI_STYLE, KEYCAP = "\ufe0f", "\u20e3"
NO_BREAK_SPACE, HAIR_SPACE, WIDE_SPACE = "\u00a0", "\u200a", "\u3000"

modest = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
formats = st.sampled_from(FORMATS)
TELLING = (
    *("123456", "1234", "12", "0", "AF", "۴", "１", "²", " ", "-", ".", "\n", "\u200b", "\x00"),
    *("“", "”", '"', "»", "👍", "to", "liked", "stop", "verify", "not me", "again", "code"),
)
telling_texts = st.lists(st.sampled_from(TELLING), max_size=14).map("".join)
any_text = st.text(max_size=200) | telling_texts


def intent_of(text: str, code_format: CodeFormat = SIX_DIGITS) -> Intent:
    return parse_text(text, code_format).intent


def guess_of(text: str, code_format: CodeFormat = SIX_DIGITS) -> str:
    parsed = parse_text(text, code_format)
    return parsed.guess if parsed.intent is Intent.GUESS else f"no guess: {parsed}"


def text_of_ours(reply: Reply) -> str:
    return compose(
        reply,
        app="Textproof",
        support="+13125550123",
        host="verify.example.com",
        code_length=6,
        hexadecimal=False,
        wait=timedelta(minutes=10),
        refusal=timedelta(minutes=10),
        life=timedelta(minutes=10),
        tries=4,
        since=datetime(2026, 3, 1, 12, 0, tzinfo=UTC),
    ).replace(CODE_PLACEHOLDER, "123456")


@modest
@given(any_text, formats)
def test_any_text_has_an_intent_and_a_guess_is_always_a_whole_code(
    text: str, code_format: CodeFormat
) -> None:
    parsed = parse_text(text, code_format)

    symbols = "0123456789ABCDEF" if code_format.alphabet is Alphabet.HEX else "0123456789"
    if parsed.intent is Intent.GUESS:
        assert len(parsed.guess) == code_format.length
        assert set(parsed.guess) <= set(symbols)
    elif parsed.intent is Intent.VERIFY:
        assert parsed == ParsedText(Intent.VERIFY, reference=parsed.reference)
    else:
        assert parsed == ParsedText(parsed.intent)


@pytest.mark.parametrize("text", ["\ud800", "\udfff123456", "\x00", "\U0010ffff", "\ufdfa" * 200])
def test_characters_that_are_not_text_do_no_harm(text: str) -> None:
    for code_format in FORMATS:
        parse_text(text, code_format)


@modest
@given(st.text(st.characters(exclude_categories=["N"]), max_size=80))
def test_a_text_without_any_digit_is_never_a_guess_at_digits(text: str) -> None:
    assert intent_of(text) not in {Intent.GUESS, Intent.MISTYPED}


@pytest.mark.parametrize(
    ("text", "intent"),
    [
        ("VERIFY", Intent.VERIFY),
        ("Verify", Intent.VERIFY),
        ("verify.", Intent.VERIFY),
        ("VERIFY please", Intent.VERIFY),
        ("please verify", Intent.VERIFY),
        ("verify me", Intent.VERIFY),
        ("Verify me please!", Intent.VERIFY),
        ("Hi, verify my phone number please", Intent.VERIFY),
        ("verify, thank you", Intent.VERIFY),
        ("“VERIFY”", Intent.VERIFY),
        ("‘verify’", Intent.VERIFY),
        ("«Verify»", Intent.VERIFY),
        ("「VERIFY」", Intent.VERIFY),
        ("ＶＥＲＩＦＹ", Intent.VERIFY),
        ("𝐕𝐄𝐑𝐈𝐅𝐘", Intent.VERIFY),
        ("*VERIFY*", Intent.VERIFY),
        ("VERIFY 👍", Intent.VERIFY),
        ("varify", Intent.VERIFY),
        ("verifiy", Intent.VERIFY),
        ("verfy", Intent.VERIFY),
        ("veryfy", Intent.VERIFY),
        ("I want to verify", Intent.VERIFY),
        ("can you verify me", Intent.VERIFY),
        ("verify again", Intent.VERIFY),
        ("verify my account", Intent.VERIFY),
        ("text VERIFY", Intent.VERIFY),
        ("RESEND", Intent.RESEND),
        ("resend please", Intent.RESEND),
        ("Resend the code", Intent.RESEND),
        ("please send me the code again", Intent.RESEND),
        ("send it again", Intent.RESEND),
        ("new code", Intent.RESEND),
        ("another code please", Intent.RESEND),
        ("resend code", Intent.RESEND),
        ("Resend it", Intent.RESEND),
        ("send again", Intent.RESEND),
        ("send code again", Intent.RESEND),
        ("send the code again", Intent.RESEND),
        ("re-send", Intent.RESEND),
        ("send another code", Intent.RESEND),
        ("can you send me a new code", Intent.RESEND),
        ("I didn't get the code", Intent.RESEND),
        ("I never received it", Intent.RESEND),
        ("STATUS", Intent.STATUS),
        ("status?", Intent.STATUS),
        ("Am I verified?", Intent.STATUS),
        ("am i verified yet", Intent.STATUS),
        ("what is my status", Intent.STATUS),
        ("HELP", Intent.HELP),
        ("help me please", Intent.HELP),
        ("INFO", Intent.HELP),
        ("i need help", Intent.HELP),
        ("who is this", Intent.HELP),
        ("Hi, who is this?", Intent.HELP),
        ("what is this", Intent.HELP),
        ("?", Intent.HELP),
        ("??", Intent.HELP),
        (" ？ ", Intent.HELP),
        ("START", Intent.START),
        ("start please", Intent.START),
        ("UNSTOP", Intent.START),
        ("NOT ME", Intent.NOT_ME),
        ("Not me!", Intent.NOT_ME),
        ("not-me", Intent.NOT_ME),
        ("notme", Intent.NOT_ME),
        ("It wasn't me", Intent.NOT_ME),
        ("That wasn’t me.", Intent.NOT_ME),
        ("I didn't request this", Intent.NOT_ME),
        ("I did not ask for this", Intent.NOT_ME),
        ("wrong number", Intent.NOT_ME),
        ("Wrong person.", Intent.NOT_ME),
        ("not mine", Intent.NOT_ME),
        ("wasn't me", Intent.NOT_ME),
        ("It was not me", Intent.NOT_ME),
        ("That was not me", Intent.NOT_ME),
        ("This is not me", Intent.NOT_ME),
        ("This was not me", Intent.NOT_ME),
        ("This wasn't me", Intent.NOT_ME),
        ("I did not request this", Intent.NOT_ME),
        ("I didn't ask for this", Intent.NOT_ME),
        ("I did not request a code", Intent.NOT_ME),
        ("I never asked for a code", Intent.NOT_ME),
        ("it's not me", Intent.NOT_ME),
        ("this isn't me", Intent.NOT_ME),
        ("you have the wrong number", Intent.NOT_ME),
        ("thanks", Intent.THANKS),
        ("thank you!", Intent.THANKS),
        ("thank you so much", Intent.THANKS),
        ("thanks again", Intent.THANKS),
        ("again", Intent.THANKS),
        ("ok", Intent.THANKS),
        ("Ok 👍", Intent.THANKS),
        ("great, done", Intent.THANKS),
        ("👍", Intent.THANKS),
        ("❤️", Intent.THANKS),
        ("...", Intent.THANKS),
        ("hello", Intent.CHATTER),
        ("ok computer", Intent.CHATTER),
        ("don't verify", Intent.CHATTER),
        ("please do not verify me", Intent.CHATTER),
        ("verification", Intent.CHATTER),
        ("I am verified", Intent.CHATTER),
        ("start over", Intent.CHATTER),
        ("it was me", Intent.CHATTER),
        ("", Intent.CHATTER),
        ("  \n ", Intent.CHATTER),
    ],
)
@pytest.mark.parametrize("code_format", [SIX_DIGITS, SIX_HEX], ids=["digits", "hex"])
def test_words_are_understood_however_they_are_typed(
    text: str, intent: Intent, code_format: CodeFormat
) -> None:
    assert parse_text(text, code_format) == ParsedText(intent)


@modest
@given(
    word=st.sampled_from(
        [
            ("verify", Intent.VERIFY),
            ("resend", Intent.RESEND),
            ("status", Intent.STATUS),
            ("help", Intent.HELP),
            ("start", Intent.START),
            ("stop", Intent.STOP),
            ("stop all", Intent.STOP),
            ("not me", Intent.NOT_ME),
        ]
    ),
    before=st.text(' \n\t."“(*¡\u200b\ufeff\u2068', max_size=4),
    after=st.text(' \n\t.!"”)*,\u200b\u200d\u2069', max_size=4),
    capitals=st.lists(st.booleans(), min_size=8, max_size=8),
    zero_width_at=st.integers(0, 8),
)
def test_case_punctuation_and_invisible_characters_change_no_word(
    word: tuple[str, Intent], before: str, after: str, capitals: list[bool], zero_width_at: int
) -> None:
    letters = [
        letter.upper() if capital else letter
        for letter, capital in zip(word[0], capitals, strict=False)
    ]
    letters.insert(zero_width_at, ZERO_WIDTH_SPACE)

    assert intent_of(before + "".join(letters) + after) is word[1]


@pytest.mark.parametrize(
    "text",
    [
        "STOP",
        "stop",
        "Stop.",
        "STOP!!!",
        "“Stop”",
        "ＳＴＯＰ",
        "S\u200bTOP",
        "STOPALL",
        "STOP ALL",
        "stop-all",
        "UNSUBSCRIBE",
        "CANCEL",
        "END",
        "QUIT",
        "REVOKE",
        "OPT OUT",
        "OPT-OUT",
        "opt\nout",
        "OPTOUT",
        "stop please",
        "please stop",
        "Stop it!",
        "cancel please",
        "stop texting me",
        "Stop sending me messages",
        "quit it",
        "quit texting me",
        "revoke my consent",
        "unsubscribe me please",
        "please unsubscribe",
        "How do I unsubscribe?",
        "I want to opt out",
        "opt me out",
        "I would like to optout",
        "Don't text me",
        "don’t text me",
        "DONT TEXT ME AGAIN",
        "do not contact me",
        "Don‘t contact me.",
        "Do not text me again",
        "leave me alone",
        "no more texts",
        "no more messages please",
        "remove me",
        "Remove me from your list",
        "remove my number",
        "take me off",
        "Take me off this list!",
        "please stop texting me",
        "Please don't text me",
        "Don't text me please",
        "pls stop sending me codes",
        "please leave me alone",
        "please remove my number",
        "remove my number please",
        "you must stop contacting me",
        "dont message me",
        "Stop sending me these texts, I never asked for any of them",
        "unsub",
        "UNSUBCRIBE",
        "no, stop!",
        "just stop",
        "how do I stop this",
        "cancel texts",
        "no texts",
        "I revoke consent",
        "i don't want to receive texts",
        "do not send me texts",
        "delete my number",
        "🛑",
        "🛑🛑 please",
    ],
)
@pytest.mark.parametrize("code_format", [SIX_DIGITS, SIX_HEX], ids=["digits", "hex"])
def test_every_usual_wording_of_an_opt_out_opts_out(text: str, code_format: CodeFormat) -> None:
    assert parse_text(text, code_format) == ParsedText(Intent.STOP)


@pytest.mark.parametrize(
    "courtesy",
    [
        *("hello", "hey", "hi", "it", "me", "my number", "now", "please", "pls", "plz"),
        *("thank you", "thanks", "this phone"),
    ],
)
@pytest.mark.parametrize("word", [("verify", Intent.VERIFY), ("cancel", Intent.STOP)])
def test_polite_words_before_or_after_a_keyword_change_nothing(
    courtesy: str, word: tuple[str, Intent]
) -> None:
    assert intent_of(f"{courtesy}, {word[0]}") is word[1]
    assert intent_of(f"{word[0]} {courtesy}!") is word[1]


def test_the_stop_words_are_those_the_carrier_acts_on_and_those_the_law_names() -> None:
    carrier = {"stop", "stopall", "stop all", "unsubscribe", "cancel", "end", "quit"}
    law = {"stop", "quit", "end", "revoke", "opt out", "cancel", "unsubscribe"}

    assert carrier | law | {"optout"} == STOP_WORDS


@pytest.mark.parametrize(
    ("params", "intent"),
    [
        ("please stop texting me", Intent.STOP),
        ("it was not me", Intent.NOT_ME),
        ("I want to verify", Intent.VERIFY),
        ("send it again", Intent.RESEND),
        ("I need help", Intent.HELP),
        ("am I verified", Intent.STATUS),
    ],
)
def test_a_request_to_stop_counts_only_in_a_short_text(params: str, intent: Intent) -> None:
    words = len(params.split())

    assert intent_of(params + " now" * (12 - words)) is intent
    assert intent_of(params + " now" * (13 - words)) is Intent.CHATTER


@pytest.mark.parametrize(
    ("text", "intent"),
    [
        ("I didn't request this 865192", Intent.NOT_ME),
        ("Not me! 123456", Intent.NOT_ME),
        ("123456 wrong number", Intent.NOT_ME),
        ("010294 STOP", Intent.STOP),
        ("STOP 123456", Intent.STOP),
        ("please stop 123456 codes", Intent.STOP),
        ("123456 unsubscribe", Intent.STOP),
        ("123456 opt out", Intent.STOP),
        ("123456 🛑", Intent.STOP),
    ],
)
def test_stop_and_not_me_win_over_a_code_in_the_same_text(text: str, intent: Intent) -> None:
    assert parse_text(text, SIX_DIGITS) == ParsedText(intent)


@pytest.mark.parametrize("text", ["NOT ME STOP", "stop, not me", "wrong number, stop texting me"])
def test_stop_wins_over_not_me(text: str) -> None:
    assert intent_of(text) is Intent.STOP


@pytest.mark.parametrize("text", ["verify 123456", "help 123456", "I got a new code 123456"])
def test_a_code_wins_over_every_other_word(text: str) -> None:
    assert guess_of(text) == "123456"


@pytest.mark.parametrize(
    "text",
    [
        "don't stop",
        "can't stop, won't stop",
        "nonstop",
        "I am at the bus stop",
        "stop by later",
        "you dont text me the code",
        "you never text me the code",
        "please don't text while driving",
        "the end",
        "end of story",
        "cancel my flight",
        "weekend",
        "stopped",
        "unstop",
        "I opted in",
        "leave a message",
        "take me home",
        "we adopt outdoor cats",
        "adopt out-of-town dogs",
        "remove meat from the list",
        "my flight was moved and I have to quit my job and stop texting while I drive",
    ],
)
def test_a_stop_word_that_means_something_else_opts_nobody_out(text: str) -> None:
    assert intent_of(text) is not Intent.STOP


@pytest.mark.parametrize(
    "text",
    [
        "123456",
        " 123456 ",
        "123456\n",
        "123456.",
        "123456!",
        "(123456)",
        "#123456",
        "123-456",
        "123 456",
        "123.456",
        "123 - 456",
        "12 34 56",
        "12-34-56",
        "1 2 3 4 5 6",
        "1-2-3-4-5-6",
        "1.2.3.4.5.6",
        "123,456",
        "123, 456",
        "123/456",
        "123_456",
        "123:456",
        "(123) 456",
        "1,2,3,4,5,6",
        "1-2-3, 4-5-6",
        "123\n456",
        "123–456",
        "123—456",
        "123‑456",
        "123−456",
        f"123{NO_BREAK_SPACE}456",
        f"123{HAIR_SPACE}456",
        f"123{WIDE_SPACE}456",
        "１２３４５６",
        "１２３－４５６",
        "١٢٣٤٥٦",
        "۱۲۳۴۵۶",
        "१२३४५६",
        "১২৩৪৫৬",
        "๑๒๓๔๕๖",
        "𝟏𝟐𝟑𝟒𝟓𝟔",
        "①②③④⑤⑥",
        "¹²³⁴⁵⁶",
        "1️⃣2️⃣3️⃣4️⃣5️⃣6️⃣",
        "1⃣ 2⃣ 3⃣ 4⃣ 5⃣ 6⃣",
        '"123456"',
        "'123456'",
        "“123456”",
        "‘123456’",
        "„123456“",
        "«123456»",
        "« 123456 »",
        "「123456」",
        "『１２３４５６』",
        "`123456`",
        "*123456*",
        "<123456>",
        f"{ZERO_WIDTH_SPACE}123456{ZERO_WIDTH_SPACE}",
        f"123{ZERO_WIDTH_SPACE}456",
        f"123{ZERO_WIDTH_JOINER}456",
        f"123{WORD_JOINER}456",
        f"123{SOFT_HYPHEN}456",
        f"{BYTE_ORDER_MARK}123456",
        f"{LEFT_TO_RIGHT_MARK}123456",
        f"{ISOLATED}123456{END_ISOLATED}",
        "123456\x00",
        "my code is 123456",
        "My code is 123 456",
        "My code: 123-456, thanks!",
        "my code is “123456”",
        "it's 123456",
        "code=123456",
        "Code:123456",
        "CODE 123456 please",
        "G-123456",
        "verify 123456",
        "Here you go: 123456 👍",
        "at 5: 123456",
        "my 2nd try is 123456",
        "who sent me 123456?",
        "123456, I repeat: 123 456",
        "le code est 123456",
        "コードは１２３４５６です",
    ],
)
def test_a_code_is_understood_in_any_of_the_ways_people_type_one(text: str) -> None:
    assert parse_text(text, SIX_DIGITS) == ParsedText(Intent.GUESS, "123456")


@pytest.mark.parametrize(
    "zero",
    [char for char in map(chr, range(0x20000)) if unicodedata.decimal(char, None) == 0],
    ids=lambda zero: unicodedata.name(zero).replace(" ", "_"),
)
def test_digits_of_every_script_are_digits(zero: str) -> None:
    assert guess_of("".join(chr(ord(zero) + digit) for digit in (0, 4, 8, 1, 5, 9))) == "048159"


SEPARATORS = (
    *("", "", " ", "-", ".", " - ", "–", "\u2011", NO_BREAK_SPACE, HAIR_SPACE),
    *(ZERO_WIDTH_SPACE, ZERO_WIDTH_JOINER, WORD_JOINER),
)
SURROUNDINGS = (
    *("{}", "“{}”", "‘{}’", "„{}“", "«{}»", '"{}"', "({})", " {}. ", "\u2068{}\u2069"),
    *("my code is {}", "my code is “{}”", "{} thank you", "It's {}!", "code:{}"),
)


@modest
@given(
    code=st.text("0123456789", min_size=4, max_size=10),
    separators=st.lists(
        st.sampled_from(SEPARATORS),
        min_size=9,
        max_size=9,
    ),
    zeros=st.lists(st.sampled_from("0０٠۰०𝟎"), min_size=10, max_size=10),
    keycaps=st.booleans(),
    around=st.sampled_from(SURROUNDINGS),
)
def test_a_code_typed_with_any_separators_digits_and_quotes_is_understood(
    code: str, separators: list[str], zeros: list[str], around: str, *, keycaps: bool
) -> None:
    typed = [chr(ord(zero) + int(digit)) for zero, digit in zip(zeros, code, strict=False)]
    if keycaps:
        typed = [digit + EMOJI_STYLE + KEYCAP for digit in typed]
    spaced = typed[0] + "".join(map("".join, zip(separators, typed[1:], strict=False)))

    assert guess_of(around.format(spaced), CodeFormat(len(code), Alphabet.DIGITS)) == code


def test_a_leading_zero_is_part_of_the_code() -> None:
    assert guess_of("001234") == "001234"


@pytest.mark.parametrize("text", ["123456 or 654321", "654321? 123456?", "123456 654321"])
def test_two_different_codes_in_one_text_are_no_guess(text: str) -> None:
    assert intent_of(text) is not Intent.GUESS


@pytest.mark.parametrize("length", [4, 6])
@pytest.mark.parametrize(
    "text",
    [
        "call me at 312-555-0001",
        "call me at 312.555.0001",
        "call me at 312–555–0001",
        "call me at (312) 555-0001",
        "my number is 3125550001",
        "my number is +13125550001",
        "+1 (312) 555-0001",
        "+1-312-555-0001",
        "312-555-0001",
    ],
)
def test_a_phone_number_is_no_guess(text: str, length: int) -> None:
    assert intent_of(text, CodeFormat(length, Alphabet.DIGITS)) is not Intent.GUESS


@pytest.mark.parametrize(
    "text",
    [
        "call me at 312 555 0001",
        "call me at 5",
        "I have 2 kids and 3 dogs",
        "see you at 10:30",
        "it costs $12.50",
        "I paid 1000000 for it",
        "I paid 225,826 for it",
        "from 225/826 on",
        "the code has 6 digits, right?",
        "12a34567",
        "is it 12345?",
        "12345O",
    ],
)
def test_chatter_with_a_number_in_it_is_no_guess(text: str) -> None:
    assert parse_text(text, SIX_DIGITS) == ParsedText(Intent.CHATTER)


@pytest.mark.parametrize(
    "text",
    [
        "12345",
        "1234567",
        "123 45",
        "123,45",
        "225,8261",
        "1",
        "123456789012",
        "“12345”",
        "12345!",
        "1️⃣",
        "१२३४५",
    ],
)
def test_too_few_or_too_many_digits_are_mistyped_and_no_guess(text: str) -> None:
    assert parse_text(text, SIX_DIGITS) == ParsedText(Intent.MISTYPED)


@modest
@given(st.text("0123456789", min_size=1, max_size=20), st.integers(4, 10))
def test_a_bare_number_is_a_guess_exactly_when_it_has_the_length_of_a_code(
    number: str, length: int
) -> None:
    parsed = parse_text(number, CodeFormat(length, Alphabet.DIGITS))

    if len(number) == length:
        assert parsed == ParsedText(Intent.GUESS, number)
    else:
        assert parsed == ParsedText(Intent.MISTYPED)


@pytest.mark.parametrize(
    ("text", "guess"),
    [
        ("ABC123", "ABC123"),
        ("abc123", "ABC123"),
        ("aBc 1 2 3", "ABC123"),
        ("abc-123", "ABC123"),
        ("“abc123”", "ABC123"),
        ("‘ABC123’.", "ABC123"),
        ("ＡＢＣ１２３", "ABC123"),
        ("ab\u200bc123", "ABC123"),
        ("a b c ١ ٢ ٣", "ABC123"),
        ("123456", "123456"),
        ("abcdef", "ABCDEF"),
    ],
)
def test_a_hex_code_is_understood_in_any_case_and_spacing(text: str, guess: str) -> None:
    assert parse_text(text, SIX_HEX) == ParsedText(Intent.GUESS, guess)


@pytest.mark.parametrize(
    ("text", "intent"),
    [
        ("my code is ABC123", Intent.CHATTER),
        ("added it", Intent.CHATTER),
        ("ABC123 thanks", Intent.CHATTER),
        ("ABC12G", Intent.CHATTER),
        ("ABC1234", Intent.CHATTER),
        ("ABC12", Intent.CHATTER),
        ("call me at 312-555-0001", Intent.CHATTER),
        ("12345", Intent.MISTYPED),
        ("1234567", Intent.MISTYPED),
    ],
)
def test_a_guess_at_a_hex_code_must_be_the_whole_message(text: str, intent: Intent) -> None:
    assert parse_text(text, SIX_HEX) == ParsedText(intent)


@modest
@given(st.text("0123456789abcdefABCDEF", min_size=4, max_size=64))
def test_a_hex_code_of_any_length_is_read_as_it_is_sent(code: str) -> None:
    assert guess_of(code, CodeFormat(len(code), Alphabet.HEX)) == code.upper()


REACTIONS = [
    "Liked “{}”",
    "Loved “{}”",
    "Disliked “{}”",
    "Laughed at “{}”",
    "Emphasized “{}”",
    "Emphasised “{}”",
    "Questioned “{}”",
    "Reacted 😂 to “{}”",
    "Removed a like from “{}”",
    "Removed a heart from “{}”",
    'Liked "{}"',
    "👍 to “{}”",
    "❤️ to “{}”",
    "\u200a👍\u200b to “\u200a{}\u200a”",
    "👍 a “{}”",
    "👍 auf „{}“",
    "Gefällt „{}“",
    "Hat „{}“ mit „Gefällt mir“ markiert",
    "A aimé « {} »",
    "A adoré «\u00a0{}\u00a0»",
    "Le gustó “{}”",
    "Le ha gustado «{}»",
    "Gostou de “{}”",
    'Ha messo "Mi piace" a "{}"',
    "Vond “{}” leuk",
    "Gillade ”{}”",
    "Synes godt om »{}«",
    "Понравилось «{}»",
    "对“{}”点赞",
    "「{}」にいいねと言いました",
    "『{}』を強調しました",
]


@pytest.mark.parametrize("reaction", REACTIONS)
@pytest.mark.parametrize("code_format", [SIX_DIGITS, SIX_HEX], ids=["digits", "hex"])
def test_a_reaction_that_quotes_any_text_of_ours_is_no_word_and_no_guess(
    reaction: str, code_format: CodeFormat
) -> None:
    taken_for = {
        reply: parse_text(reaction.format(text_of_ours(reply)), code_format) for reply in Reply
    }

    assert taken_for == dict.fromkeys(Reply, ParsedText(Intent.REACTION))


def test_a_reaction_cut_short_by_the_phone_is_still_one() -> None:
    text = "Liked “Textproof code: 123456. Reply with it …”"

    assert parse_text(text, SIX_DIGITS) == ParsedText(Intent.REACTION)


@pytest.mark.parametrize(
    "text",
    [
        "Liked “123456”",
        "Loved “VERIFY”",
        "👍 to “123456”",
        "Removed a like from “123456”",
        "Laughed at “STOP”",
    ],
)
def test_a_reaction_to_a_text_of_their_own_is_no_word_and_no_guess(text: str) -> None:
    assert parse_text(text, SIX_DIGITS) == ParsedText(Intent.REACTION)


@pytest.mark.parametrize("around", ["{}", "> {}", "Fwd: {}", "{} 123456", "you wrote: '{}'"])
@pytest.mark.parametrize("code_format", [SIX_DIGITS, SIX_HEX], ids=["digits", "hex"])
def test_our_code_text_sent_back_without_quotes_is_no_guess(
    around: str, code_format: CodeFormat
) -> None:
    text = around.format(text_of_ours(Reply.CODE))

    assert parse_text(text, code_format) == ParsedText(Intent.CHATTER)
    assert parse_text(text.upper(), code_format) == ParsedText(Intent.CHATTER)


@pytest.mark.parametrize("reply", list(Reply))
def test_no_text_of_ours_sent_back_means_stop_not_me_or_a_guess(reply: Reply) -> None:
    misread = {Intent.STOP, Intent.START, Intent.NOT_ME, Intent.GUESS, Intent.MISTYPED}

    assert intent_of(text_of_ours(reply)) not in misread


def test_a_quote_is_taken_for_a_text_of_ours_from_four_words_on() -> None:
    assert intent_of("pidän “one two three four”") is Intent.REACTION
    assert guess_of("pidän “one two three” 123456") == "123456"


@pytest.mark.parametrize("text", ["I liked 123456", "to 123456", "👍 123456", "liked it: “123456”"])
def test_a_text_with_a_reactions_words_but_not_its_form_is_still_a_guess(text: str) -> None:
    assert guess_of(text) == "123456"


@pytest.mark.parametrize(
    ("text", "intent"),
    [
        ('Stop "texting" me and leave me alone', Intent.STOP),
        ("“Stop texting me right now”", Intent.STOP),
        ("Remove me from “Textproof” and never text me again", Intent.STOP),
        ('unsubscribe "me from this list please"', Intent.STOP),
        ("don´t text me", Intent.STOP),
        ("Don’t stop sending the code", Intent.CHATTER),
        ("please do not stop texting me", Intent.CHATTER),
        ("Why did you stop sending codes?", Intent.CHATTER),
        ("I do not text much, sorry", Intent.CHATTER),
        ("do not opt out", Intent.CHATTER),
        ("quit smoking is hard", Intent.CHATTER),
        ("hi, it was not me", Intent.NOT_ME),
        ("not me please", Intent.NOT_ME),
        ("wrong number, thanks", Intent.NOT_ME),
        ("Liked ‘Textproof code: 123456. Reply with it…’", Intent.REACTION),
        ("Liked an image", Intent.REACTION),
        ('"123456" is the code you sent me', Intent.GUESS),
        ("my code is “123456”", Intent.GUESS),
    ],
)
def test_quotes_negatives_and_polite_words_do_not_mislead(text: str, intent: Intent) -> None:
    assert intent_of(text) is intent


@pytest.mark.parametrize("text", ["call me at 312 555 0001", "+1 312 555 0001", "312.555.0001"])
def test_a_spaced_phone_number_is_no_guess_at_a_short_code(text: str) -> None:
    assert intent_of(text, CodeFormat(4, Alphabet.DIGITS)) is not Intent.GUESS


@pytest.mark.parametrize(
    ("text", "intent"),
    [
        ("cancel 123456", Intent.STOP),
        ("end it", Intent.STOP),
        ("don't send another code", Intent.CHATTER),
        ("do not resend", Intent.CHATTER),
        ("no new code", Intent.CHATTER),
        ("I don't want to verify", Intent.CHATTER),
        ("never verify", Intent.CHATTER),
        ("I got no texts", Intent.CHATTER),
        ("i do not send texts", Intent.CHATTER),
        ("Take me off hold", Intent.CHATTER),
        ("who's this", Intent.HELP),
        ("No code is waiting for you here. Text VERIFY to get one.", Intent.CHATTER),
    ],
)
def test_refusals_and_complaints_have_the_intent_that_is_meant(text: str, intent: Intent) -> None:
    assert intent_of(text) is intent


@pytest.mark.parametrize(
    "text",
    ["VERIFY 7Q2K42", "verify my 7q2k42", "verify with code 7Q2K42.", "Verify: 7Q2K42 please"],
)
def test_a_reference_comes_with_verify(text: str) -> None:
    assert parse_text(text, SIX_DIGITS) == ParsedText(Intent.VERIFY, reference="7Q2K42")


@pytest.mark.parametrize(
    "text",
    ["VERIFY 7Q2K", "verify 7q2k4", "verify 7q2k423", "verify code 7q2o42", "verify ref: abc123"],
)
def test_a_reference_that_was_mistyped_is_still_one(text: str) -> None:
    assert parse_text(text, SIX_DIGITS).reference


@pytest.mark.parametrize(
    "text", ["verify me", "verify b4 9pm", "verify phone", "verify my number 2day", "verify"]
)
def test_common_words_after_verify_are_no_reference(text: str) -> None:
    assert parse_text(text, SIX_DIGITS) == ParsedText(Intent.VERIFY)


def test_a_code_that_comes_with_verify_is_a_guess() -> None:
    assert guess_of("verify code123456") == "123456"
    assert guess_of("verify 123456") == "123456"


def test_a_reference_alone_is_enough_if_it_cannot_be_a_code() -> None:
    assert parse_text("7q2k42.", SIX_DIGITS) == ParsedText(Intent.VERIFY, reference="7Q2K42")
    assert reference_in("7q2k42.") == "7Q2K42"
    assert guess_of("B2C3D4", SIX_HEX) == "B2C3D4"
