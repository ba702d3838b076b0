from __future__ import annotations

import hmac
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from bot.conversation.codes import Keyring
from bot.conversation.state import Alphabet, CodeDelivery, CodeFormat, Token

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
BOT, OTHER_BOT = "+13125550100", "+13125550101"
PHONE, OTHER_PHONE = "+13125550199", "+13125550198"
SECRET, OTHER_SECRET = "s" * 32, "t" * 32
SIX_DIGITS = CodeFormat(6, Alphabet.DIGITS)
LONG_HEX = CodeFormat(64, Alphabet.HEX)
RING = Keyring([SECRET])

modest = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
formats = st.one_of(
    st.builds(CodeFormat, st.integers(4, 10), st.just(Alphabet.DIGITS)),
    st.builds(CodeFormat, st.integers(4, 64), st.just(Alphabet.HEX)),
)
ids = st.binary(min_size=16, max_size=16).map(bytes.hex)


def token_of(
    ring: Keyring = RING,
    name: str = "00112233445566778899aabbccddeeff",
    code_format: CodeFormat = SIX_DIGITS,
) -> Token:
    return Token(
        id=name,
        key_id=ring.signing_key_id,
        format=code_format,
        issued_at=NOW,
        expires_at=NOW + timedelta(minutes=10),
        resend_after=NOW,
    )


@pytest.mark.parametrize(
    ("code_format", "code"),
    [
        (SIX_DIGITS, "936235"),
        (CodeFormat(10, Alphabet.DIGITS), "2477936235"),
        (CodeFormat(8, Alphabet.HEX), "B2135175"),
    ],
)
def test_a_code_sent_by_an_earlier_release_still_works(code_format: CodeFormat, code: str) -> None:
    assert RING.code(token_of(code_format=code_format), BOT, PHONE) == code


def test_a_code_is_the_same_for_both_spellings_of_a_number() -> None:
    ring = Keyring([SECRET], {"+5215512345679": "123456"})
    token, one, other = token_of(ring), "+525512345678", "+5215512345678"
    assert ring.code(token, BOT, one) == ring.code(token, BOT, other)
    assert ring.matches(ring.code(token, BOT, one), token, BOT, other)
    assert ring.is_test("+525512345679")
    assert ring.code(token, BOT, "+525512345679") == "123456"


def test_a_key_keeps_its_id_from_release_to_release() -> None:
    assert RING.signing_key_id == "f47ccc6128fe"


@modest
@given(ids, formats)
def test_a_code_has_the_length_and_the_alphabet_of_its_token(
    name: str, code_format: CodeFormat
) -> None:
    code = RING.code(token_of(name=name, code_format=code_format), BOT, PHONE)

    symbols = "0123456789ABCDEF" if code_format.alphabet is Alphabet.HEX else "0123456789"
    assert len(code) == code_format.length
    assert set(code) <= set(symbols)


def test_every_digit_occurs_in_every_place_including_the_first() -> None:
    codes = [RING.code(token_of(name=f"{n:032x}"), BOT, PHONE) for n in range(500)]

    assert [len({code[place] for code in codes}) for place in range(6)] == [10] * 6


def test_different_tokens_have_different_codes() -> None:
    tokens = [token_of(name=f"{n:032x}", code_format=LONG_HEX) for n in range(500)]

    assert len({RING.code(token, BOT, PHONE) for token in tokens}) == 500


def test_a_code_is_valid_for_one_phone_one_bot_number_one_token_and_one_key() -> None:
    token = token_of(code_format=LONG_HEX)
    other_ring = Keyring([OTHER_SECRET])
    other_token = token_of(name="f" * 32, code_format=LONG_HEX)

    codes = [
        RING.code(token, BOT, PHONE),
        RING.code(token, BOT, OTHER_PHONE),
        RING.code(token, OTHER_BOT, PHONE),
        RING.code(token, PHONE, BOT),
        RING.code(other_token, BOT, PHONE),
        other_ring.code(token_of(other_ring, code_format=LONG_HEX), BOT, PHONE),
    ]

    assert len(set(codes)) == len(codes)


def test_digits_moved_from_one_number_to_the_next_make_another_code() -> None:
    token = token_of(code_format=LONG_HEX)

    assert RING.code(token, "+1312", "5550199") != RING.code(token, "+13125", "550199")


def test_changes_of_a_token_do_not_change_its_code() -> None:
    token = token_of()
    later = NOW + timedelta(minutes=3)
    changed = replace(
        token,
        issued_at=later,
        expires_at=later,
        resend_after=later,
        guesses=3,
        used_at=later,
        ended_at=later,
        text=CodeDelivery.SENT,
    )

    assert RING.code(changed, BOT, PHONE) == RING.code(token, BOT, PHONE)


@modest
@given(ids, formats)
def test_the_code_matches(name: str, code_format: CodeFormat) -> None:
    token = token_of(name=name, code_format=code_format)

    assert RING.matches(RING.code(token, BOT, PHONE), token, BOT, PHONE)


@modest
@given(ids, st.text("0123456789", max_size=8))
def test_only_the_code_matches(name: str, guess: str) -> None:
    token = token_of(name=name)

    assert RING.matches(guess, token, BOT, PHONE) is (guess == RING.code(token, BOT, PHONE))


def test_the_code_does_not_match_for_another_phone_or_at_another_number() -> None:
    token = token_of(code_format=LONG_HEX)
    code = RING.code(token, BOT, PHONE)

    assert not RING.matches(code, token, BOT, OTHER_PHONE)
    assert not RING.matches(code, token, OTHER_BOT, PHONE)


def test_a_code_without_its_leading_zero_does_not_match() -> None:
    tokens = [token_of(name=f"{n:032x}") for n in range(200)]
    token = next(token for token in tokens if RING.code(token, BOT, PHONE).startswith("0"))

    assert not RING.matches(RING.code(token, BOT, PHONE).lstrip("0"), token, BOT, PHONE)


def test_a_guess_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare_digest(first: bytes, second: bytes) -> bool:
        compared.append((first, second))
        return False

    monkeypatch.setattr(hmac, "compare_digest", compare_digest)
    token = token_of()

    assert not RING.matches(RING.code(token, BOT, PHONE), token, BOT, PHONE)
    assert len(compared) == 1


def test_the_first_secret_signs() -> None:
    assert Keyring([OTHER_SECRET, SECRET]).signing_key_id == Keyring([OTHER_SECRET]).signing_key_id


def test_after_a_rotation_the_codes_of_the_old_key_still_work() -> None:
    rotated = Keyring([OTHER_SECRET, SECRET])
    token = token_of(RING)

    assert token.key_id in rotated
    assert rotated.code(token, BOT, PHONE) == RING.code(token, BOT, PHONE)
    assert rotated.matches(RING.code(token, BOT, PHONE), token, BOT, PHONE)


def test_once_its_key_is_gone_a_code_no_longer_matches() -> None:
    token = token_of(RING)
    without_it = Keyring([OTHER_SECRET])

    assert token.key_id not in without_it
    assert not without_it.matches(RING.code(token, BOT, PHONE), token, BOT, PHONE)


def test_a_code_cannot_be_derived_without_its_key() -> None:
    with pytest.raises(KeyError):
        Keyring([OTHER_SECRET]).code(token_of(RING), BOT, PHONE)


def test_a_key_id_reveals_nothing_about_its_secret() -> None:
    assert RING.signing_key_id != Keyring([OTHER_SECRET]).signing_key_id
    assert SECRET[:4] not in RING.signing_key_id
    assert SECRET not in repr(RING)


def test_a_keyring_without_a_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one secret"):
        Keyring([])
