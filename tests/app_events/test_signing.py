from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from bot.app_events.signing import signed_headers
from tests.kit.event_receiver import EVENTS_SECRET, NEXT_EVENTS_SECRET

EVENT_ID = "msg_0123456789abcdef0123456789abcdef"
BODY = '{"type":"verification.verified"}'


def test_the_example_of_the_standard_is_signed_as_the_standard_says() -> None:
    # Standard Webhooks, "Signature scheme", and the tests of its libraries.
    headers = signed_headers(
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        '{"test": 2432232314}',
        ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
        datetime.fromtimestamp(1614265330, UTC),
    )
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


@given(st.text())
def test_any_body_can_be_verified(body: str) -> None:
    headers = signed_headers(EVENT_ID, body, [EVENTS_SECRET], datetime.now(UTC))
    Webhook(EVENTS_SECRET).verify(body.encode(), headers, json_parse=False)


def test_the_signature_is_over_the_whole_seconds_of_the_timestamp_header() -> None:
    at = datetime.now(UTC).replace(microsecond=999_999)
    headers = signed_headers(EVENT_ID, BODY, [EVENTS_SECRET], at)
    assert headers["webhook-timestamp"] == str(int(at.replace(microsecond=0).timestamp()))
    Webhook(EVENTS_SECRET).verify(BODY, headers)


@pytest.mark.parametrize("secret", [EVENTS_SECRET, NEXT_EVENTS_SECRET])
def test_while_a_secret_is_replaced_an_app_that_knows_either_can_verify(secret: str) -> None:
    secrets = [NEXT_EVENTS_SECRET, EVENTS_SECRET]
    headers = signed_headers(EVENT_ID, BODY, secrets, datetime.now(UTC))
    assert Webhook(secret).verify(BODY, headers) == {"type": "verification.verified"}


def test_another_secret_body_id_or_time_does_not_verify() -> None:
    now = datetime.now(UTC)
    headers = signed_headers(EVENT_ID, BODY, [EVENTS_SECRET], now)
    old = signed_headers(EVENT_ID, BODY, [EVENTS_SECRET], now - timedelta(minutes=6))
    for secret, body, altered in (
        (NEXT_EVENTS_SECRET, BODY, headers),
        (EVENTS_SECRET, f"{BODY} ", headers),
        (EVENTS_SECRET, BODY, headers | {"webhook-id": "msg_another"}),
        (EVENTS_SECRET, BODY, old),
    ):
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(body, altered)
