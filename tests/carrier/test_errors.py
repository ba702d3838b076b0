from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.carrier.errors import (
    Limit,
    SendAccepted,
    SendHold,
    SendLater,
    SendNever,
    SendResult,
    advice,
    classify,
)

LATER = ["10007", "10011", "10037", "40006", "40008", "40318"]
HOLD = [
    *("10009", "10010", "40010", "40013", "40305", "40015", "40019", "40020"),
    *("40315", "40320", "40329", "40333"),
]
NEVER = [
    *("40001", "40003", "40012", "40310", "40300", "40301", "40302", "40309"),
    *("40312", "40314", "40316", "40317", "40322"),
]
STATUSES = [400, 401, 403, 404, 409, 422, 429, 500, 503]
HTML = "<html><body><h1>502 Bad Gateway</h1></body></html>"

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=50),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["errors", "code", "title"]), inner, max_size=3)
    ),
    max_leaves=8,
)


def error(code: object) -> dict[str, object]:
    return {"errors": [{"code": code, "title": "A title", "detail": "What went wrong"}]}


def outcome(
    status: int, body: object = None, *, retried: bool = False, retry_after: str | None = None
) -> SendResult:
    headers = {} if retry_after is None else {"retry-after": retry_after}
    return classify(status, body, headers, retried=retried)


@pytest.mark.parametrize("retried", [False, True])
@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize(
    ("codes", "kind"),
    [(LATER, SendLater), (HOLD, SendHold), (NEVER, SendNever)],
    ids=["later", "hold", "never"],
)
def test_telnyxs_own_code_decides_whatever_the_http_status(
    codes: list[str], kind: type[SendLater | SendHold | SendNever], status: int, *, retried: bool
) -> None:
    for code in codes:
        found = outcome(status, error(code), retried=retried)
        assert isinstance(found, kind)
        assert found.fault == code


@pytest.mark.parametrize("code", ["40300", 40300])
def test_a_code_may_be_a_number(code: object) -> None:
    assert outcome(400, error(code)) == SendNever("40300")


def test_only_the_first_error_decides() -> None:
    body = {"errors": [{"code": "40001"}, {"code": "10009"}]}
    assert outcome(400, body) == SendNever("40001")


@pytest.mark.parametrize("status", [500, 501, 502, 503, 504, 520, 599])
@pytest.mark.parametrize("body", [None, HTML, {}, error("99999")], ids=["none", "html", "{}", "?"])
def test_a_server_error_is_tried_again(status: int, body: object) -> None:
    assert isinstance(outcome(status, body), SendLater)


@pytest.mark.parametrize("status", [500, 502, 504])
def test_a_server_error_without_a_telnyx_code_leaves_the_text_in_doubt(
    status: int,
) -> None:
    assert outcome(status, HTML) == SendLater(f"HTTP {status}", in_doubt=True)
    assert outcome(status, error("10007")) == SendLater("10007")
    assert outcome(503, HTML) == SendLater("HTTP 503")


@pytest.mark.parametrize("status", [408, 409, 429])
def test_a_status_that_asks_for_another_try_gets_one(status: int) -> None:
    found = outcome(status, HTML)
    assert isinstance(found, SendLater)
    assert (found.fault, found.in_doubt) == (f"HTTP {status}", False)


@pytest.mark.parametrize("status", [401, 403, 404])
@pytest.mark.parametrize("body", [None, HTML], ids=["none", "html"])
def test_a_status_that_means_a_wrong_account_holds_everything(status: int, body: object) -> None:
    assert outcome(status, body) == SendHold(f"HTTP {status}")


def test_a_key_that_is_refused_holds_everything_whatever_the_code() -> None:
    assert outcome(401, error("99999")) == SendHold("99999")


@pytest.mark.parametrize("status", [401, 403, 404])
def test_an_account_fault_with_an_unknown_code_gives_up_no_text(status: int) -> None:
    assert not isinstance(outcome(status, error("99999")), SendNever)


@pytest.mark.parametrize("status", [400, 402, 405, 413, 415])
def test_any_other_refusal_is_final(status: int) -> None:
    assert outcome(status, HTML) == SendNever(f"HTTP {status}")
    assert outcome(status, error("49999")) == SendNever("49999")


@pytest.mark.parametrize("body", [None, HTML, error("10015")], ids=["none", "html", "json"])
def test_a_reused_key_on_a_retry_means_that_an_earlier_try_was_accepted(body: object) -> None:
    assert outcome(422, body, retried=True) == SendAccepted(None)


@pytest.mark.parametrize("body", [None, HTML, error("10015")], ids=["none", "html", "json"])
def test_a_422_on_the_first_try_is_never_taken_for_accepted(body: object) -> None:
    assert isinstance(outcome(422, body), SendNever)


def test_a_422_on_a_retry_that_names_the_recipient_is_no_acceptance() -> None:
    assert outcome(422, error("40310"), retried=True) == SendNever("40310")


@pytest.mark.parametrize(
    ("status", "code", "limit"),
    [
        (429, None, Limit.ACCOUNT),
        (429, "99999", Limit.ACCOUNT),
        (400, "10011", Limit.ACCOUNT),
        (429, "40318", Limit.NUMBER),
        (400, "40318", Limit.NUMBER),
        (503, None, None),
        (500, "10007", None),
    ],
)
def test_the_exceeded_limit_is_named(status: int, code: str | None, limit: Limit | None) -> None:
    found = outcome(status, error(code) if code else None)
    assert isinstance(found, SendLater)
    assert found.limit is limit


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("1", 1.0),
        ("17", 17.0),
        ("0.5", 0.5),
        (" 5 ", 5.0),
        ("86400", 300.0),
        ("1e300", 300.0),
        ("inf", 300.0),
        ("0", None),
        ("-5", None),
        ("nan", None),
        ("", None),
        ("soon", None),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None),
        ("9" * 5000, 300.0),
        (None, None),
    ],
)
def test_retry_after_is_honoured_within_reason(header: str | None, seconds: float | None) -> None:
    limited = SendLater("10011", seconds, limit=Limit.ACCOUNT)
    assert outcome(429, error("10011"), retry_after=header) == limited
    assert outcome(503, HTML, retry_after=header) == SendLater("HTTP 503", seconds)


@pytest.mark.parametrize(
    "body",
    [
        HTML,
        None,
        [],
        {"errors": None},
        {"errors": []},
        {"errors": {}},
        {"errors": "40300"},
        {"errors": ["40300"]},
        {"errors": [None]},
        {"errors": [{}]},
        {"errors": [{"code": None}]},
        {"errors": [{"code": ["40300"]}]},
        {"errors": [[{"code": "40300"}]]},
        {"error": {"code": "40300"}},
        b"40300",
    ],
)
def test_a_body_without_a_code_is_named_by_its_status(body: object) -> None:
    assert outcome(400, body) == SendNever("HTTP 400")
    assert outcome(500, body) == SendLater("HTTP 500", in_doubt=True)
    assert outcome(401, body) == SendHold("HTTP 401")


def test_a_code_of_absurd_length_is_cut_so_that_it_can_be_stored() -> None:
    found = outcome(400, error("9" * 5000))
    assert isinstance(found, SendNever)
    assert 0 < len(found.fault) <= 64


@settings(deadline=None)
@given(st.integers(400, 599), json_values, st.text(max_size=20), st.booleans())
def test_any_body_has_an_outcome(
    status: int,
    body: object,
    retry_after: str,
    retried: bool,  # noqa: FBT001 - drawn by hypothesis
) -> None:
    found = outcome(status, body, retried=retried, retry_after=retry_after)

    if isinstance(found, SendAccepted):
        assert status == 422
        assert retried
    else:
        assert 0 < len(found.fault) <= 64
    if isinstance(found, SendLater) and found.retry_after is not None:
        assert 0 < found.retry_after <= 300


@pytest.mark.parametrize("fault", [*HOLD, *LATER, *NEVER, "HTTP 401", "HTTP 502", "99999", ""])
def test_every_fault_comes_with_advice(fault: str) -> None:
    assert advice(fault)


@pytest.mark.parametrize(
    ("fault", "variable"),
    [
        ("10009", "TELNYX_API_KEY"),
        ("10010", "TELNYX_API_KEY"),
        ("40013", "FROM_NUMBER"),
        ("40305", "FROM_NUMBER"),
    ],
)
def test_the_advice_names_the_variable_to_check(fault: str, variable: str) -> None:
    assert variable in advice(fault)
