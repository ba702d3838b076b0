"""The API of a whole bot, on both databases."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import unquote

import pytest

from bot.simulator.sandbox import BOT_NUMBER, PHONE
from bot.store import api_keys
from bot.store.engine.errors import UnavailableError
from tests.kit.apps import App, app_with, make_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bot.simulator.sandbox import Sandbox
    from tests.conftest import MakeSandbox

OTHER_PHONE = "+13125550002"
TEST_NUMBER = "+15005550006"
CODE = re.compile(r"\b\d{6}\b")

on_sqlite = pytest.mark.parametrize("make_database", ["sqlite"], indirect=True)


@pytest.fixture
async def sandbox(make_sandbox: MakeSandbox) -> Sandbox:
    return await make_sandbox(test_numbers={TEST_NUMBER: "123456"})


@pytest.fixture
async def app(sandbox: Sandbox) -> AsyncIterator[App]:
    key = await make_key(sandbox.bot.database, sandbox.clock)
    async with app_with(sandbox.bot.url or "", key) as app:
        yield app


async def texts_to(sandbox: Sandbox, phone: str) -> list[str]:
    """Wait until nothing is pending, and return all texts to a phone."""
    await sandbox.quiet()
    return [
        request.body["text"] for request in sandbox.telnyx.requests if request.body["to"] == phone
    ]


async def code_sent(sandbox: Sandbox, phone: str = PHONE) -> str:
    found = CODE.search((await texts_to(sandbox, phone))[-1])
    assert found
    return found[0]


def other_than(code: str) -> str:
    return code[:-1] + str((int(code[-1]) + 1) % 10)


def path_of(begun: Any, what: str = "") -> str:
    return f"verifications/{begun['id']}{what}"


async def test_a_code_that_was_texted_is_typed_in_the_app(sandbox: Sandbox, app: App) -> None:
    begun = await app.begin(to=PHONE, reference="order-1138", metadata={"user": "u_17"})
    assert (begun["status"], begun["bot_number"], begun["test"]) == ("pending", BOT_NUMBER, False)
    code = await code_sent(sandbox)

    wrong = (await app.post(path_of(begun, "/check"), {"code": other_than(code)})).body
    assert (wrong["valid"], wrong["tries_left"]) == (False, 4)
    right = (await app.post(path_of(begun, "/check"), {"code": code})).body
    assert (right["valid"], right["verification"]["status"]) == (True, "verified")

    shown = (await app.get(path_of(begun))).body
    assert shown == right["verification"]
    assert shown["metadata"] == {"user": "u_17"}
    again = await app.post(path_of(begun, "/check"), {"code": code})
    assert (again.status, again.body["code"]) == (409, "not_pending")


async def test_a_reply_by_text_verifies_only_with_the_letters_of_the_request(
    sandbox: Sandbox, app: App
) -> None:
    begun = await app.begin(to=PHONE, complete="reply")
    code = await code_sent(sandbox)
    await sandbox.text(PHONE, code)
    assert (await app.get(path_of(begun))).body["status"] == "pending"
    await sandbox.text(PHONE, f"{code} {begun['reply_with']}")
    shown = (await app.get(path_of(begun))).body
    assert (shown["status"], shown["to"]) == ("verified", PHONE)


async def test_a_reply_by_text_verifies_nobody_unless_the_app_allows_it(
    sandbox: Sandbox, app: App
) -> None:
    begun = await app.begin(to=PHONE)
    assert "reply_with" not in begun
    (reply,) = await sandbox.text(PHONE, await code_sent(sandbox))
    assert "type it there" in reply.text
    assert (await app.get(path_of(begun))).body["status"] == "pending"


async def test_the_number_that_texts_the_reference_is_verified(sandbox: Sandbox, app: App) -> None:
    begun = await app.begin(metadata={"user": "u_17"})
    assert begun["to"] is None
    for what, body in (("check", {"code": "123456"}), ("resend", None)):
        answer = await app.post(path_of(begun, f"/{what}"), body)
        assert (answer.status, answer.body["code"]) == (409, "not_pending")
        assert answer.body["detail"] == "nobody has texted its reference yet"

    text = unquote(begun["sms_link"].partition("?body=")[2])
    assert text == f"VERIFY {begun['reference']}"
    await sandbox.text(PHONE, text)
    checked = (await app.post(path_of(begun, "/check"), {"code": await code_sent(sandbox)})).body
    assert checked["valid"] is True
    assert checked["verification"]["to"] == PHONE
    assert checked["verification"]["metadata"] == {"user": "u_17"}


async def test_a_request_sent_ten_times_at_once_sends_one_code(sandbox: Sandbox, app: App) -> None:
    answers = await asyncio.gather(
        *(app.post("verifications", {"to": PHONE}, once="order-1138") for _ in range(10))
    )
    assert {answer.status for answer in answers} == {201}
    assert len({answer.body["id"] for answer in answers}) == 1
    assert len(await texts_to(sandbox, PHONE)) == 1

    other = await app.post("verifications", {"to": OTHER_PHONE}, once="order-1138")
    assert (other.status, other.body["code"]) == (422, "key_reused")
    assert await texts_to(sandbox, OTHER_PHONE) == []


async def test_a_repeated_guess_is_counted_once(sandbox: Sandbox, app: App) -> None:
    begun = await app.begin(to=PHONE)
    wrong = {"code": other_than(await code_sent(sandbox))}
    for _ in range(7):
        answer = await app.post(path_of(begun, "/check"), wrong, once="guess-1")
        assert (answer.status, answer.body["valid"]) == (200, False)
    fresh = (await app.post(path_of(begun, "/check"), wrong, once="guess-2")).body
    assert fresh["tries_left"] == 3


async def test_of_fifty_wrong_guesses_at_once_only_the_allowed_ones_are_compared(
    sandbox: Sandbox, app: App
) -> None:
    begun = await app.begin(to=PHONE)
    wrong = other_than(await code_sent(sandbox))
    answers = await asyncio.gather(
        *(app.post(path_of(begun, "/check"), {"code": wrong}) for _ in range(50))
    )
    statuses = Counter(answer.status for answer in answers)
    assert set(statuses) <= {200, 409, 429}
    assert statuses[200] <= 5
    assert not any(answer.body["valid"] for answer in answers if answer.status == 200)
    assert (await app.get(path_of(begun))).body["status"] == "failed"


async def test_of_fifty_right_guesses_at_once_one_verifies(sandbox: Sandbox, app: App) -> None:
    begun = await app.begin(to=PHONE)
    code = await code_sent(sandbox)
    answers = await asyncio.gather(
        *(app.post(path_of(begun, "/check"), {"code": code}) for _ in range(50))
    )
    assert Counter(answer.status for answer in answers) == {200: 1, 409: 49}
    assert (await app.get(path_of(begun))).body["status"] == "verified"


async def test_a_list_is_read_page_by_page(app: App) -> None:
    begun = [(await app.begin(metadata={"n": n}))["id"] for n in range(5)]
    read, query = [], "limit=2"
    while query:
        page = (await app.get(f"verifications?{query}")).body
        read += [verification["id"] for verification in page["data"]]
        query = page["next_cursor"] and f"limit=2&cursor={page['next_cursor']}"
    assert read == begun[::-1]


async def test_a_list_can_be_of_one_number_reference_and_status(sandbox: Sandbox, app: App) -> None:
    first = await app.begin(to=PHONE, reference="a b")
    second = await app.begin(to=OTHER_PHONE, reference="a b")
    await app.post(path_of(second, "/cancel"))

    async def found(query: str) -> list[str]:
        page = (await app.get(f"verifications?{query}")).body
        return [verification["id"] for verification in page["data"]]

    assert await found("to=312-555-0001") == [first["id"]]
    assert await found("reference=a%20b") == [second["id"], first["id"]]
    assert await found("status=canceled") == [second["id"]]
    assert await found("status=pending&reference=a%20b") == [first["id"]]
    assert await found("reference=unknown") == []
    sandbox.clock.travel(timedelta(hours=1))
    assert await found("status=pending") == []
    assert await found("status=expired") == [first["id"]]


async def test_metadata_is_returned_unchanged_however_odd(app: App) -> None:
    metadata = {
        "": None,
        "\\u0000": "\\u0000",
        "numbers": [0, -1.5, 10**30, 1e300, True],
        "😀": {"é": "\x7f\u2028\ufffe"},
    }
    begun = await app.begin(to=PHONE, metadata=metadata)
    assert begun["metadata"] == metadata
    assert (await app.get(path_of(begun))).body["metadata"] == metadata


async def test_the_same_code_is_sent_again_but_not_too_soon(sandbox: Sandbox, app: App) -> None:
    begun = await app.begin(to=PHONE)
    code = await code_sent(sandbox)
    soon = await app.post(path_of(begun, "/resend"))
    assert (soon.status, soon.body["code"]) == (429, "too_soon")
    assert 1 <= int(soon.headers["Retry-After"]) <= 30
    sandbox.clock.travel(timedelta(seconds=int(soon.headers["Retry-After"])))
    again = await app.post(path_of(begun, "/resend"))
    assert again.status == 200
    assert len(await texts_to(sandbox, PHONE)) == 2
    assert await code_sent(sandbox) == code


async def test_a_number_that_opted_out_gets_no_text(sandbox: Sandbox, app: App) -> None:
    await sandbox.text(PHONE, "STOP")
    before = len(await texts_to(sandbox, PHONE))
    answer = await app.post("verifications", {"to": PHONE})
    assert (answer.status, answer.body["code"], answer.fields) == (422, "opted_out", ["to"])
    assert len(await texts_to(sandbox, PHONE)) == before


async def test_a_number_that_said_not_me_gets_no_code(sandbox: Sandbox, app: App) -> None:
    begun = await app.begin(to=PHONE)
    await sandbox.quiet()
    await sandbox.text(PHONE, "NOT ME")
    shown = (await app.get(path_of(begun))).body
    assert (shown["status"], shown["reason"]) == ("failed", "not_me")
    answer = await app.post("verifications", {"to": PHONE})
    assert (answer.status, answer.body["code"]) == (429, "not_me")
    assert int(answer.headers["Retry-After"]) > 60


async def test_codes_to_a_number_are_limited_and_retry_after_is_true(
    sandbox: Sandbox, app: App
) -> None:
    for _ in range(5):
        begun = await app.begin(to=PHONE)
        await app.post(path_of(begun, "/cancel"))
        sandbox.clock.travel(timedelta(minutes=1))
    answer = await app.post("verifications", {"to": PHONE})
    assert (answer.status, answer.body["code"]) == (429, "too_many_codes")
    sandbox.clock.travel(timedelta(seconds=int(answer.headers["Retry-After"])))
    assert (await app.post("verifications", {"to": PHONE})).status == 201


async def test_a_refused_request_can_be_repeated_with_the_same_idempotency_key(
    sandbox: Sandbox, app: App
) -> None:
    begun = await app.begin(to=PHONE)
    soon = await app.post(path_of(begun, "/resend"), once="again")
    assert soon.status == 429
    await sandbox.quiet()  # a text still on its way would outlive its lease by the travel
    sandbox.clock.travel(timedelta(seconds=int(soon.headers["Retry-After"])))
    again = [await app.post(path_of(begun, "/resend"), once="again") for _ in range(2)]
    assert [answer.status for answer in again] == [200, 200]
    assert len(await texts_to(sandbox, PHONE)) == 2


async def test_no_code_is_resent_to_a_number_that_opted_out(sandbox: Sandbox, app: App) -> None:
    begun = await app.begin(to=PHONE)
    await sandbox.quiet()
    await sandbox.text(PHONE, "STOP")
    shown = (await app.get(path_of(begun))).body
    assert (shown["status"], shown["reason"]) == ("failed", "opted_out")
    answer = await app.post(path_of(begun, "/resend"))
    assert (answer.status, answer.body["code"]) == (409, "not_pending")


async def test_a_test_number_has_a_fixed_code_and_gets_no_text(sandbox: Sandbox, app: App) -> None:
    begun = await app.begin(to=TEST_NUMBER)
    assert begun["test"] is True
    checked = (await app.post(path_of(begun, "/check"), {"code": "123456"})).body
    assert checked["valid"] is True
    await sandbox.quiet()
    assert sandbox.telnyx.requests == []


async def test_while_the_database_is_unavailable_requests_get_503_with_retry_after(
    sandbox: Sandbox, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def out_of_reach(*_: object, **__: object) -> NoReturn:
        raise UnavailableError("gone for the test")

    begun = await app.begin(to=PHONE)
    with monkeypatch.context() as outage:
        outage.setattr(sandbox.bot.database, "write", out_of_reach)
        for answer in (
            await app.post("verifications", {"to": OTHER_PHONE}),
            await app.post(path_of(begun, "/check"), {"code": "123456"}),
        ):
            assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
    with monkeypatch.context() as outage:
        outage.setattr(sandbox.bot.database, "read", out_of_reach)
        assert (await app.get(path_of(begun))).status == 503
    assert (await app.get(path_of(begun))).status == 200


async def test_a_revoked_key_is_refused(sandbox: Sandbox, app: App) -> None:
    begun = await app.begin(to=PHONE)
    assert app.key is not None
    await sandbox.bot.database.write(api_keys.revoke, app.key.split("_")[1], sandbox.clock.now())
    answer = await app.get(path_of(begun))
    assert (answer.status, answer.headers["WWW-Authenticate"]) == (
        401,
        'Bearer realm="textproof", error="invalid_token"',
    )


@on_sqlite
async def test_the_document_and_the_page_need_no_key(sandbox: Sandbox, app: App) -> None:
    for path, kind in (("/openapi.json", "application/json"), ("/docs", "text/html")):
        async with app.session.get(f"{sandbox.bot.url}{path}") as answer:
            assert (answer.status, answer.content_type) == (200, kind)
