from __future__ import annotations

import hashlib
import hmac

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

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


def cookie_of(sessions: Sessions, session_id: str = SESSION_ID) -> str:
    response = web.Response()
    sessions.set_cookie(response, session_id)
    return response.cookies["textproof"].value


def read(sessions: Sessions, cookie: str) -> str | None:
    headers = {"Cookie": f"textproof={cookie}"}
    return sessions.read_id(make_mocked_request("GET", "/", headers=headers))


def test_a_cookie_is_valid_under_each_current_secret_key() -> None:
    assert read(BOTH, cookie_of(BOTH)) == SESSION_ID
    assert read(BOTH, cookie_of(OLD)) == SESSION_ID
    assert read(OLD, cookie_of(BOTH)) is None


def test_the_mac_of_another_session_or_of_another_kind_is_not_valid() -> None:
    mac = cookie_of(BOTH, OTHER_ID).partition(".")[2]
    assert read(BOTH, f"{OTHER_ID}.{mac}") == OTHER_ID
    for other in (mac, BOTH.csrf_token(SESSION_ID), BOTH.hashed_network(SESSION_ID)):
        assert read(BOTH, f"{SESSION_ID}.{other}") is None


@pytest.mark.parametrize("cookie", [SESSION_ID, f"{SESSION_ID}.", f"{SESSION_ID}.{'0' * 64}"])
def test_a_cookie_without_its_mac_is_no_cookie(cookie: str) -> None:
    assert read(BOTH, cookie) is None
