"""What holds whatever happens, a test each; `docs/reliability.md` says where else it is tried."""

from __future__ import annotations

import asyncio
import itertools
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from harness.chance import seeded
from harness.people import text
from harness.processes import SECRET
from harness.reading import other_than, outbox_rows, row_count
from harness.witness import codes_to
from sqlalchemy import func, select, update
from sqlalchemy import text as sql

from bot.carrier.webhooks import SIGNATURE_HEADER, TIMESTAMP_HEADER
from bot.conversation.codes import Keyring
from bot.conversation.policy import Policy
from bot.conversation.replies import Reply
from bot.conversation.state import State
from bot.services import inbox as inbox_module
from bot.services.clock import SystemClock
from bot.services.courier import POLL
from bot.services.turns import Rules
from bot.simulator import payloads
from bot.simulator.clock import NOON, StoppedClock
from bot.simulator.faults import MENU, ApiFault
from bot.simulator.stage import BOT_NUMBER, PHONE
from bot.simulator.transcript import code_in
from bot.store import conversations, outbox
from bot.store.models import OUTBOX_FAILURES, Base, OutboxState, TokenRow

if TYPE_CHECKING:
    from conftest import SetStage
    from sqlalchemy import Connection

    from bot.simulator.stage import Stage
    from bot.store.database import Database

PHONES = [f"+1312555{number:04}" for number in range(3000, 3010)]
TOKENS = TokenRow.__table__
SUCCESS = "this number is verified"


async def code_for(stage: Stage, phone: str = PHONE) -> str:
    (sent,) = await stage.text(phone, "VERIFY")
    code = code_in(sent.text)
    assert code
    return code


async def state_of(stage: Stage, phone: str = PHONE) -> State:
    (known,) = await stage.bot.database.read(conversations.find, phone)
    return known.conversation.state


async def wait(stage: Stage, seconds: float, step: float = 1) -> None:
    for _ in range(int(seconds / step)):
        stage.move_clock(timedelta(seconds=step))
        await stage.quiet()


async def test_1_every_webhook_answered_200_is_applied_exactly_once(stage: Stage) -> None:
    messages = [payloads.inbound(phone, BOT_NUMBER, "VERIFY") for phone in PHONES]
    with seeded("webhooks") as chance:
        deliveries = messages * 4
        chance.shuffle(deliveries)
        answers = await asyncio.gather(
            *(stage.telnyx.post_event("message.received", message) for message in deliveries)
        )
    await stage.quiet()
    assert answers == [200] * len(deliveries)
    assert {len(codes_to(stage.telnyx, phone)) for phone in PHONES} == {1}
    assert await row_count(stage.bot.database, TokenRow) == len(PHONES)


@pytest.mark.parametrize("round_", range(5))
async def test_2_every_verify_ends_in_one_code_or_in_a_failure_that_shows(
    stage: Stage, round_: int
) -> None:
    faults = [choice.fault for name, choice in MENU.items() if name != "hang"]
    faults += [ApiFault.error(401, "10009"), ApiFault.error(400, "40333"), ApiFault(503)]
    with seeded("outage", round_) as chance:
        for fault in chance.choices(faults, k=12):
            stage.telnyx.arm(fault)
        for phone in PHONES:
            assert await stage.telnyx.text(phone, BOT_NUMBER, "VERIFY") == 200
        await stage.quiet()
        await wait(stage, chance.randint(0, 40))
        stage.telnyx.faults.clear()  # the carrier works again
        await wait(stage, 60)
        rows = await outbox_rows(stage.bot.database)
        reached = [row for row in rows if row.state not in OUTBOX_FAILURES]
        codes = [codes_to(stage.telnyx, phone) for phone in PHONES]
        assert all(row.state is not OutboxState.QUEUED for row in reached)
        assert all(row.fault for row in rows if row.state in OUTBOX_FAILURES)
        assert sum(map(len, codes)) == sum(row.reply is Reply.CODE for row in reached)
        assert max(map(len, codes)) <= 1


async def test_2_a_code_past_its_expiry_is_never_sent(stage: Stage) -> None:
    for _ in range(60):
        stage.telnyx.arm(ApiFault(503))
    await stage.telnyx.text(PHONE, BOT_NUMBER, "VERIFY")
    await stage.quiet()
    await wait(stage, 601, step=10)
    stage.telnyx.faults.clear()
    await wait(stage, 100, step=10)
    (row,) = await outbox_rows(stage.bot.database)
    assert row.state is OutboxState.DROPPED
    assert stage.telnyx.texts == []


@pytest.mark.parametrize(("heeds_keys", "most"), [(True, 1), (False, 2)])
@pytest.mark.parametrize("fault", ["drop", "cut", "broken"])
async def test_3_a_text_reaches_a_person_once_or_where_keys_are_not_heeded_twice(
    stage: Stage, fault: str, *, heeds_keys: bool, most: int
) -> None:
    stage.telnyx.heeds_keys = heeds_keys
    for _ in range(50):
        stage.arm(fault)
    await stage.telnyx.text(PHONE, BOT_NUMBER, "VERIFY")
    await stage.quiet()
    await wait(stage, 300, step=5)
    texts = [sent.text for sent in stage.telnyx.texts]
    assert len(texts) == most
    assert len(set(texts)) == 1


async def test_4_the_guesses_that_are_compared_stay_within_the_limits_for_a_day(
    stage: Stage,
) -> None:
    for _ in range(24 * 4):
        await stage.text(PHONE, "VERIFY")
        sent = codes_to(stage.telnyx, PHONE)[-1]
        wrong = [f"{number:06}" for number in range(9) if f"{number:06}" != sent][:8]
        await asyncio.gather(*(stage.telnyx.text(PHONE, BOT_NUMBER, guess) for guess in wrong))
        await stage.quiet()
        stage.clock.travel(timedelta(minutes=15))
    guesses = await stage.bot.database.read(lambda c: c.scalars(select(TOKENS.c.guesses)).all())
    assert max(guesses) == 5
    # Locks of 15 minutes, then twice as long each time: seven begin within a day.
    assert sum(guesses) <= 7 * 5


async def test_4_a_code_succeeds_once_and_never_after_its_end(stage: Stage) -> None:
    code = await code_for(stage)
    await asyncio.gather(*(stage.telnyx.text(PHONE, BOT_NUMBER, code) for _ in range(10)))
    await stage.quiet()
    assert sum(SUCCESS in sent.text for sent in stage.telnyx.texts) == 1
    ends = {"expired": PHONES[0], "locked": PHONES[1], "stopped": PHONES[2]}
    codes = {phone: await code_for(stage, phone) for phone in ends.values()}
    for _ in range(5):
        await stage.text(ends["locked"], other_than(codes[ends["locked"]]))
    await stage.text(ends["stopped"], "STOP")
    await stage.text(ends["locked"], codes[ends["locked"]])
    await stage.text(ends["stopped"], codes[ends["stopped"]])
    await stage.travel(PHONE, timedelta(minutes=10))
    await stage.text(ends["expired"], codes[ends["expired"]])
    assert sum(SUCCESS in sent.text for sent in stage.telnyx.texts) == 1
    used = await stage.bot.database.read(
        lambda c: c.scalar(select(func.count()).where(TOKENS.c.used_at.is_not(None)))
    )
    assert used == 1


async def test_5_a_success_is_recorded_if_and_only_if_its_transaction_committed(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = await code_for(stage)
    message = payloads.inbound(PHONE, BOT_NUMBER, code)
    apply = inbox_module.apply

    def fail_at_the_end(*args: Any) -> None:
        apply(*args)
        raise RuntimeError("before the commit")

    with monkeypatch.context() as failing:
        failing.setattr(inbox_module, "apply", fail_at_the_end)
        assert await stage.telnyx.post_event("message.received", message) == 503
    await stage.quiet()
    assert await state_of(stage) is State.AWAITING_CODE
    assert len(stage.telnyx.texts) == 1
    assert await stage.telnyx.post_event("message.received", message) == 200
    await stage.quiet()
    assert await state_of(stage) is State.VERIFIED
    assert SUCCESS in stage.telnyx.texts[-1].text


@pytest.mark.parametrize(("said", "confirmations"), [("STOP", 0), ("revoke", 1)])
async def test_6_nothing_is_sent_after_stop_until_start(
    stage: Stage, said: str, confirmations: int
) -> None:
    stage.telnyx.arm(ApiFault(503))
    await stage.text(PHONE, "VERIFY")
    await stage.text(PHONE, "HELP ME PLEASE")
    before = len(stage.telnyx.requests)
    await stage.text(PHONE, said)
    for later in ("VERIFY", "123456", "STATUS"):
        await stage.text(PHONE, later)
        await wait(stage, 60, step=10)
    asked = [request.body["text"] for request in stage.telnyx.requests[before:]]
    assert len(asked) == confirmations
    assert all("opted out" in one for one in asked)
    await stage.text(PHONE, "START")
    assert await code_for(stage)


async def test_7_an_invalid_signature_writes_nothing(stage: Stage) -> None:
    await code_for(stage)
    before = await contents(stage.bot.database)
    body = b'{"data": {"event_type": "message.received"}}'
    signed = stage.telnyx.signed(body)
    old = stage.telnyx.signed(body) | {TIMESTAMP_HEADER: "1"}
    forged = [
        {},
        {TIMESTAMP_HEADER: signed[TIMESTAMP_HEADER]},
        {SIGNATURE_HEADER: signed[SIGNATURE_HEADER]},
        signed | {SIGNATURE_HEADER: signed[SIGNATURE_HEADER][:-8]},
        signed | {SIGNATURE_HEADER: "A" * 86 + "=="},
        signed | {TIMESTAMP_HEADER: str(10**30)},
        stage.telnyx.signed(body + b" "),
        old,
    ]
    event = payloads.event(
        "message.received", payloads.inbound(PHONE, BOT_NUMBER, "STOP"), NOON, ""
    )
    for headers in forged:
        for sent in (body, repr(event).encode()):
            async with stage.telnyx._session.post(
                stage.telnyx.webhook_url, data=sent, headers=headers
            ) as answer:
                assert answer.status == 401
    assert await contents(stage.bot.database) == before


async def contents(database: Database) -> dict[str, list[Any]]:
    def read(connection: Connection) -> dict[str, list[Any]]:
        return {
            name: sorted(map(repr, connection.execute(select(table))))
            for name, table in Base.metadata.tables.items()
        }

    return await database.read(read)


async def test_9_after_a_restart_no_text_stays_stuck_beyond_its_lease_and_a_look(
    set_stage: SetStage, database: Database
) -> None:
    events = [text("VERIFY", phone=phone) for phone in PHONES]
    rules = Rules(Policy(), Keyring([SECRET]))
    await database.write(inbox_module.apply, events, NOON, rules)
    assert len(await database.write(outbox.claim, 5, NOON)) == 5  # and then the process dies
    clock = StoppedClock(NOON + outbox.LEASE + timedelta(seconds=POLL))
    stage = await set_stage(clock=clock, secret_key=SECRET)
    await stage.ready()
    await stage.quiet()
    assert {row.state for row in await outbox_rows(database)} == {OutboxState.DELIVERED}
    assert {len(codes_to(stage.telnyx, phone)) for phone in PHONES} == {1}
    if database.url.get_backend_name() == "sqlite":
        sound = await database.read(lambda c: c.scalar(sql("PRAGMA integrity_check")))
        assert sound == "ok"


async def test_10_a_token_from_the_future_counts_as_expired(stage: Stage) -> None:
    code = await code_for(stage)
    ahead = NOON + timedelta(hours=1)
    await stage.bot.database.write(
        lambda c: c.execute(
            update(TOKENS).values(issued_at=ahead, expires_at=ahead + timedelta(minutes=10))
        )
    )
    (reply,) = await stage.text(PHONE, code)
    assert SUCCESS not in reply.text
    assert await state_of(stage) is not State.VERIFIED


class JumpingClock(StoppedClock):
    """Time by which the bot decides, and a wall clock that somebody sets."""

    jumped = timedelta()

    def wall(self) -> Any:
        return super().wall() + self.jumped


@pytest.mark.parametrize("hours", [-48, -1, 1, 48])
async def test_10_a_wall_clock_that_jumps_extends_no_code_and_no_lock(
    set_stage: SetStage, hours: int
) -> None:
    clock = JumpingClock()
    stage = await set_stage(clock=clock)
    code = await code_for(stage)
    locked = PHONES[0]
    await code_for(stage, locked)
    for guess in itertools.islice((f"{number:06}" for number in range(10)), 6):
        await stage.text(locked, guess)
    clock.jumped = timedelta(hours=hours)
    await stage.travel(PHONE, timedelta(minutes=10))
    (expired,) = await stage.text(PHONE, code)
    assert SUCCESS not in expired.text
    assert await state_of(stage, locked) is State.LOCKED
    await stage.travel(locked, timedelta(minutes=5))
    assert await code_for(stage, locked)


def test_10_the_time_to_decide_by_is_not_the_wall_clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SystemClock()
    before = clock.now()
    monkeypatch.setattr("bot.services.clock.datetime", None)
    assert timedelta() <= clock.now() - before < timedelta(minutes=1)
