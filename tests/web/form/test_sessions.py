from __future__ import annotations

import hashlib
import hmac

from bot.web.form.sessions import Sessions

KEYS = ["a secret of the tests that is long enough", "an older secret that is long enough, too"]
SESSION_ID, OTHER_ID = "x" * 22, "y" * 22
OLD, BOTH = Sessions([KEYS[1]], ""), Sessions(KEYS, "")


def test_a_token_is_valid_for_its_own_session_only() -> None:
    token = BOTH.csrf_token(SESSION_ID)
    assert BOTH.is_csrf_token(token, SESSION_ID)
    assert not BOTH.is_csrf_token(token, OTHER_ID)


def test_a_token_outlives_a_new_secret_key() -> None:
    assert BOTH.is_csrf_token(OLD.csrf_token(SESSION_ID), SESSION_ID)
    assert not OLD.is_csrf_token(BOTH.csrf_token(SESSION_ID), SESSION_ID)
    assert OLD.hashed_id(SESSION_ID) == BOTH.hashed_id(SESSION_ID)


def test_tokens_and_networks_are_signed_with_derived_keys_of_their_own() -> None:
    plain = hmac.new(KEYS[0].encode(), SESSION_ID.encode(), hashlib.sha256).hexdigest()
    assert not BOTH.is_csrf_token(plain, SESSION_ID)
    assert BOTH.hashed_network(SESSION_ID) != BOTH.csrf_token(SESSION_ID)
