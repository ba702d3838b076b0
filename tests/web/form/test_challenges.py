from __future__ import annotations

import hashlib
from datetime import timedelta

import pytest

from bot.simulator.clock import NOON
from bot.web.form.challenges import (
    CHALLENGE_LIFETIME,
    MAX_NUMBER,
    Challenge,
    new_challenge,
    proof_of,
)
from bot.web.form.sessions import Sessions

KEYS = ["a secret of the tests that is long enough", "an older secret that is long enough, too"]
BOTH, OLD = Sessions(KEYS, ""), Sessions(KEYS[1:], "")
SESSION_ID = "x" * 22


def solve(challenge: Challenge) -> int:
    """Return the number, as a browser finds it."""
    for number in range(MAX_NUMBER + 1):
        text = f"{challenge.salt}.{number}"
        if hashlib.sha256(text.encode()).hexdigest() == challenge.target:
            return number
    raise AssertionError("no number")


CHALLENGE = new_challenge(BOTH, SESSION_ID, NOON)
NUMBER = solve(CHALLENGE)


def test_the_number_that_was_found_is_a_proof() -> None:
    proof = proof_of(BOTH, SESSION_ID, CHALLENGE.signed, str(NUMBER), NOON)
    assert proof == CHALLENGE.salt[:32]


def test_each_challenge_has_a_proof_of_its_own() -> None:
    assert new_challenge(BOTH, SESSION_ID, NOON).salt != CHALLENGE.salt


@pytest.mark.parametrize("number", ["{next}", "", "-1", "x", "\u0663", "9" * 7, " {right}"])
def test_another_number_is_none(number: str) -> None:
    number = number.format(right=NUMBER, next=(NUMBER + 1) % MAX_NUMBER)
    assert proof_of(BOTH, SESSION_ID, CHALLENGE.signed, number, NOON) is None


def test_the_proof_of_another_session_is_none() -> None:
    assert proof_of(BOTH, "y" * 22, CHALLENGE.signed, str(NUMBER), NOON) is None


def test_a_challenge_expires_after_ten_minutes() -> None:
    last = NOON + CHALLENGE_LIFETIME - timedelta(seconds=1)
    assert proof_of(BOTH, SESSION_ID, CHALLENGE.signed, str(NUMBER), last)
    late = NOON + CHALLENGE_LIFETIME
    assert proof_of(BOTH, SESSION_ID, CHALLENGE.signed, str(NUMBER), late) is None


def test_a_challenge_of_ones_own_making_is_none() -> None:
    salt, target, mac = CHALLENGE.signed.split(".")
    later = f"{salt[:32]}-{int(salt[33:]) + 3600}"
    easy = hashlib.sha256(f"{salt}.0".encode()).hexdigest()
    for forged in (f"{later}.{target}.{mac}", f"{salt}.{easy}.{mac}", f"{salt}.{easy}.{'0' * 64}"):
        for number in (NUMBER, 0):
            assert proof_of(BOTH, SESSION_ID, forged, str(number), NOON) is None
    for malformed in ("", "..", "é", CHALLENGE.signed + "0", salt):
        assert proof_of(BOTH, SESSION_ID, malformed, str(NUMBER), NOON) is None


def test_a_challenge_outlives_a_new_secret_key() -> None:
    old = new_challenge(OLD, SESSION_ID, NOON)
    assert proof_of(BOTH, SESSION_ID, old.signed, str(solve(old)), NOON)
    assert proof_of(OLD, SESSION_ID, CHALLENGE.signed, str(NUMBER), NOON) is None
