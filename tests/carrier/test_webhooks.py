from __future__ import annotations

import base64
import copy
import json
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from nacl.signing import SigningKey
from telnyx.lib.webhook_verification import WebhookVerificationError, verify_webhook_signature

from bot.carrier.webhooks import (
    SIGNATURE_HEADER,
    TIMESTAMP_HEADER,
    TOLERANCE,
    BodyError,
    DeliveryReport,
    DeliveryStatus,
    Ignored,
    InboundText,
    SignatureError,
    Verifier,
    parse,
)
from bot.conversation.inputs import AutoReply, Shape, TextReceived
from bot.conversation.numbers import is_e164

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bot.carrier.webhooks import WebhookEvent

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
TIMESTAMP = str(int(NOW.timestamp()))
KEY, NEXT_KEY, FOREIGN_KEY = (SigningKey(bytes([number]) * 32) for number in (1, 2, 3))
BODY = b'{"data": {"event_type": "message.received"}}'

PHONE, BOT = "+13125550001", "+17735550002"
OTHER_BOT = "+17735550003"

RECEIVED: dict[str, Any] = {
    "data": {
        "event_type": "message.received",
        "id": "b301ed3f-1490-491f-995f-6e64e69674d4",
        "occurred_at": "2024-01-15T20:16:07.588+00:00",
        "payload": {
            "completed_at": None,
            "cost": {"amount": "0.0000", "currency": "USD"},
            "direction": "inbound",
            "encoding": "GSM-7",
            "errors": [],
            "from": {"carrier": "T-Mobile USA", "line_type": "long_code", "phone_number": PHONE},
            "id": "84cca175-9755-4859-b67f-4730d7f58aa3",
            "media": [],
            "messaging_profile_id": "740572b6-099c-44a1-89b9-6c92163bc68d",
            "parts": 1,
            "received_at": "2024-01-15T20:16:07.503+00:00",
            "record_type": "message",
            "sent_at": None,
            "tags": [],
            "text": "Hello from Telnyx!",
            "to": [
                {
                    "carrier": "Telnyx",
                    "line_type": "Wireless",
                    "phone_number": BOT,
                    "status": "webhook_delivered",
                }
            ],
            "type": "SMS",
            "valid_until": None,
            "webhook_failover_url": None,
            "webhook_url": "https://example.com/webhooks",
        },
        "record_type": "event",
    },
    "meta": {"attempt": 1, "delivered_to": "https://example.com/webhooks"},
}

FINALIZED: dict[str, Any] = {
    "data": {
        "event_type": "message.finalized",
        "id": "4ee8c3a6-4995-4309-a3c6-38e3db9ea4be",
        "occurred_at": "2024-01-15T21:32:14.148+00:00",
        "payload": {
            "completed_at": "2024-01-15T21:32:14.148+00:00",
            "cost": {"amount": "0.0051", "currency": "USD"},
            "cost_breakdown": {"carrier_fee": {"amount": "0.00305", "currency": "USD"}},
            "direction": "outbound",
            "encoding": "GSM-7",
            "errors": [],
            "from": {
                "carrier": "Telnyx",
                "line_type": "Wireless",
                "phone_number": "+13125550001",
                "status": "webhook_delivered",
            },
            "id": "ac012cbf-5e09-46af-a69a-7c0e2d90993c",
            "media": [],
            "parts": 1,
            "record_type": "message",
            "tags": ["tag-a", "tag-b"],
            "text": "Hello there!",
            "to": [
                {
                    "carrier": "T-MOBILE USA, INC.",
                    "line_type": "Wireless",
                    "phone_number": "+13125550002",
                    "status": "delivered",
                }
            ],
            "type": "SMS",
            "tcr_campaign_billable": True,
        },
        "record_type": "event",
    },
    "meta": {"attempt": 1, "delivered_to": "https://example.com/webhooks"},
}

SENT: dict[str, Any] = {
    "data": {
        "event_type": "message.sent",
        "id": "a1b2c3d4-5678-9012-abcd-ef1234567890",
        "occurred_at": "2024-01-15T21:32:13.596+00:00",
        "payload": {
            "completed_at": None,
            "direction": "outbound",
            "errors": [],
            "from": {
                "carrier": "Telnyx",
                "line_type": "Wireless",
                "phone_number": "+13125550001",
            },
            "id": "ac012cbf-5e09-46af-a69a-7c0e2d90993c",
            "record_type": "message",
            "text": "Hello there!",
            "to": [
                {
                    "carrier": "T-MOBILE USA, INC.",
                    "line_type": "Wireless",
                    "phone_number": "+13125550002",
                    "status": "sent",
                }
            ],
            "type": "SMS",
        },
        "record_type": "event",
    },
    "meta": {"attempt": 1, "delivered_to": "https://example.com/webhooks"},
}

ARRIVED = datetime(2026, 1, 15, 12, 0, tzinfo=UTC)
MISSING = object()

modest = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
any_text = st.text(st.characters(exclude_categories=()), max_size=20)
json_leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(10**4000, 10**4001),
    st.floats(),
    any_text,
    st.sampled_from([PHONE, BOT, "STOP", "message.sent", "message.received", "delivered", "", "x"]),
)
json_values = st.recursive(
    json_leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.one_of(st.sampled_from(["phone_number", "code", "status", "id"]), any_text),
            inner,
            max_size=3,
        ),
    ),
    max_leaves=8,
)


def signature_of(body: bytes, timestamp: str = TIMESTAMP, key: SigningKey = KEY) -> str:
    signed = key.sign(timestamp.encode() + b"|" + body)
    return base64.b64encode(signed.signature).decode()


def verifier(*keys: SigningKey) -> Verifier:
    return Verifier([bytes(key.verify_key) for key in keys])


def accepts(  # noqa: PLR0913 - each is one way in which a request may be wrong
    *,
    body: bytes = BODY,
    signatures: list[str] | None = None,
    timestamps: list[str] | None = None,
    now: datetime = NOW,
    keys: tuple[SigningKey, ...] = (KEY,),
    signed_by: SigningKey = KEY,
) -> bool:
    stamps = [TIMESTAMP] if timestamps is None else timestamps
    if signatures is None:
        signatures = [signature_of(BODY, stamps[0] if stamps else TIMESTAMP, signed_by)]
    try:
        verifier(*keys).verify(body, signatures, stamps, now)
    except SignatureError:
        return False
    return True


def test_a_body_signed_by_the_key_is_accepted() -> None:
    assert accepts()


@pytest.mark.parametrize("signed_by", [KEY, NEXT_KEY])
def test_while_one_key_replaces_another_both_are_accepted(signed_by: SigningKey) -> None:
    assert accepts(keys=(KEY, NEXT_KEY), signed_by=signed_by)


def test_a_key_that_is_not_listed_is_refused() -> None:
    assert not accepts(keys=(KEY, NEXT_KEY), signed_by=FOREIGN_KEY)


@pytest.mark.parametrize("direction", [-1, 1])
def test_a_timestamp_may_be_five_minutes_off_and_no_more(direction: int) -> None:
    assert accepts(now=NOW + direction * timedelta(seconds=TOLERANCE))
    assert not accepts(now=NOW + direction * timedelta(seconds=TOLERANCE + 1))


def test_fractions_of_a_second_count() -> None:
    assert accepts(now=NOW + timedelta(seconds=TOLERANCE - 0.001))
    assert not accepts(now=NOW + timedelta(seconds=TOLERANCE + 0.001))


def test_the_tolerance_is_that_of_telnyx() -> None:
    assert TOLERANCE == 300


@pytest.mark.parametrize(
    "timestamp",
    ["9" * 12, "9" * 13, "9" * 5000, "0"],
    ids=["12 digits", "13 digits", "5000 digits", "zero"],
)
def test_a_signed_but_absurd_timestamp_is_refused(timestamp: str) -> None:
    assert not accepts(timestamps=[timestamp])


@pytest.mark.parametrize(
    "timestamp",
    [
        "",
        " ",
        "now",
        "-" + TIMESTAMP,
        "+" + TIMESTAMP,
        " " + TIMESTAMP,
        TIMESTAMP + "\n",
        TIMESTAMP + ".0",
        TIMESTAMP[:5] + "_" + TIMESTAMP[5:],
        TIMESTAMP.translate({ord(str(digit)): chr(0x660 + digit) for digit in range(10)}),
        "nan",
        "1e9",
    ],
)
def test_a_timestamp_that_is_not_plain_digits_is_refused_even_when_signed(timestamp: str) -> None:
    assert not accepts(timestamps=[timestamp])


def test_a_missing_header_is_refused() -> None:
    assert not accepts(signatures=[])
    assert not accepts(timestamps=[])
    assert not accepts(signatures=[], timestamps=[])


def test_a_repeated_header_is_refused_even_where_both_say_the_same() -> None:
    assert not accepts(signatures=[signature_of(BODY)] * 2)
    assert not accepts(timestamps=[TIMESTAMP] * 2)


@pytest.mark.parametrize(
    "signature",
    [
        "",
        "=",
        "not base64 at all!",
        signature_of(BODY)[:-1],
        signature_of(BODY)[:-4],
        signature_of(BODY)[:44],
        signature_of(BODY) + "AAAA",
        " " + signature_of(BODY),
        signature_of(BODY) + "\n",
        signature_of(BODY)[:40] + "\u00e9" + signature_of(BODY)[41:],
        signature_of(BODY)[:40] + "\udcff" + signature_of(BODY)[41:],
        base64.b64encode(bytes(64)).decode(),
        base64.b64encode(base64.b64decode(signature_of(BODY))).decode()[::-1],
        base64.b64decode(signature_of(BODY)).hex(),
        "A" * 100_000,
    ],
)
def test_a_broken_signature_is_refused(signature: str) -> None:
    assert not accepts(signatures=[signature])


def test_a_signature_for_another_timestamp_is_refused() -> None:
    later = str(int(TIMESTAMP) + 1)
    assert not accepts(signatures=[signature_of(BODY, TIMESTAMP)], timestamps=[later])


def test_the_separator_cannot_be_moved_between_timestamp_and_body() -> None:
    signature = signature_of(b"7|" + BODY, TIMESTAMP)
    assert accepts(body=b"7|" + BODY, signatures=[signature])
    assert not accepts(body=BODY, signatures=[signature], timestamps=[TIMESTAMP + "|7"])


@modest
@given(body=st.binary(min_size=1), bit=st.integers(0))
def test_one_flipped_bit_of_the_body_is_refused(body: bytes, bit: int) -> None:
    flipped = bytearray(body)
    flipped[bit // 8 % len(body)] ^= 1 << bit % 8

    assert accepts(body=body, signatures=[signature_of(body)])
    assert not accepts(body=bytes(flipped), signatures=[signature_of(body)])


@modest
@given(bit=st.integers(0, 64 * 8 - 1))
def test_one_flipped_bit_of_the_signature_is_refused(bit: int) -> None:
    flipped = bytearray(base64.b64decode(signature_of(BODY)))
    flipped[bit // 8] ^= 1 << bit % 8
    assert not accepts(signatures=[base64.b64encode(flipped).decode()])


@modest
@given(st.lists(any_text, max_size=3), st.lists(any_text, max_size=3), st.binary())
def test_any_headers_raise_only_a_signature_error(
    signatures: list[str], timestamps: list[str], body: bytes
) -> None:
    assert not accepts(body=body, signatures=signatures, timestamps=timestamps)


def test_a_signature_error_quotes_nothing_of_the_request() -> None:
    with pytest.raises(SignatureError) as refusal:
        verifier(KEY).verify(b"canary-body", ["canary-signature"], ["canary-time"], NOW)
    assert "canary" not in str(refusal.value)


@modest
@given(
    text=st.text(),
    offset=st.sampled_from([-1000, -310, -290, 0, 290, 310, 1000]),
    signed_by=st.sampled_from([KEY, KEY, FOREIGN_KEY]),
    flipped=st.booleans(),
)
@example(text="", offset=0, signed_by=KEY, flipped=False)
def test_it_agrees_with_the_verifier_of_the_telnyx_sdk(
    text: str,
    offset: int,
    signed_by: SigningKey,
    flipped: bool,  # noqa: FBT001 - drawn by hypothesis
) -> None:
    now = time.time()
    timestamp = str(int(now) + offset)
    signature = signature_of(text.encode(), timestamp, signed_by)
    body = (text + "!" * flipped).encode()
    headers = {SIGNATURE_HEADER: signature, TIMESTAMP_HEADER: timestamp}

    ours = accepts(
        body=body,
        signatures=[signature],
        timestamps=[timestamp],
        now=datetime.fromtimestamp(now, UTC),
    )

    assert ours == oracle_accepts(body, headers, KEY)
    assert ours == (abs(offset) < TOLERANCE and signed_by is KEY and not flipped)


def oracle_accepts(body: bytes, headers: dict[str, str], key: SigningKey) -> bool:
    public_key = base64.b64encode(bytes(key.verify_key)).decode()
    try:
        verify_webhook_signature(body, headers, public_key)
    except WebhookVerificationError:
        return False
    return True


def read(event: object, *bot_numbers: str) -> WebhookEvent:
    return parse(json.dumps(event).encode(), bot_numbers or (BOT, OTHER_BOT), ARRIVED)


def received(**changes: Any) -> dict[str, Any]:
    return changed(RECEIVED, **changes)


def finalized(**changes: Any) -> dict[str, Any]:
    return changed(FINALIZED, **changes)


def changed(documented: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Copy a documented body with another payload; `sender` stands for `from`."""
    event = copy.deepcopy(documented)
    payload = event["data"]["payload"]
    for name, value in changes.items():
        place = "from" if name == "sender" else name
        if value is MISSING:
            del payload[place]
        else:
            payload[place] = value
    return event


def party(number: object, **more: Any) -> dict[str, Any]:
    return {"carrier": "T", "line_type": "Wireless", "phone_number": number, **more}


def input_of(event: object) -> TextReceived:
    """Parse a text and return its input, without the time."""
    parsed = read(event)
    assert isinstance(parsed, InboundText)
    return replace(parsed.input, received_at=None)


def test_the_documented_text_is_read() -> None:
    received_at = datetime(2024, 1, 15, 20, 16, 7, 503_000, UTC)
    assert read(RECEIVED) == InboundText(
        "message:84cca175-9755-4859-b67f-4730d7f58aa3",
        PHONE,
        BOT,
        TextReceived("Hello from Telnyx!", received_at=received_at),
    )


def test_a_sender_is_known_by_the_canonical_spelling_of_the_number() -> None:
    for sender, spelling in (("+5215512345678", "+5215512345678"), ("+525512345678", None)):
        event = read(received(sender=party(sender)))
        assert isinstance(event, InboundText)
        assert event.phone == "+525512345678"
        assert event.input.sender == spelling


@pytest.mark.parametrize("own", ["+5215512345678", "+525512345678"])
@pytest.mark.parametrize("spelling", ["+5215512345678", "+525512345678"])
def test_the_bots_number_is_recognised_in_either_spelling(own: str, spelling: str) -> None:
    body = json.dumps(received(to=[party(spelling)])).encode()
    event = parse(body, [BOT, own], ARRIVED)
    assert isinstance(event, InboundText)
    assert event.bot_number == own
    body = json.dumps(received(sender=party(spelling))).encode()
    assert parse(body, [BOT, own], ARRIVED) == Ignored("sender")


def test_a_clock_that_is_behind_does_not_put_a_text_in_the_future() -> None:
    body = json.dumps(received(received_at="2026-01-15T12:00:03Z")).encode()
    event = parse(body, [BOT], ARRIVED, ARRIVED + timedelta(seconds=3))
    assert isinstance(event, InboundText)
    assert event.input.received_at == ARRIVED + timedelta(seconds=3)
    later = parse(body, [BOT], ARRIVED, ARRIVED + timedelta(seconds=2))
    assert isinstance(later, InboundText)
    assert later.input.received_at == ARRIVED


@pytest.mark.parametrize(
    ("written", "received_at"),
    [
        ("2026-01-15T11:59:59.5Z", ARRIVED - timedelta(seconds=0.5)),
        ("2026-01-15T13:59:58+02:00", ARRIVED - timedelta(seconds=2)),
        ("2026-01-15T12:00:00.001+00:00", ARRIVED),
        ("2036-01-15T12:00:00Z", ARRIVED),
        ("2026-01-15T11:59:59", ARRIVED),
        ("0001-01-01T00:00:00+23:59", ARRIVED),
        ("yesterday", ARRIVED),
        ("", ARRIVED),
        (1768478399, ARRIVED),
        (None, ARRIVED),
        (MISSING, ARRIVED),
    ],
)
def test_received_at_is_that_of_telnyx_unless_it_is_impossible(
    written: object, received_at: datetime
) -> None:
    event = read(received(received_at=written))
    assert isinstance(event, InboundText)
    assert event.input.received_at == received_at


def test_the_documented_reports_are_read() -> None:
    carrier_id = "ac012cbf-5e09-46af-a69a-7c0e2d90993c"
    assert read(SENT) == DeliveryReport(
        "event:a1b2c3d4-5678-9012-abcd-ef1234567890", carrier_id, DeliveryStatus.SENT
    )
    assert read(FINALIZED) == DeliveryReport(
        "event:4ee8c3a6-4995-4309-a3c6-38e3db9ea4be", carrier_id, DeliveryStatus.DELIVERED
    )


def test_the_same_text_under_another_event_id_has_the_same_key() -> None:
    again = copy.deepcopy(RECEIVED)
    again["data"]["id"] = "another"
    again["meta"]["attempt"] = 2
    assert read(again) == read(RECEIVED)


def test_two_reports_on_one_text_have_two_keys() -> None:
    sent, final = read(SENT), read(FINALIZED)
    assert isinstance(sent, DeliveryReport)
    assert isinstance(final, DeliveryReport)
    assert sent.key != final.key


@pytest.mark.parametrize("line_type", ["long_code", "short_code", "toll_free", "new", None, 7, []])
def test_line_types_that_are_not_documented_change_nothing(line_type: object) -> None:
    event = received(
        sender={"phone_number": PHONE, "line_type": line_type},
        to=[{"phone_number": BOT, "status": "dlr_timeout", "line_type": line_type}],
    )
    assert read(event) == read(RECEIVED)


def test_a_text_needs_only_id_sender_recipient_and_text() -> None:
    payload = {
        "id": "m1",
        "from": {"phone_number": PHONE},
        "to": [{"phone_number": BOT}],
        "text": "VERIFY",
    }
    event = {"data": {"event_type": "message.received", "payload": payload}}
    assert read(event) == InboundText(
        "message:m1", PHONE, BOT, TextReceived("VERIFY", received_at=ARRIVED)
    )


@pytest.mark.parametrize("text", [None, MISSING, 7, ["VERIFY"], {"text": "VERIFY"}])
def test_a_text_without_text_and_media_is_ignored(text: object) -> None:
    assert read(received(text=text)) == Ignored("text")


def test_an_empty_text_is_still_a_text() -> None:
    assert input_of(received(text="")) == TextReceived("")


@pytest.mark.parametrize(("text", "words"), [("look", "look"), (None, ""), (MISSING, "")])
def test_an_mms_is_media_with_or_without_text(text: object, words: str) -> None:
    picture = {"url": "https://example.com/picture.png", "content_type": "image/png", "size": 5}
    event = received(media=[picture], text=text, type="MMS")
    assert input_of(event) == TextReceived(words, Shape.MEDIA)


def test_an_mms_without_media_is_a_plain_text() -> None:
    assert input_of(received(type="MMS", text="VERIFY")) == TextReceived("VERIFY")


@pytest.mark.parametrize("media", [None, MISSING, "picture", {"url": "x"}, 1])
def test_media_that_is_not_a_list_is_ignored(media: object) -> None:
    assert input_of(received(media=media)).shape is Shape.PLAIN


@pytest.mark.parametrize(
    "changes",
    [
        {"cc": [party("+13125550009")]},
        {"cc": [party("12345")]},
        {"cc": [None]},
        {"to": [party(BOT), party("+13125550009")]},
        {"to": [party("+13125550009"), party(BOT)]},
        {"to": [party(BOT), {}]},
        {"to": [party(BOT), party(OTHER_BOT)]},
        {"cc": [party("+13125550009")], "media": [{"url": "x"}]},
    ],
)
def test_a_text_to_several_is_a_group_text(changes: dict[str, Any]) -> None:
    parsed = read(received(**changes))
    assert isinstance(parsed, InboundText)
    assert parsed.bot_number == BOT
    assert parsed.input.shape is Shape.GROUP


@pytest.mark.parametrize("cc", [[], None, MISSING, "x", {}])
def test_an_empty_cc_does_not_make_a_group(cc: object) -> None:
    if cc is MISSING:
        assert "cc" not in RECEIVED["data"]["payload"]
        assert input_of(RECEIVED).shape is Shape.PLAIN
    else:
        assert input_of(received(cc=cc)).shape is Shape.PLAIN


@pytest.mark.parametrize(
    "sender",
    [
        "12345",
        "TELNYX",
        "13125550001",
        "+12345",
        "+03125550001",
        "+1312555000112345",
        "+1 312 555 0001",
        PHONE + "\n",
        "+\u0661\u0663\u0661\u0662\u0665\u0665\u0665\u0660\u0660\u0660\u0661",
        "",
        "anonymous",
        None,
        13125550001,
        [PHONE],
    ],
)
def test_a_sender_that_is_not_a_phone_number_is_ignored(sender: object) -> None:
    assert read(received(sender=party(sender))) == Ignored("sender")


@pytest.mark.parametrize("sender", [PHONE, None, [], [party(PHONE)], {}, 7, MISSING])
def test_a_sender_of_another_shape_is_ignored(sender: object) -> None:
    assert read(received(sender=sender)) == Ignored("sender")


@pytest.mark.parametrize("number", [BOT, OTHER_BOT])
def test_a_text_from_a_number_of_ours_is_ignored(number: str) -> None:
    assert read(received(sender=party(number))) == Ignored("sender")


@pytest.mark.parametrize(
    "to",
    [
        [party("+13125550009")],
        [],
        None,
        MISSING,
        BOT,
        [BOT],
        party(BOT),
        [party(None)],
        [party([BOT])],
        [[party(BOT)]],
    ],
)
def test_a_text_to_a_number_that_is_not_ours_is_ignored(to: object) -> None:
    assert read(received(to=to)) == Ignored("recipient")


@pytest.mark.parametrize("number", [BOT, OTHER_BOT])
def test_a_text_to_any_number_of_ours_names_that_number(number: str) -> None:
    parsed = read(received(to=[party(number)]))
    assert isinstance(parsed, InboundText)
    assert parsed.bot_number == number


@pytest.mark.parametrize(
    ("keyword", "answered"),
    [
        ("STOP", AutoReply.STOP),
        ("START", AutoReply.START),
        ("HELP", AutoReply.OTHER),
        ("JOIN", AutoReply.OTHER),
        ("", None),
        (None, None),
        (7, None),
        (["STOP"], None),
    ],
)
def test_the_auto_reply_of_telnyx_is_parsed(keyword: object, answered: AutoReply | None) -> None:
    assert input_of(received(autoresponse_type=keyword)).auto_reply is answered


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("VER\x00IFY", "VERIFY"),
        ("\ud83d", ""),
        ("a\udc80b\ud800c", "abc"),
        ("\U0001f600 ok", "\U0001f600 ok"),
        ("\x00\x00", ""),
        ("line\nbreak\u200b", "line\nbreak\u200b"),
    ],
)
def test_characters_that_a_database_cannot_store_are_removed(text: str, stored: str) -> None:
    assert input_of(received(text=text)).text == stored


def test_surrogates_in_the_raw_bytes_are_removed() -> None:
    body = json.dumps(received(text="a?b"), ensure_ascii=False).encode()
    parsed = parse(body.replace(b"a?b", b"a\xed\xa0\x80b"), [BOT], ARRIVED)
    assert isinstance(parsed, InboundText)
    assert parsed.input.text == "ab"


def test_a_very_long_text_is_cut() -> None:
    text = input_of(received(text="x" * 50_000)).text
    assert text
    assert set(text) == {"x"}
    assert len(text) <= 1600


@pytest.mark.parametrize(
    "name",
    ["x" * 129, "", "two words", "line\n", "tab\t", "\u00e9", "nul\x00", "\ud800", None, 7, ["x"]],
)
def test_an_id_that_cannot_be_stored_is_ignored(name: object) -> None:
    report = copy.deepcopy(FINALIZED)
    report["data"]["id"] = name
    assert read(received(id=name)) == Ignored("message id")
    assert read(finalized(id=name)) == Ignored("report")
    assert read(report) == Ignored("report")


def test_an_id_of_128_characters_is_kept_whole() -> None:
    parsed = read(received(id="x" * 128))
    assert isinstance(parsed, InboundText)
    assert parsed.key == "message:" + "x" * 128


@pytest.mark.parametrize(
    ("status", "delivery"),
    [
        ("sent", DeliveryStatus.SENT),
        ("delivered", DeliveryStatus.DELIVERED),
        ("delivery_unconfirmed", DeliveryStatus.UNCONFIRMED),
        ("dlr_timeout", DeliveryStatus.UNCONFIRMED),
        ("sending_failed", DeliveryStatus.FAILED),
        ("delivery_failed", DeliveryStatus.FAILED),
        ("gw_timeout", DeliveryStatus.FAILED),
        ("expired", DeliveryStatus.FAILED),
    ],
)
def test_a_status_is_parsed(status: str, delivery: DeliveryStatus) -> None:
    parsed = read(finalized(to=[party("+13125550002", status=status)]))
    assert isinstance(parsed, DeliveryReport)
    assert parsed.status is delivery


@pytest.mark.parametrize("status", ["queued", "sending", "brand_new", "", None, 7, ["sent"], {}])
def test_a_status_that_is_not_final_is_ignored(status: object) -> None:
    assert read(finalized(to=[party("+13125550002", status=status)])) == Ignored("report")


@pytest.mark.parametrize("to", [[], None, MISSING, "x", [None], [[]]])
def test_a_report_without_a_status_is_ignored(to: object) -> None:
    assert read(finalized(to=to)) == Ignored("report")


@pytest.mark.parametrize(
    ("errors", "fault"),
    [
        ([{"code": "40300", "title": "Blocked"}], "40300"),
        ([{"code": "40001"}, {"code": "40300"}], "40001"),
        ([{"title": "no code"}, {"code": "40300"}], "40300"),
        ([], None),
        (None, None),
        (["40300"], None),
        ([{"code": None}], None),
        ([{"code": "two words"}], None),
        ([{"code": "9" * 100}], "9" * 64),
    ],
)
def test_a_report_names_the_fault(errors: object, fault: str | None) -> None:
    failed = [party("+13125550002", status="delivery_failed")]
    parsed = read(finalized(errors=errors, to=failed))
    assert isinstance(parsed, DeliveryReport)
    assert parsed.fault == fault


@pytest.mark.parametrize(
    "event_type", ["message.read", "call.initiated", "", "MESSAGE.RECEIVED", None, 7, [], {}]
)
def test_another_kind_of_event_is_ignored(event_type: object) -> None:
    event = copy.deepcopy(RECEIVED)
    event["data"]["event_type"] = event_type
    assert read(event) == Ignored("event type")


@pytest.mark.parametrize("payload", [None, [], "x", 7, {}])
def test_an_empty_payload_is_ignored(payload: object) -> None:
    event = copy.deepcopy(RECEIVED)
    event["data"]["payload"] = payload
    assert isinstance(read(event), Ignored)


@pytest.mark.parametrize("data", [None, [], [{}], "x", 7, True])
def test_data_that_is_not_an_object_is_a_body_error(data: object) -> None:
    with pytest.raises(BodyError):
        read({"data": data})


@pytest.mark.parametrize("body", [None, [], "data", 7, {}, {"Data": {}}, [{"data": {}}]])
def test_a_body_without_data_is_a_body_error(body: object) -> None:
    with pytest.raises(BodyError):
        read(body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b'{"data": {}',
        b'{"data": {}} more',
        b"data=x",
        b"\x00",
        b'{"data": {"event_type": "\xff"}}',
        b"\xef\xbb\xbf{}",
        b"[" * 60_000,
        b'{"data":' * 8_000,
        b'{"data": {"x": ' + b"9" * 5_000 + b"}}",
        b'{"data": {"x": -' + b"9" * 60_000 + b"}}",
    ],
    ids=range(13),
)
def test_invalid_json_is_a_body_error(body: bytes) -> None:
    with pytest.raises(BodyError):
        parse(body, [BOT], ARRIVED)


@pytest.mark.parametrize("number", [b"1e400", b"-0", b"1" * 4_000, b"NaN", b"-Infinity", b"1E-999"])
def test_odd_numbers_beside_the_text_change_nothing(number: bytes) -> None:
    body = json.dumps(RECEIVED).encode().replace(b'"parts": 1', b'"parts": ' + number)
    assert parse(body, [BOT], ARRIVED) == read(RECEIVED)


def test_deeply_nested_json_beside_the_text_changes_nothing() -> None:
    depth = 400
    body = json.dumps(RECEIVED).encode()
    deep = body.replace(b'"tags": []', b'"tags": ' + b"[" * depth + b"]" * depth)
    assert parse(deep, [BOT], ARRIVED) == read(RECEIVED)


@modest
@given(st.binary())
def test_random_bytes_raise_only_a_body_error(body: bytes) -> None:
    assert parsed_or_refused(body) is None or body.strip().startswith(b"{")


@modest
@given(json_values)
def test_any_json_raises_only_a_body_error(value: object) -> None:
    parsed_or_refused(json.dumps(value).encode())
    parsed_or_refused(json.dumps({"data": value}).encode())


def places(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    yield path
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from places(inner, (*path, name))
    if isinstance(value, list):
        for position, inner in enumerate(value):
            yield from places(inner, (*path, position))


def replaced(value: Any, path: tuple[str | int, ...], new: object) -> Any:
    if not path:
        return new
    copied = copy.copy(value)
    copied[path[0]] = replaced(copied[path[0]], path[1:], new)
    return copied


spots = st.sampled_from(
    [(body, path) for body in (RECEIVED, SENT, FINALIZED) for path in places(body)]
)


@settings(modest, max_examples=400)
@given(spots, json_values, spots, json_values)
def test_any_json_in_any_place_raises_only_a_body_error_and_results_can_be_stored(
    spot: tuple[Any, tuple[str | int, ...]],
    value: object,
    second: tuple[Any, tuple[str | int, ...]],
    second_value: object,
) -> None:
    body, path = spot
    event = replaced(body, path, value)
    parsed_or_refused(json.dumps(event).encode())
    _, second_path = second
    try:
        twice = replaced(event, second_path, second_value)
    except (KeyError, IndexError, TypeError):
        return
    parsed_or_refused(json.dumps(twice).encode())


def parsed_or_refused(body: bytes) -> WebhookEvent | None:
    try:
        event = parse(body, (BOT, OTHER_BOT), ARRIVED)
    except BodyError:
        return None
    match event:
        case InboundText():
            assert is_e164(event.phone)
            assert event.phone not in (BOT, OTHER_BOT)
            assert event.bot_number in (BOT, OTHER_BOT)
            assert_storable(event.key, 8 + 128)
            assert len(event.input.text) <= 1600
            assert "\x00" not in event.input.text
            event.input.text.encode()
        case DeliveryReport():
            assert_storable(event.key, 6 + 128)
            assert_storable(event.carrier_id, 128)
            assert_storable(event.fault or "-", 64)
    return event


def assert_storable(name: str, longest: int) -> None:
    assert name.isascii()
    assert name.isprintable()
    assert " " not in name
    assert 1 <= len(name) <= longest
