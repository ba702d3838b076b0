from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bot.conversation.replies import (
    CODE_PLACEHOLDER,
    GSM7_BASIC,
    MAX_APP_NAME_LENGTH,
    MAX_SUPPORT_CONTACT_LENGTH,
    Reply,
    compose,
)
from bot.simulator.telnyx.segments import Encoding, encoding_of, segments_of

EXTENSION = "\f^{}\\[~]|€"
EMOJI = "\N{GRINNING FACE}"
BEYOND = "ж"
LONGEST_CODES = [("9" * 10, False), ("D" * 64, True)]

modest = settings(max_examples=200, deadline=None)
gsm7_texts = st.text(st.sampled_from("aé@ " + EXTENSION), max_size=500)
ucs2_texts = st.builds(BEYOND.__add__, st.text(st.sampled_from("a€ж" + EMOJI), max_size=300))
texts = gsm7_texts | ucs2_texts | st.text(max_size=200)


def parts_of(text: str) -> list[str]:
    """Split a text into parts that are each as full as possible."""
    gsm7 = set(text) <= GSM7_BASIC | set(EXTENSION)

    def units(part: str) -> int:
        if gsm7:
            return len(part) + sum(map(part.count, EXTENSION))
        return len(part.encode("utf-16-be")) // 2

    if units(text) <= (160 if gsm7 else 70):
        return [text]
    parts = [""]
    for character in text:
        if units(parts[-1] + character) > (153 if gsm7 else 67):
            parts.append("")
        parts[-1] += character
    return parts


@pytest.mark.parametrize("text", ["", "VERIFY", "£$¥èéÇ\n\rΔΩß¿ñü§à", EXTENSION])
def test_a_text_of_gsm7_and_its_extension_is_encoded_as_gsm7(text: str) -> None:
    assert encoding_of(text) is Encoding.GSM7
    assert segments_of(text) == 1


@pytest.mark.parametrize("other", ["ç", "`", "\t", "“", "…", "\N{NO-BREAK SPACE}", "ё", EMOJI])
def test_one_character_beyond_gsm7_makes_the_whole_text_ucs2(other: str) -> None:
    assert encoding_of("a" * 100) is Encoding.GSM7
    assert encoding_of("a" * 99 + other) is Encoding.UCS2
    assert (segments_of("a" * 100), segments_of("a" * 99 + other)) == (1, 2)


def test_the_encodings_have_telnyxs_names() -> None:
    assert [str(encoding) for encoding in Encoding] == ["GSM-7", "UCS-2"]


@pytest.mark.parametrize(
    ("text", "segments"),
    [
        ("a" * 159, 1),
        ("a" * 160, 1),
        ("a" * 161, 2),
        ("a" * 306, 2),
        ("a" * 307, 3),
        ("a" * 459, 3),
        ("a" * 460, 4),
        ("€" * 80, 1),
        ("€" * 81, 2),
        ("a" * 158 + "€", 1),
        ("a" * 159 + "€", 2),
        ("€" * 76 + "a" + "€" * 76 + "a", 2),
        ("€" * 152, 2),
        ("€" * 153, 3),
    ],
)
def test_a_gsm7_text_has_160_septets_in_one_segment_and_153_in_each_of_several(
    text: str, segments: int
) -> None:
    assert segments_of(text) == segments


@pytest.mark.parametrize("extended", EXTENSION)
@pytest.mark.parametrize(
    ("before", "after", "segments"),
    [(151, 153, 2), (152, 151, 2), (152, 152, 3), (153, 151, 2), (153, 152, 3)],
)
def test_a_character_of_the_extension_is_never_split(
    extended: str, before: int, after: int, segments: int
) -> None:
    assert segments_of("a" * before + extended + "a" * after) == segments


@pytest.mark.parametrize(
    ("text", "segments"),
    [
        (BEYOND * 69, 1),
        (BEYOND * 70, 1),
        (BEYOND * 71, 2),
        (BEYOND * 134, 2),
        (BEYOND * 135, 3),
        (EMOJI * 35, 1),
        (BEYOND * 69 + EMOJI, 2),
        (EMOJI * 36, 2),
        (BEYOND * 65 + EMOJI + BEYOND * 67, 2),
        (BEYOND * 66 + EMOJI + BEYOND * 65, 2),
        (BEYOND * 66 + EMOJI + BEYOND * 66, 3),
        (EMOJI * 66, 2),
        (EMOJI * 67, 3),
        (BEYOND + "€" * 69, 1),
    ],
)
def test_a_ucs2_text_has_70_units_in_one_segment_and_67_in_each_of_several_and_no_split_emoji(
    text: str, segments: int
) -> None:
    assert segments_of(text) == segments


@modest
@given(texts)
@example("a" * 152 + "€" + "a" * 152)
@example(BEYOND * 66 + EMOJI + BEYOND * 66)
def test_a_text_has_as_many_segments_as_its_parts(text: str) -> None:
    parts = parts_of(text)
    assert "".join(parts) == text
    assert segments_of(text) == len(parts)


@modest
@given(texts, st.sampled_from(["a", "€", BEYOND, EMOJI]) | st.characters(exclude_categories=["Cs"]))
def test_one_more_character_never_reduces_the_segments(text: str, more: str) -> None:
    assert segments_of(text + more) >= segments_of(text)


@pytest.mark.parametrize(("code", "hexadecimal"), LONGEST_CODES)
@pytest.mark.parametrize("reply", sorted(set(Reply) - {Reply.CODE_FORM}))
def test_every_reply_of_the_bot_fits_one_segment(
    reply: Reply, code: str, *, hexadecimal: bool
) -> None:
    text = compose(
        reply,
        app="W" * MAX_APP_NAME_LENGTH,
        support="W" * MAX_SUPPORT_CONTACT_LENGTH,
        host="verify.example.com",
        code_length=len(code),
        hexadecimal=hexadecimal,
        wait=timedelta(minutes=119),
        refusal=timedelta(minutes=59),
        life=timedelta(minutes=59),
        tries=10,
        since=datetime(2026, 9, 30, 23, 59, tzinfo=UTC),
    ).replace(CODE_PLACEHOLDER, code)
    assert (encoding_of(text), segments_of(text)) == (Encoding.GSM7, 1)
