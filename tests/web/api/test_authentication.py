from __future__ import annotations

import asyncio
from datetime import timedelta
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any, NoReturn
from unittest.mock import Mock

import pytest
from aiohttp.test_utils import make_mocked_request

from bot.conversation.verification import RequestOutcome
from bot.simulator.clock import NOON, StoppedClock
from bot.store import api_keys
from bot.store.api_keys import Scope
from bot.store.engine.errors import UnavailableError
from bot.web.api.authentication import Authentication, KeyRateLimits
from bot.web.api.problems import ProblemError
from bot.web.http.lookup_gate import LookupGate
from bot.web.http.refusals import Refusals
from tests.kit.apps import make_key
from tests.kit.loop_time import advance
from tests.kit.timeouts import TEST_TIMEOUT, wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bot.store.engine.database import Database

SECRET = "a" * 64


@pytest.fixture
def clock() -> StoppedClock:
    return StoppedClock()


@pytest.fixture
def authentication(database: Database, clock: StoppedClock) -> Authentication:
    return Authentication(database, clock, LookupGate(TEST_TIMEOUT), Refusals(0.0))


def bearer(key: str) -> Mapping[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def authenticate(
    authentication: Authentication, headers: Mapping[str, str], scope: Scope = Scope.READ
) -> ProblemError | str:
    """Return the name of the key that was accepted, or the problem."""
    transport = Mock()
    transport.get_extra_info.return_value = ("127.0.0.1", 1)
    request = make_mocked_request("GET", "/v1/verifications", headers=headers, transport=transport)
    try:
        return (await authentication.authenticate(request, scope)).public_id
    except ProblemError as problem:
        return problem


async def refused(
    authentication: Authentication, headers: Mapping[str, str], scope: Scope = Scope.READ
) -> ProblemError:
    problem = await authenticate(authentication, headers, scope)
    assert isinstance(problem, ProblemError)
    return problem


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER   "])
async def test_a_valid_key_is_accepted(
    scheme: str, authentication: Authentication, database: Database, clock: StoppedClock
) -> None:
    key = await make_key(database, clock)
    assert await authenticate(authentication, {"Authorization": scheme + key}) == key.split("_")[1]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer tp_"},
        {"Authorization": f"Basic tp_{'0' * 12}_{SECRET}"},
        {"Authorization": f"Bearer tp_{'0' * 12}_{SECRET} more"},
        {"Authorization": f"Bearer tp_{'0' * 12}_{'é' * 64}"},
        {"X-Api-Key": f"tp_{'0' * 12}_{SECRET}"},
    ],
)
async def test_without_a_key_the_problem_says_how_to_send_one(
    headers: Mapping[str, str], authentication: Authentication
) -> None:
    problem = await refused(authentication, headers)
    assert problem.view.status == 401
    assert problem.headers == {"WWW-Authenticate": 'Bearer realm="textproof"'}


async def test_an_unknown_name_a_wrong_secret_and_a_revoked_key_get_the_same_answer(
    authentication: Authentication, database: Database, clock: StoppedClock
) -> None:
    key, revoked = await make_key(database, clock), await make_key(database, clock)
    await database.write(api_keys.revoke, revoked.split("_")[1], clock.now())
    wrong = f"tp_{key.split('_')[1]}_{SECRET}"
    answers = [
        await refused(authentication, {"Authorization": f"Bearer {each}"})
        for each in (f"tp_{'0' * 12}_{SECRET}", wrong, revoked)
    ]
    assert len({(each.view.model_dump_json(), str(each.headers)) for each in answers}) == 1
    assert answers[0].view.status == 401
    assert answers[0].headers["WWW-Authenticate"] == (
        'Bearer realm="textproof", error="invalid_token"'
    )
    assert SECRET not in answers[0].view.model_dump_json()


async def test_a_revoked_key_is_refused_at_once(
    authentication: Authentication, database: Database, clock: StoppedClock
) -> None:
    key = await make_key(database, clock)
    headers = {"Authorization": f"Bearer {key}"}
    assert await authenticate(authentication, headers) == key.split("_")[1]
    await database.write(api_keys.revoke, key.split("_")[1], clock.now())
    assert (await refused(authentication, headers)).view.status == 401


async def test_a_missing_scope_is_named(
    authentication: Authentication, database: Database, clock: StoppedClock
) -> None:
    key = await make_key(database, clock, [Scope.READ])
    headers = {"Authorization": f"Bearer {key}"}
    assert await authenticate(authentication, headers, Scope.READ) == key.split("_")[1]
    problem = await refused(authentication, headers, Scope.WRITE)
    assert problem.view.status == 403
    assert "verifications:write" in problem.view.detail
    assert 'scope="verifications:write"' in problem.headers["WWW-Authenticate"]


async def test_after_too_many_requests_the_answer_says_when_the_next_is_allowed(
    authentication: Authentication, database: Database, clock: StoppedClock
) -> None:
    busy = {"Authorization": f"Bearer {await make_key(database, clock, per_minute=60)}"}
    idle = {"Authorization": f"Bearer {await make_key(database, clock, per_minute=60)}"}
    for _ in range(10):
        assert isinstance(await authenticate(authentication, busy), str)
    problem = await refused(authentication, busy)
    assert (problem.view.status, problem.view.code) == (429, RequestOutcome.TOO_MANY_REQUESTS)
    assert problem.headers == {"Retry-After": "1"}
    assert isinstance(await authenticate(authentication, idle), str)
    clock.travel(timedelta(seconds=1))
    assert isinstance(await authenticate(authentication, busy), str)
    assert isinstance(await authenticate(authentication, busy), ProblemError)


async def test_a_made_up_key_is_refused_without_a_lookup(
    authentication: Authentication,
    database: Database,
    clock: StoppedClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    key = await make_key(database, clock)
    assert isinstance(await authenticate(authentication, bearer(key)), str)

    read = database.read

    async def read_no_row(work: Any, *args: Any) -> Any:
        assert work is not api_keys.find
        return await read(work, *args)

    monkeypatch.setattr(database, "read", read_no_row)
    for made_up in (f"tp_{'0' * 12}_{SECRET}", f"tp_{key.split('_')[1]}_{SECRET}"):
        answers = [await authenticate(authentication, bearer(made_up)) for _ in range(20)]
        assert {isinstance(each, ProblemError) and each.view.status for each in answers} == {401}


@pytest.mark.parametrize("headers", [{}, {"Authorization": f"Bearer tp_{'0' * 12}_{SECRET}"}])
async def test_a_refusal_leaves_after_a_delay(
    headers: Mapping[str, str], database: Database, clock: StoppedClock
) -> None:
    refusals = Refusals(TEST_TIMEOUT, jitter=0.0)
    authentication = Authentication(database, clock, LookupGate(TEST_TIMEOUT), refusals)
    refused = asyncio.create_task(authenticate(authentication, headers))
    await wait_until(lambda: refusals.waiting == 1)
    assert not refused.done()
    advance(TEST_TIMEOUT)
    problem = await refused
    assert isinstance(problem, ProblemError)
    assert problem.view.status == 401


async def test_a_key_created_a_moment_ago_is_accepted_after_the_delay(
    database: Database, clock: StoppedClock
) -> None:
    refusals = Refusals(TEST_TIMEOUT, jitter=0.0)
    authentication = Authentication(database, clock, LookupGate(TEST_TIMEOUT), refusals)
    first = await make_key(database, clock)
    assert isinstance(await authenticate(authentication, bearer(first)), str)
    key = await make_key(database, clock)
    asking = asyncio.create_task(authenticate(authentication, bearer(key)))
    await wait_until(lambda: refusals.waiting == 1)
    advance(TEST_TIMEOUT)
    assert await asking == key.split("_")[1]


async def test_a_revoked_key_is_looked_up_once(
    authentication: Authentication,
    database: Database,
    clock: StoppedClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    key, read, read_rows = await make_key(database, clock), database.read, 0

    async def counted(work: Any, *args: Any) -> Any:
        nonlocal read_rows
        read_rows += work is api_keys.find
        return await read(work, *args)

    assert isinstance(await authenticate(authentication, bearer(key)), str)
    await database.write(api_keys.revoke, key.split("_")[1], clock.now())
    monkeypatch.setattr(database, "read", counted)
    for _ in range(3):
        assert (await refused(authentication, bearer(key))).view.status == 401
    assert read_rows == 1


async def test_while_the_keys_cannot_be_read_no_key_is_called_invalid(
    authentication: Authentication,
    database: Database,
    clock: StoppedClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    key = await make_key(database, clock)

    async def out_of_reach(*_: object) -> NoReturn:
        raise UnavailableError("gone for the test")

    with monkeypatch.context() as outage:
        outage.setattr(database, "read", out_of_reach)
        with pytest.raises(UnavailableError):
            await authenticate(authentication, bearer(key))
    assert isinstance(await authenticate(authentication, bearer(key)), str)


async def test_the_apps_of_one_network_cannot_keep_those_of_another_waiting(
    database: Database, clock: StoppedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxies = [ip_network("127.0.0.0/8")]
    gate, refusals = LookupGate(TEST_TIMEOUT), Refusals(0.0)
    authentication = Authentication(database, clock, gate, refusals, proxies)
    headers = bearer(await make_key(database, clock))
    assert isinstance(await authenticate(authentication, headers), str)
    read, reading, slow = database.read, 0, asyncio.Event()

    async def slow_read(*work: Any) -> Any:
        nonlocal reading
        reading += 1
        await slow.wait()
        return await read(*work)

    def ask(client: str) -> asyncio.Task[ProblemError | str]:
        sent = {**headers, "X-Forwarded-For": client}
        return asyncio.create_task(authenticate(authentication, sent))

    monkeypatch.setattr(database, "read", slow_read)
    of_one = [ask(f"2001:db8::{number}") for number in range(6)]
    await wait_until(lambda: reading == 4)
    of_another = ask("2001:db8:0:1::1")
    await wait_until(lambda: reading == 5)
    advance(TEST_TIMEOUT)
    await wait_until(lambda: sum(task.done() for task in of_one) == 2)
    slow.set()
    answers = await asyncio.gather(*of_one, of_another)
    problems = [answer for answer in answers if isinstance(answer, ProblemError)]
    assert {(problem.view.status, problem.view.code) for problem in problems} == {
        (429, RequestOutcome.TOO_MANY_REQUESTS)
    }
    assert [problem.headers for problem in problems] == [{"Retry-After": "1"}] * 2
    assert isinstance(answers[-1], str)


@pytest.mark.parametrize(("per_minute", "burst"), [(1, 5), (29, 5), (36, 6), (600, 100)])
def test_a_bucket_holds_a_few_and_fills_in_a_minute(per_minute: int, burst: int) -> None:
    rates, second = KeyRateLimits(), timedelta(minutes=1) / per_minute
    assert [rates.take("a", per_minute, NOON) for _ in range(burst)] == [None] * burst
    free_at = rates.take("a", per_minute, NOON)
    assert free_at is not None
    assert abs(free_at - (NOON + second)) < timedelta(milliseconds=1)
    assert rates.take("a", per_minute, free_at + timedelta(milliseconds=1)) is None
    much_later = NOON + timedelta(days=1)
    taken = [rates.take("a", per_minute, much_later) for _ in range(burst + 1)]
    assert taken.count(None) == burst


def test_the_key_idle_for_longest_is_forgotten() -> None:
    rates = KeyRateLimits(max_keys=2)
    for name in (*"aaaaa", *"bbbbb", "a", "c"):
        rates.take(name, 1, NOON)
    assert rates.take("a", 1, NOON) is not None
    assert rates.take("b", 1, NOON) is None
