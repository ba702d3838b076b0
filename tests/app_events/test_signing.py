from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from bot.app_events.signing import signed_headers, signing_key
from tests.kit.event_receiver import EVENTS_SECRET, NEXT_EVENTS_SECRET

NAME = "msg_0123456789abcdef0123456789abcdef"
BODY = b'{"type":"verification.verified"}'


def test_the_example_of_the_standard_is_signed_as_the_standard_says() -> None:
    # Standard Webhooks, "Signature scheme", and the tests of its libraries.
    headers = signed_headers(
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        b'{"test": 2432232314}',
        [signing_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")],
        datetime.fromtimestamp(1614265330, UTC),
    )
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


@given(st.text(), st.binary(min_size=24, max_size=64))
def test_the_public_library_believes_whatever_is_signed(body: str, key: bytes) -> None:
    headers = signed_headers(NAME, body.encode(), [key], datetime.now(UTC))
    Webhook(key).verify(body.encode(), headers, json_parse=False)


@given(st.text(), st.text())
def test_the_public_library_makes_the_same_signature(name: str, body: str) -> None:
    at = datetime(2026, 1, 15, 12, 0, 0, 999_999, tzinfo=UTC)
    oracle = Webhook(EVENTS_SECRET).sign(name, at, body)
    headers = signed_headers(name, body.encode(), [signing_key(EVENTS_SECRET)], at)
    assert headers["webhook-signature"] == oracle


@pytest.mark.parametrize("secret", [EVENTS_SECRET, NEXT_EVENTS_SECRET])
def test_while_a_secret_is_replaced_an_app_that_knows_either_believes(secret: str) -> None:
    keys = [signing_key(NEXT_EVENTS_SECRET), signing_key(EVENTS_SECRET)]
    headers = signed_headers(NAME, BODY, keys, datetime.now(UTC))
    assert Webhook(secret).verify(BODY, headers) == {"type": "verification.verified"}


def test_another_secret_another_body_and_another_time_are_not_believed() -> None:
    now = datetime.now(UTC)
    headers = signed_headers(NAME, BODY, [signing_key(EVENTS_SECRET)], now)
    old = signed_headers(NAME, BODY, [signing_key(EVENTS_SECRET)], now - timedelta(minutes=6))
    for secret, body, told in (
        (NEXT_EVENTS_SECRET, BODY, headers),
        (EVENTS_SECRET, BODY + b" ", headers),
        (EVENTS_SECRET, BODY, headers | {"webhook-id": "msg_another"}),
        (EVENTS_SECRET, BODY, old),
    ):
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(body, told)


@pytest.mark.parametrize("secret", ["whsec_not base64", "whsec_A"])
def test_what_is_no_secret_is_told(secret: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        signing_key(secret)
