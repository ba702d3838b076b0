"""The invariants of `docs/reliability.md`, one test each; that page names further tests."""

from __future__ import annotations

import asyncio
import itertools
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import func, select, update
from sqlalchemy import text as sql

from bot.carrier.webhooks import SIGNATURE_HEADER, TIMESTAMP_HEADER
from bot.conversation.codes import Keyring
from bot.conversation.policy import Policy
from bot.conversation.replies import Reply
from bot.conversation.state import State
from bot.services.clock import SystemClock
from bot.services.delivery.queue_worker import POLL_INTERVAL
from bot.services.intake import inbox as inbox_module
from bot.services.intake.unit_of_work import Rules
from bot.simulator.clock import NOON, StoppedClock
from bot.simulator.sandbox import BOT_NUMBER, PHONE
from bot.simulator.stories.transcript import code_in
from bot.simulator.telnyx import payloads
from bot.simulator.telnyx.faults import NAMED_FAULTS, ApiFault
from bot.store import conversations
from bot.store.queues import outbox
from bot.store.tables import OUTBOX_FAILURES, Base, OutboxState, TokenRow
from tests.kit import samples
from tests.kit.persistent_texter import codes_to
from tests.kit.secret_keys import SECRET
from tests.kit.seeds import seeded
from tests.kit.stored import other_than, outbox_rows, row_count

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from bot.simulator.sandbox import Sandbox
    from bot.store.engine.database import Database
    from tests.conftest import MakeSandbox

PHONES = [f"+1312555{number:04}" for number in range(3000, 3010)]
TOKENS = TokenRow.__table__
SUCCESS = "this number is verified"


async def code_for(sandbox: Sandbox, phone: str = PHONE) -> str:
    (sent,) = await sandbox.text(phone, "VERIFY")
    code = code_in(sent.text)
    assert code
    return code


async def state_of(sandbox: Sandbox, phone: str = PHONE) -> State:
    (stored,) = await sandbox.bot.database.read(conversations.find, phone)
    return stored.conversation.state


async def wait(sandbox: Sandbox, seconds: float, step: float = 1) -> None:
    for _ in range(int(seconds / step)):
        sandbox.move_clock(timedelta(seconds=step))
        await sandbox.quiet()


async def test_1_every_webhook_answered_200_is_applied_exactly_once(sandbox: Sandbox) -> None:
    messages = [payloads.inbound(phone, BOT_NUMBER, "VERIFY") for phone in PHONES]
    with seeded("webhooks") as rng:
        deliveries = messages * 4
        rng.shuffle(deliveries)
        answers = await asyncio.gather(
            *(sandbox.telnyx.post_event("message.received", message) for message in deliveries)
        )
    await sandbox.quiet()
    assert answers == [200] * len(deliveries)
    assert {len(codes_to(sandbox.telnyx, phone)) for phone in PHONES} == {1}
    assert await row_count(sandbox.bot.database, TokenRow) == len(PHONES)


@pytest.mark.parametrize("round_", range(5))
async def test_2_every_verify_ends_in_one_code_or_in_a_recorded_failure(
    sandbox: Sandbox, round_: int
) -> None:
    faults = [named.fault for name, named in NAMED_FAULTS.items() if name != "hang"]
    faults += [ApiFault.error(401, "10009"), ApiFault.error(400, "40333"), ApiFault(503)]
    with seeded("outage", round_) as rng:
        for fault in rng.choices(faults, k=12):
            sandbox.telnyx.arm(fault)
        for phone in PHONES:
            assert await sandbox.telnyx.text(phone, BOT_NUMBER, "VERIFY") == 200
        await sandbox.quiet()
        await wait(sandbox, rng.randint(0, 40))
        sandbox.telnyx.faults.clear()  # the carrier works again
        await wait(sandbox, 60)
        rows = await outbox_rows(sandbox.bot.database)
        reached = [row for row in rows if row.state not in OUTBOX_FAILURES]
        codes = [codes_to(sandbox.telnyx, phone) for phone in PHONES]
        assert all(row.state is not OutboxState.QUEUED for row in reached)
        assert all(row.fault for row in rows if row.state in OUTBOX_FAILURES)
        assert sum(map(len, codes)) == sum(row.reply is Reply.CODE for row in reached)
        assert max(map(len, codes)) <= 1


async def test_2_a_code_past_its_expiry_is_never_sent(sandbox: Sandbox) -> None:
    for _ in range(60):
        sandbox.telnyx.arm(ApiFault(503))
    await sandbox.telnyx.text(PHONE, BOT_NUMBER, "VERIFY")
    await sandbox.quiet()
    await wait(sandbox, 601, step=10)
    sandbox.telnyx.faults.clear()
    await wait(sandbox, 100, step=10)
    (row,) = await outbox_rows(sandbox.bot.database)
    assert row.state is OutboxState.DROPPED
    assert sandbox.telnyx.texts == []


@pytest.mark.parametrize(("honours_idempotency_keys", "most"), [(True, 1), (False, 2)])
@pytest.mark.parametrize("fault", ["drop", "cut", "broken"])
async def test_3_a_text_reaches_a_person_once_and_at_most_twice_without_idempotency_keys(
    sandbox: Sandbox, fault: str, *, honours_idempotency_keys: bool, most: int
) -> None:
    sandbox.telnyx.honours_idempotency_keys = honours_idempotency_keys
    for _ in range(50):
        sandbox.arm(fault)
    await sandbox.telnyx.text(PHONE, BOT_NUMBER, "VERIFY")
    await sandbox.quiet()
    await wait(sandbox, 300, step=5)
    texts = [sent.text for sent in sandbox.telnyx.texts]
    assert len(texts) == most
    assert len(set(texts)) == 1


async def test_4_the_guesses_of_a_day_stay_within_the_limits(
    sandbox: Sandbox,
) -> None:
    for _ in range(24 * 4):
        await sandbox.text(PHONE, "VERIFY")
        sent = codes_to(sandbox.telnyx, PHONE)[-1]
        wrong = [f"{number:06}" for number in range(9) if f"{number:06}" != sent][:8]
        await asyncio.gather(*(sandbox.telnyx.text(PHONE, BOT_NUMBER, guess) for guess in wrong))
        await sandbox.quiet()
        sandbox.clock.travel(timedelta(minutes=15))
    guesses = await sandbox.bot.database.read(lambda c: c.scalars(select(TOKENS.c.guesses)).all())
    assert max(guesses) == 5
    # The first lock lasts 15 minutes, each further one twice as long: seven begin within a day.
    assert sum(guesses) <= 7 * 5


async def test_4_a_code_succeeds_once_and_never_after_its_end(sandbox: Sandbox) -> None:
    code = await code_for(sandbox)
    await asyncio.gather(*(sandbox.telnyx.text(PHONE, BOT_NUMBER, code) for _ in range(10)))
    await sandbox.quiet()
    assert sum(SUCCESS in sent.text for sent in sandbox.telnyx.texts) == 1
    ends = {"expired": PHONES[0], "locked": PHONES[1], "stopped": PHONES[2]}
    codes = {phone: await code_for(sandbox, phone) for phone in ends.values()}
    for _ in range(5):
        await sandbox.text(ends["locked"], other_than(codes[ends["locked"]]))
    await sandbox.text(ends["stopped"], "STOP")
    await sandbox.text(ends["locked"], codes[ends["locked"]])
    await sandbox.text(ends["stopped"], codes[ends["stopped"]])
    await sandbox.travel(PHONE, timedelta(minutes=10))
    await sandbox.text(ends["expired"], codes[ends["expired"]])
    assert sum(SUCCESS in sent.text for sent in sandbox.telnyx.texts) == 1
    used = await sandbox.bot.database.read(
        lambda c: c.scalar(select(func.count()).where(TOKENS.c.used_at.is_not(None)))
    )
    assert used == 1


async def test_5_a_success_is_recorded_if_and_only_if_its_transaction_committed(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = await code_for(sandbox)
    message = payloads.inbound(PHONE, BOT_NUMBER, code)
    apply = inbox_module.apply

    def fail_at_the_end(*args: Any) -> None:
        apply(*args)
        raise RuntimeError("before the commit")

    with monkeypatch.context() as failing:
        failing.setattr(inbox_module, "apply", fail_at_the_end)
        assert await sandbox.telnyx.post_event("message.received", message) == 503
    await sandbox.quiet()
    assert await state_of(sandbox) is State.AWAITING_CODE
    assert len(sandbox.telnyx.texts) == 1
    assert await sandbox.telnyx.post_event("message.received", message) == 200
    await sandbox.quiet()
    assert await state_of(sandbox) is State.VERIFIED
    assert SUCCESS in sandbox.telnyx.texts[-1].text


@pytest.mark.parametrize(("text", "confirmations"), [("STOP", 0), ("revoke", 1)])
async def test_6_nothing_is_sent_after_stop_until_start(
    sandbox: Sandbox, text: str, confirmations: int
) -> None:
    sandbox.telnyx.arm(ApiFault(503))
    await sandbox.text(PHONE, "VERIFY")
    await sandbox.text(PHONE, "HELP ME PLEASE")
    before = len(sandbox.telnyx.requests)
    await sandbox.text(PHONE, text)
    for later in ("VERIFY", "123456", "STATUS"):
        await sandbox.text(PHONE, later)
        await wait(sandbox, 60, step=10)
    sent = [request.body["text"] for request in sandbox.telnyx.requests[before:]]
    assert len(sent) == confirmations
    assert all("opted out" in reply for reply in sent)
    await sandbox.text(PHONE, "START")
    assert await code_for(sandbox)


async def test_7_an_invalid_signature_writes_nothing(sandbox: Sandbox) -> None:
    await code_for(sandbox)
    before = await contents(sandbox.bot.database)
    body = b'{"data": {"event_type": "message.received"}}'
    signed = sandbox.telnyx.signed(body)
    old = sandbox.telnyx.signed(body) | {TIMESTAMP_HEADER: "1"}
    forged = [
        {},
        {TIMESTAMP_HEADER: signed[TIMESTAMP_HEADER]},
        {SIGNATURE_HEADER: signed[SIGNATURE_HEADER]},
        signed | {SIGNATURE_HEADER: signed[SIGNATURE_HEADER][:-8]},
        signed | {SIGNATURE_HEADER: "A" * 86 + "=="},
        signed | {TIMESTAMP_HEADER: str(10**30)},
        sandbox.telnyx.signed(body + b" "),
        old,
    ]
    event = payloads.event(
        "message.received", payloads.inbound(PHONE, BOT_NUMBER, "STOP"), NOON, ""
    )
    for headers in forged:
        for sent in (body, repr(event).encode()):
            async with sandbox.telnyx._session.post(
                sandbox.telnyx.webhook_url, data=sent, headers=headers
            ) as answer:
                assert answer.status == 401
    assert await contents(sandbox.bot.database) == before


async def contents(database: Database) -> dict[str, list[Any]]:
    def read(connection: Connection) -> dict[str, list[Any]]:
        return {
            name: sorted(map(repr, connection.execute(select(table))))
            for name, table in Base.metadata.tables.items()
        }

    return await database.read(read)


async def test_9_after_a_restart_no_text_is_stuck_for_longer_than_a_lease_and_a_poll(
    make_sandbox: MakeSandbox, database: Database
) -> None:
    events = [samples.text("VERIFY", phone=phone) for phone in PHONES]
    rules = Rules(Policy(), Keyring([SECRET]))
    await database.write(inbox_module.apply, events, NOON, rules)
    assert len(await database.write(outbox.claim, 5, NOON)) == 5  # and then the process dies
    clock = StoppedClock(NOON + outbox.LEASE + timedelta(seconds=POLL_INTERVAL))
    sandbox = await make_sandbox(clock=clock, secret_key=SECRET)
    await sandbox.ready()
    await sandbox.quiet()
    assert {row.state for row in await outbox_rows(database)} == {OutboxState.DELIVERED}
    assert {len(codes_to(sandbox.telnyx, phone)) for phone in PHONES} == {1}
    if database.url.get_backend_name() == "sqlite":
        sound = await database.read(lambda c: c.scalar(sql("PRAGMA integrity_check")))
        assert sound == "ok"


async def test_10_a_token_from_the_future_counts_as_expired(sandbox: Sandbox) -> None:
    code = await code_for(sandbox)
    ahead = NOON + timedelta(hours=1)
    await sandbox.bot.database.write(
        lambda c: c.execute(
            update(TOKENS).values(issued_at=ahead, expires_at=ahead + timedelta(minutes=10))
        )
    )
    (reply,) = await sandbox.text(PHONE, code)
    assert SUCCESS not in reply.text
    assert await state_of(sandbox) is not State.VERIFIED


class JumpingClock(StoppedClock):
    """A clock whose wall time can be set apart from its own."""

    jumped = timedelta()

    def wall(self) -> Any:
        return super().wall() + self.jumped


@pytest.mark.parametrize("hours", [-48, -1, 1, 48])
async def test_10_a_wall_clock_that_jumps_extends_no_code_and_no_lock(
    make_sandbox: MakeSandbox, hours: int
) -> None:
    clock = JumpingClock()
    sandbox = await make_sandbox(clock=clock)
    code = await code_for(sandbox)
    locked = PHONES[0]
    await code_for(sandbox, locked)
    for guess in itertools.islice((f"{number:06}" for number in range(10)), 6):
        await sandbox.text(locked, guess)
    clock.jumped = timedelta(hours=hours)
    await sandbox.travel(PHONE, timedelta(minutes=10))
    (expired,) = await sandbox.text(PHONE, code)
    assert SUCCESS not in expired.text
    assert await state_of(sandbox, locked) is State.LOCKED
    await sandbox.travel(locked, timedelta(minutes=5))
    assert await code_for(sandbox, locked)


def test_10_the_bots_own_time_does_not_follow_the_wall_clock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = SystemClock()
    before = clock.now()
    monkeypatch.setattr("bot.services.clock.datetime", None)
    assert timedelta() <= clock.now() - before < timedelta(minutes=1)
