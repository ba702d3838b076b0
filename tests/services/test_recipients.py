from __future__ import annotations

import pytest

from bot.services.recipients import RecipientError, Recipients, Refusal

PHONE, BOT_NUMBER, TEST_NUMBER = "+13125550001", "+13125550100", "+442079460001"
LANDLINE, GERMAN_MOBILE = "+442079460000", "+491711234567"
RECIPIENTS = Recipients("+1", [BOT_NUMBER], [TEST_NUMBER])
IN_THE_USA = Recipients("+1", [BOT_NUMBER], [TEST_NUMBER], countries=["US"])


@pytest.mark.parametrize("text", ["(312) 555-0001", "312.555.0001", "+1 312 555 0001"])
def test_a_number_without_a_country_code_belongs_to_the_default_country(text: str) -> None:
    assert RECIPIENTS.accept(text) == RECIPIENTS.parse(text) == PHONE


@pytest.mark.parametrize("text", ["", "hello", "123", "3125550001 ext. 5"])
def test_what_is_not_a_number_is_refused(text: str) -> None:
    for read in (RECIPIENTS.accept, RECIPIENTS.parse):
        with pytest.raises(RecipientError) as raised:
            read(text)
        assert raised.value.refusal is Refusal.NOT_A_NUMBER


def test_the_bots_own_number_is_refused() -> None:
    with pytest.raises(RecipientError, match="own number") as raised:
        RECIPIENTS.accept("312-555-0100")
    assert raised.value.refusal is Refusal.BOT_NUMBER


def test_a_number_that_cannot_be_texted_is_refused_and_its_kind_named() -> None:
    with pytest.raises(RecipientError, match="this is a landline; give") as raised:
        RECIPIENTS.accept(LANDLINE)
    assert (raised.value.refusal, raised.value.kind) == (Refusal.NOT_TEXTABLE, "a landline")
    assert RECIPIENTS.parse(LANDLINE) == LANDLINE


def test_only_numbers_of_the_given_countries_are_accepted() -> None:
    assert RECIPIENTS.accept(GERMAN_MOBILE) == GERMAN_MOBILE
    assert IN_THE_USA.accept(PHONE) == PHONE
    with pytest.raises(RecipientError) as raised:
        IN_THE_USA.accept(GERMAN_MOBILE)
    assert raised.value.refusal is Refusal.OTHER_COUNTRY
    with pytest.raises(RecipientError):
        Recipients("+1", [], countries=[]).accept(PHONE)


def test_a_number_is_accepted_in_its_canonical_spelling() -> None:
    for text in ("+5215512345678", "+525512345678"):
        assert RECIPIENTS.accept(text) == RECIPIENTS.parse(text) == "+525512345678"
    assert RECIPIENTS.accept("+54 11 2345 6789") == "+5491123456789"
    assert RECIPIENTS.accept("+55 11 8765 4321") == "+5511987654321"


@pytest.mark.parametrize("own", ["+5215512345678", "+525512345678"])
@pytest.mark.parametrize("typed", ["+5215512345678", "+525512345678"])
def test_the_bots_numbers_and_test_numbers_are_known_in_either_spelling(
    own: str, typed: str
) -> None:
    with pytest.raises(RecipientError, match="own number"):
        Recipients("+1", [own]).accept(typed)
    assert Recipients("+1", [], [own], countries=["US"]).accept(typed) == "+525512345678"


def test_a_possible_number_of_a_range_that_the_library_does_not_know_is_accepted() -> None:
    assert IN_THE_USA.accept("+15551234567") == "+15551234567"
    with pytest.raises(RecipientError) as raised:
        IN_THE_USA.accept("+12688991234")  # Antigua and Barbuda
    assert raised.value.refusal is Refusal.OTHER_COUNTRY
    with pytest.raises(RecipientError) as raised:
        RECIPIENTS.accept("+19001234567")
    assert raised.value.kind == "a premium-rate number"


def test_a_test_number_may_be_of_any_kind_and_country() -> None:
    assert IN_THE_USA.accept(TEST_NUMBER) == TEST_NUMBER
