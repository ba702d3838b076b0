"""The limits of the web form: its budget, its networks, its sessions; and attacks on them."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

import pytest
from sqlalchemy import func, select

from bot.conversation.state import PhoneLimits
from bot.conversation.verification import Origin, Reason, RequestOutcome, Status
from bot.services.intake.form_gate import (
    FORM_WAIT,
    MAX_REQUESTS_PER_HOUR,
    MAX_WRONG_GUESSES_OF_NETWORK,
    MAX_WRONG_GUESSES_OF_SESSION,
    FormLevel,
    FormRefusal,
    codes_after_waits,
    codes_of_network,
)
from bot.services.status import overview
from bot.services.verifications import VerificationRequest
from bot.simulator.sandbox import PHONE
from bot.simulator.telnyx.faults import ApiFault
from bot.store import alerts, phone_limits
from bot.store.queues import outbox
from bot.store.tables import (
    ConversationRow,
    FormAttemptRow,
    IdempotencyKeyRow,
    PhoneLimitsRow,
    VerificationRow,
)
from tests.kit.form_visits import begin_at_form, proven, visit, waiting
from tests.kit.stored import other_than

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from sqlalchemy import Connection

    from bot.services.intake.app_requests import RequestResult
    from bot.services.intake.form_gate import FormVisit
    from bot.services.verifications import Verifications
    from bot.simulator.sandbox import Sandbox
    from tests.conftest import MakeSandbox

TEST_NUMBER, TEST_CODE = "+15005550006", "424242"


class Start(Protocol):
    async def __call__(self, budget: int = 500, **more: Any) -> tuple[Sandbox, Verifications]: ...


@pytest.fixture
def start(make_sandbox: MakeSandbox) -> Start:
    async def start(budget: int = 500, **more: Any) -> tuple[Sandbox, Verifications]:
        sandbox = await make_sandbox(web_codes_per_day=budget, **more)
        apps = sandbox.bot.verifications
        assert apps is not None
        return sandbox, apps

    return start


def phone_number(number: int) -> str:
    return f"+1312555{number:04}"


async def fill(apps: Verifications, codes: int, first: int = 1000) -> None:
    """Use up some codes of the budget, each from a network of its own."""
    for each in range(codes):
        begun = await begin_at_form(apps, phone_number(first + each), proven(f"filler {each}"))
        assert begun.outcome is RequestOutcome.DONE


async def used(sandbox: Sandbox) -> int:
    since = sandbox.clock.now() - timedelta(days=1)
    return await sandbox.bot.database.read(outbox.count_form_codes, since)


async def code_on(sandbox: Sandbox, phone: str) -> str:
    await sandbox.quiet()
    texts = [text.text for text in sandbox.telnyx.texts if text.phone == phone]
    codes: list[str] = re.findall(r"\b\d{6}\b", texts[-1])
    return codes[0]


async def verified_before(sandbox: Sandbox, phone: str) -> None:
    await sandbox.text(phone, "VERIFY")
    await sandbox.text(phone, await code_on(sandbox, phone))


# The budget.


@pytest.mark.parametrize(
    ("codes", "budget", "level"),
    [
        *((0, 500, 0), (399, 500, 0), (400, 500, 1), (499, 500, 1), (500, 500, 2), (501, 500, 2)),
        *((0, 1, 0), (1, 1, 2), (2, 3, 0), (3, 3, 2), (4, 5, 1), (0, 0, 2)),
    ],
)
def test_the_level_rises_at_80_and_at_100_percent(codes: int, budget: int, level: int) -> None:
    assert FormLevel.of(codes, budget) == level


@pytest.mark.parametrize(
    ("budget", "of_network", "after_waits"),
    [(500, 50, 20), (100, 10, 4), (29, 3, 1), (10, 3, 1), (2, 2, 1), (1, 1, 1), (0, 0, 1)],
)
def test_a_network_has_a_tenth_and_waits_have_a_fifth_of_the_last_fifth(
    budget: int, of_network: int, after_waits: int
) -> None:
    assert (codes_of_network(budget), codes_after_waits(budget)) == (of_network, after_waits)


async def test_a_code_counts_when_it_is_queued_and_when_it_is_sent_again(start: Start) -> None:
    sandbox, apps = await start()
    begun = await begin_at_form(apps, PHONE, visit())
    assert await used(sandbox) == 1
    await sandbox.quiet()
    await sandbox.travel(PHONE, timedelta(seconds=31))
    assert begun.verification
    await apps.resend(begun.verification.id, visit=visit())
    await sandbox.quiet()
    assert await used(sandbox) == 2
    await sandbox.travel(PHONE, timedelta(days=1))
    assert await used(sandbox) == 0


async def test_codes_that_apps_and_people_request_do_not_count(start: Start) -> None:
    sandbox, apps = await start()
    await apps.begin(VerificationRequest(Origin.APP, PHONE))
    await sandbox.text(phone_number(2), "VERIFY")
    assert await used(sandbox) == 0


async def test_a_number_that_gets_no_code_costs_nothing(start: Start) -> None:
    sandbox, apps = await start(test_numbers={TEST_NUMBER: TEST_CODE})
    await sandbox.text(PHONE, "STOP")
    opted_out = await begin_at_form(apps, PHONE, visit())
    assert opted_out.outcome is RequestOutcome.OPTED_OUT
    assert (await begin_at_form(apps, TEST_NUMBER, visit())).outcome is RequestOutcome.DONE
    assert await used(sandbox) == 0


@pytest.mark.parametrize("fault", ["40310", "40300"])
async def test_a_code_that_is_refused_before_it_is_sent_is_given_back(
    start: Start, fault: str
) -> None:
    sandbox, apps = await start()
    sandbox.telnyx.arm(ApiFault.error(400, fault))
    await begin_at_form(apps, PHONE, visit())
    await sandbox.quiet()
    assert await used(sandbox) == 0


async def test_a_code_that_is_cancelled_in_the_queue_is_given_back(start: Start) -> None:
    sandbox, apps = await start()
    sandbox.arm("429")
    await begin_at_form(apps, PHONE, visit())
    assert await used(sandbox) == 1
    await sandbox.text(PHONE, "STOP")
    await sandbox.quiet()
    assert await used(sandbox) == 0


async def test_a_code_that_expires_in_the_queue_is_given_back(start: Start) -> None:
    sandbox, apps = await start()
    sandbox.arm("429")
    await begin_at_form(apps, PHONE, visit())
    await sandbox.travel(PHONE, timedelta(minutes=11))
    await sandbox.quiet()
    assert await used(sandbox) == 0


@pytest.mark.parametrize("fault", ["failed", "drop"])
async def test_a_code_that_may_have_been_sent_is_not_given_back(start: Start, fault: str) -> None:
    sandbox, apps = await start()
    sandbox.arm(fault)
    await begin_at_form(apps, PHONE, visit())
    await sandbox.quiet()
    await sandbox.travel(PHONE, timedelta(minutes=11))
    await sandbox.quiet()
    assert await used(sandbox) == 1


async def test_a_refused_request_stores_nothing(start: Start) -> None:
    sandbox, apps = await start(budget=0)
    refused = await begin_at_form(apps, PHONE, proven())
    assert refused.form.refusal is FormRefusal.TOO_MANY_REQUESTS

    def rows(connection: Connection) -> list[int | None]:
        tables = (
            PhoneLimitsRow,
            ConversationRow,
            VerificationRow,
            IdempotencyKeyRow,
            FormAttemptRow,
        )
        return [connection.scalar(select(func.count()).select_from(each)) for each in tables]

    assert await sandbox.bot.database.read(rows) == [0] * 5


async def test_each_level_raises_one_alert_when_it_is_reached(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    raised: list[str] = []
    save = alerts.save

    def record(connection: Connection, alert: alerts.Alert, now: datetime) -> None:
        raised.append(f"{each}: {alert.message.partition(':')[0]}")
        save(connection, alert, now)

    monkeypatch.setattr(alerts, "save", record)
    _, apps = await start(budget=5)
    for each in range(7):
        await begin_at_form(apps, phone_number(each), proven(f"n{each}"))
    assert raised == [
        "3: the web form has sent 80 % of WEB_CODES_PER_DAY",
        "4: the web form has sent all of WEB_CODES_PER_DAY",
    ]


async def test_bot_status_shows_how_much_of_the_budget_is_used(start: Start) -> None:
    sandbox, apps = await start(budget=5)
    shown: list[str] = []
    for number in range(6):
        if number in (0, 4, 5):
            report = await sandbox.bot.database.read(overview, sandbox.clock.now(), 5)
            shown += [line for line in report.splitlines() if line.startswith("codes of the")]
        await begin_at_form(apps, phone_number(number), proven(f"network {number}"))
    assert [line.removeprefix("codes of the web form in the last day: ") for line in shown] == [
        "0 of 5, 0 %",
        "4 of 5, 80 %: everybody does a proof of work first",
        "5 of 5, 100 %: only numbers that were verified before get one",
    ]
    assert "codes of the" not in await sandbox.bot.database.read(overview, sandbox.clock.now())


async def test_at_100_percent_the_length_of_a_code_does_not_show_who_was_verified(
    start: Start,
) -> None:
    sandbox, apps = await start(budget=1)
    await begin_at_form(apps, phone_number(1), proven("other"))
    grown = PhoneLimits(wrong_times=(sandbox.clock.now(),) * 8)
    await sandbox.bot.database.write(phone_limits.save, {PHONE: grown})
    begun = await begin_at_form(apps, PHONE, proven())

    assert begun.verification is not None
    assert begun.verification.code_length == 8


# Networks.


async def test_a_network_has_ten_requests_an_hour_and_says_when_it_has_more(start: Start) -> None:
    sandbox, apps = await start()
    begun_at = sandbox.clock.now()
    for each in range(MAX_REQUESTS_PER_HOUR):
        begun = await begin_at_form(apps, phone_number(each), visit())
        assert begun.outcome is RequestOutcome.DONE
    refused = await begin_at_form(apps, PHONE, visit())
    assert refused.form.refusal is FormRefusal.TOO_MANY_REQUESTS
    assert refused.form.retry_at == begun_at + timedelta(hours=1)
    assert (await begin_at_form(apps, PHONE, visit("other"))).outcome is RequestOutcome.DONE
    await sandbox.travel(PHONE, timedelta(hours=1))
    assert (await begin_at_form(apps, PHONE, visit())).outcome is RequestOutcome.DONE


async def test_one_wide_network_takes_a_tenth_however_many_addresses_it_has(start: Start) -> None:
    sandbox, apps = await start(budget=100)
    begun_at = sandbox.clock.now()
    results = [
        await begin_at_form(apps, phone_number(each), visit(f"/64 {each}", wide="/48"))
        for each in range(11)
    ]
    assert [each.outcome for each in results[:10]] == [RequestOutcome.DONE] * 10
    assert results[10].form.refusal is FormRefusal.TOO_MANY_REQUESTS
    assert results[10].form.retry_at == begun_at + timedelta(days=1)
    assert await used(sandbox) == 10


async def test_requests_without_a_text_count_for_their_network_too(start: Start) -> None:
    """Otherwise the refusal of the next request would reveal the state of a number."""
    sandbox, apps = await start(budget=10)
    await sandbox.text(PHONE, "STOP")
    for _ in range(3):
        await begin_at_form(apps, PHONE, visit())
    refused = await begin_at_form(apps, phone_number(2), visit())
    assert refused.form.refusal is FormRefusal.TOO_MANY_REQUESTS


async def test_sending_again_counts_for_the_network(start: Start) -> None:
    sandbox, apps = await start(budget=10)
    begun = await begin_at_form(apps, PHONE, visit())
    assert begun.verification
    again = [await apps.resend(begun.verification.id, visit=visit()) for _ in range(3)]
    assert [each.form.refusal for each in again] == [None, None, FormRefusal.TOO_MANY_REQUESTS]
    await sandbox.quiet()


# From 80 % on.


async def test_from_80_percent_on_a_proof_is_needed_once_for_each_request(start: Start) -> None:
    _, apps = await start(budget=20)
    await fill(apps, 16)
    asked = await begin_at_form(apps, PHONE, visit())
    assert asked.form.refusal is FormRefusal.NEEDS_PROOF
    with_proof = proven()
    assert (await begin_at_form(apps, PHONE, with_proof)).outcome is RequestOutcome.DONE
    again = await begin_at_form(apps, phone_number(2), with_proof)
    assert again.form.refusal is FormRefusal.NEEDS_PROOF


async def test_sending_again_needs_a_proof_too(start: Start) -> None:
    sandbox, apps = await start(budget=20)
    begun = await begin_at_form(apps, PHONE, visit())
    await sandbox.travel(PHONE, timedelta(seconds=31))
    await fill(apps, 15)
    assert begun.verification
    asked = await apps.resend(begun.verification.id, visit=visit())
    assert asked.form.refusal is FormRefusal.NEEDS_PROOF
    sent = await apps.resend(begun.verification.id, visit=proven())
    assert sent.outcome is RequestOutcome.DONE


async def test_below_80_percent_a_proof_is_not_used_up(start: Start) -> None:
    _, apps = await start(budget=20)
    with_proof = proven()
    await begin_at_form(apps, phone_number(2), with_proof)
    await fill(apps, 15)
    assert (await begin_at_form(apps, PHONE, with_proof)).outcome is RequestOutcome.DONE


async def test_without_a_proof_a_code_can_be_requested_after_a_wait(start: Start) -> None:
    sandbox, apps = await start(budget=50)
    await fill(apps, 40)
    begun_at = sandbox.clock.now()
    first = await begin_at_form(apps, PHONE, waiting())
    assert (first.form.refusal, first.form.retry_at) == (
        FormRefusal.MUST_WAIT,
        begun_at + FORM_WAIT,
    )
    sandbox.move_clock(FORM_WAIT - timedelta(seconds=1))
    assert (await begin_at_form(apps, PHONE, waiting())).form.refusal is FormRefusal.MUST_WAIT
    sandbox.move_clock(timedelta(seconds=1))
    assert (await begin_at_form(apps, PHONE, waiting())).outcome is RequestOutcome.DONE
    again = await begin_at_form(apps, phone_number(2), waiting())
    assert again.form.refusal is FormRefusal.MUST_WAIT


async def test_one_person_of_a_network_waits_at_a_time(start: Start) -> None:
    sandbox, apps = await start(budget=50)
    await fill(apps, 40)
    begun_at = sandbox.clock.now()
    await begin_at_form(apps, PHONE, waiting(session="one"))
    other = await begin_at_form(apps, PHONE, waiting(session="other"))
    assert other.form.refusal is FormRefusal.NETWORK_IS_WAITING
    assert other.form.retry_at == begun_at + FORM_WAIT + timedelta(minutes=2)
    elsewhere = await begin_at_form(apps, PHONE, waiting("elsewhere", session="other"))
    assert elsewhere.form.refusal is FormRefusal.MUST_WAIT
    sandbox.move_clock(FORM_WAIT + timedelta(minutes=2))
    late = await begin_at_form(apps, PHONE, waiting(session="other"))
    assert late.form.refusal is FormRefusal.MUST_WAIT


async def test_waits_take_a_fifth_of_what_is_left_at_80_percent(start: Start) -> None:
    sandbox, apps = await start(budget=50)
    await fill(apps, 40)
    for network in ("a", "b", "c"):
        await begin_at_form(apps, PHONE, waiting(network))
    sandbox.move_clock(FORM_WAIT)
    results = [
        await begin_at_form(apps, phone_number(each), waiting(network))
        for each, network in enumerate("abc")
    ]
    assert [each.form.refusal for each in results] == [None, None, FormRefusal.NO_WAITS_LEFT]


# At 100 %.


async def test_at_100_percent_only_numbers_verified_before_are_texted(start: Start) -> None:
    sandbox, apps = await start(budget=5)
    await verified_before(sandbox, PHONE)
    await fill(apps, 5)
    sent = len(sandbox.telnyx.texts)
    known = await begin_at_form(apps, PHONE, proven())
    unknown = await begin_at_form(apps, phone_number(2), proven(), session="other")
    assert (known.outcome, unknown.outcome) == (RequestOutcome.DONE, RequestOutcome.TOO_MANY_CODES)
    # What the form shows is the same.
    assert known.form.refusal is unknown.form.refusal is None
    assert known.form.level is unknown.form.level is FormLevel.CLOSED
    await sandbox.quiet()
    new = [text.phone for text in sandbox.telnyx.texts[sent:]]
    assert set(new) <= {PHONE, *(phone_number(1000 + each) for each in range(5))}
    assert PHONE in new
    stored = await apps.of_session("other")
    assert stored
    assert (stored.status, stored.reason) == (Status.FAILED, Reason.TOO_MANY_CODES)


async def test_at_100_percent_a_code_is_sent_again_only_to_numbers_verified_before(
    start: Start,
) -> None:
    sandbox, apps = await start(budget=5)
    await verified_before(sandbox, PHONE)
    known = await begin_at_form(apps, PHONE, visit("a"))
    unknown = await begin_at_form(apps, phone_number(2), visit("b"))
    await sandbox.travel(PHONE, timedelta(seconds=31))
    await fill(apps, 3)
    outcomes = []
    for begun, network in ((known, "a"), (unknown, "b")):
        assert begun.verification
        again = await apps.resend(begun.verification.id, visit=proven(network))
        assert again.form.refusal is None
        outcomes.append(again.outcome)
    assert outcomes == [RequestOutcome.DONE, RequestOutcome.TOO_MANY_CODES]


async def test_at_100_percent_everybody_does_the_proof(start: Start) -> None:
    sandbox, apps = await start(budget=5)
    await verified_before(sandbox, PHONE)
    await fill(apps, 5)
    for phone in (PHONE, phone_number(2)):
        asked = await begin_at_form(apps, phone, visit())
        assert asked.form.refusal is FormRefusal.NEEDS_PROOF


async def test_a_code_given_back_opens_the_form_again(start: Start) -> None:
    sandbox, apps = await start(budget=1)
    sandbox.arm("429")
    await begin_at_form(apps, PHONE, visit())
    closed = await begin_at_form(apps, phone_number(2), proven("other"))
    assert closed.outcome is RequestOutcome.TOO_MANY_CODES
    await sandbox.text(PHONE, "STOP")
    opened = await begin_at_form(apps, phone_number(2), visit("third"))
    assert opened.outcome is RequestOutcome.DONE


# Wrong guesses.


async def guess(
    apps: Verifications, begun: RequestResult, code: str, seen: FormVisit
) -> FormRefusal | None:
    assert begun.verification
    return (await apps.check(begun.verification.id, code, visit=seen)).form.refusal


async def test_five_wrong_guesses_lock_the_session_over_all_its_codes_for_an_hour(
    start: Start,
) -> None:
    sandbox, apps = await start()
    one = await begin_at_form(apps, PHONE, visit(session="a"), session="b")
    wrong = other_than(await code_on(sandbox, PHONE))
    for _ in range(3):
        assert await guess(apps, one, wrong, visit(session="b")) is None
    begun_at = sandbox.clock.now()
    other = await begin_at_form(apps, phone_number(2), visit(session="b"), session="c")
    code = await code_on(sandbox, phone_number(2))
    for _ in range(2):
        assert await guess(apps, other, other_than(code), visit(session="c")) is None
    assert other.verification
    locked = await apps.check(other.verification.id, code, visit=visit(session="c"))
    assert locked.outcome is RequestOutcome.TOO_MANY_REQUESTS
    assert locked.form.refusal is FormRefusal.SESSION_LOCKED
    assert locked.form.retry_at == begun_at + timedelta(hours=1)
    # Nobody else is locked: another session types, and the person's reply counts.
    assert await guess(apps, other, other_than(code), visit(session="d")) is None
    letters = apps.letters(other.verification)
    await sandbox.text(phone_number(2), f"{code} {letters}")
    found = await apps.get(other.verification.id)
    assert found
    assert found.status is Status.VERIFIED


async def test_a_session_may_guess_again_after_an_hour(start: Start) -> None:
    sandbox, apps = await start()
    begun = await begin_at_form(apps, PHONE, visit())
    wrong = other_than(await code_on(sandbox, PHONE))
    for _ in range(MAX_WRONG_GUESSES_OF_SESSION):
        await guess(apps, begun, wrong, visit())
    assert await guess(apps, begun, wrong, visit()) is FormRefusal.SESSION_LOCKED
    await sandbox.travel(PHONE, timedelta(hours=1))
    assert await guess(apps, begun, wrong, visit()) is None


async def test_thirty_wrong_guesses_lock_the_network_for_an_hour(start: Start) -> None:
    sandbox, apps = await start()
    begun = await begin_at_form(apps, PHONE, visit("other"))
    code = await code_on(sandbox, PHONE)
    for each in range(MAX_WRONG_GUESSES_OF_NETWORK):
        session = visit(session=f"session {each}")
        assert await guess(apps, begun, other_than(code), session) is None
    for typed in (code, other_than(code)):
        refusal = await guess(apps, begun, typed, visit(session="new"))
        assert refusal is FormRefusal.NETWORK_LOCKED
    assert await guess(apps, begun, code, visit("other", session="new")) is None
    await sandbox.travel(PHONE, timedelta(hours=1))
    assert await guess(apps, begun, code, visit(session="new")) is None


async def test_the_right_code_costs_no_guess(start: Start) -> None:
    sandbox, apps = await start()
    for each in range(MAX_WRONG_GUESSES_OF_SESSION + 1):
        begun = await begin_at_form(apps, phone_number(each), visit(), session="s")
        code = await code_on(sandbox, phone_number(each))
        assert begun.verification
        right = await apps.check(begun.verification.id, code, visit=visit())
        assert right.outcome is RequestOutcome.RIGHT


async def test_a_guess_counts_alike_whether_or_not_there_was_a_code(start: Start) -> None:
    """Otherwise the lock would reveal which number was texted."""
    sandbox, apps = await start()
    await sandbox.text(PHONE, "STOP")
    refusals = []
    for phone, session in ((PHONE, "a"), (phone_number(2), "b")):
        begun = await begin_at_form(apps, phone, visit(session="s"), session=session)
        refusals.append(
            [await guess(apps, begun, "0000000", visit(session=session)) for _ in range(6)]
        )
    assert refusals[0] == refusals[1] == [None] * 5 + [FormRefusal.SESSION_LOCKED]


# Attacks.


async def test_a_thousand_networks_leave_the_owners_of_numbers_their_codes(start: Start) -> None:
    sandbox, apps = await start(budget=100)
    await verified_before(sandbox, PHONE)

    async def ask(networks: range, seen: Callable[[str], FormVisit]) -> Counter[str]:
        asking = (
            begin_at_form(apps, phone_number(1000 + each), seen(f"network {each}"))
            for each in networks
        )
        results = await asyncio.gather(*asking)
        return Counter(each.form.refusal or each.outcome for each in results)

    # Without proofs of work they take 80 %, and each text costs them an address of their own.
    assert await ask(range(1000), visit) == {"done": 80, FormRefusal.NEEDS_PROOF: 920}
    with_proofs = await ask(range(1000, 1030), proven)
    assert with_proofs == {"done": 20, RequestOutcome.TOO_MANY_CODES: 10}
    assert await used(sandbox) == 100
    assert (await begin_at_form(apps, PHONE, proven("home"))).outcome is RequestOutcome.DONE


async def test_one_48_takes_a_tenth_of_the_money_and_cannot_lock_anybody(start: Start) -> None:
    sandbox, apps = await start(budget=100)
    for each in range(30):
        seen = visit(f"/64 {each}", wide="/48")
        await begin_at_form(apps, phone_number(1000 + each), seen)
    assert await used(sandbox) == 10
    assert (await begin_at_form(apps, PHONE, visit("home"))).outcome is RequestOutcome.DONE


async def test_one_session_draws_no_more_than_its_network_and_five_guesses(start: Start) -> None:
    sandbox, apps = await start()
    session, compared = "s", 0
    for each in range(30):
        begun = await begin_at_form(
            apps, phone_number(1000 + each), visit(session=session), session=f"s{each}"
        )
        if begun.verification is None:
            continue
        session = f"s{each}"
        for _ in range(5):
            refusal = await guess(apps, begun, "0000000", visit(session=session))
            compared += refusal is None
    assert await used(sandbox) == MAX_REQUESTS_PER_HOUR
    assert compared == MAX_WRONG_GUESSES_OF_SESSION
