from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import Connection, update

from bot.carrier.errors import OPTED_OUT_FAULT
from bot.carrier.webhooks import DeliveryStatus
from bot.conversation.inputs import CodeSubmitted
from bot.conversation.replies import Reply
from bot.conversation.state import State
from bot.conversation.verification import RequestOutcome
from bot.services.intake import inbox as inbox_module
from bot.services.intake.app_requests import AppRequest, IdempotencyKey
from bot.services.intake.inbox import ANSWER_TIMEOUT, Inbox, apply
from bot.simulator.clock import NOON
from bot.store.engine.database import WRITE_TIMEOUT, Database
from bot.store.engine.errors import UnavailableError, UncertainCommitError
from bot.store.queues import outbox
from bot.store.tables import (
    EarlyReportRow,
    OutboxState,
    PhoneLimitsRow,
    ProcessedWebhookRow,
    TokenRow,
)
from tests.kit.inboxes import open_inbox
from tests.kit.loop_time import advance
from tests.kit.samples import RULES, conversation, report, text
from tests.kit.stored import code_of, conversation_of, other_than, outbox_rows, person_of, row_count
from tests.kit.timeouts import slow_database, wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Sequence

    from sqlalchemy import URL

    from bot.services.intake.app_requests import RequestResult
    from bot.services.intake.inbox import InboxItem

PHONES = [f"+1312555{number:04}" for number in range(200, 260)]
TELNYX_WAITS = 2.0
HOUR = 3600.0


@pytest.fixture
async def inbox(database: Database) -> AsyncIterator[Inbox]:
    async with open_inbox(database) as opened:
        yield opened


async def replies(database: Database) -> list[Reply]:
    return [row.reply for row in await outbox_rows(database)]


async def test_a_webhook_is_applied_once_however_often_it_comes(
    inbox: Inbox, database: Database
) -> None:
    event = text("VERIFY", key="message:same")
    await asyncio.gather(*(inbox.handle_webhook(event) for _ in range(20)))
    await inbox.handle_webhook(event)
    assert await replies(database) == [Reply.CODE]


async def test_many_phones_share_a_transaction_and_each_gets_its_code(
    database: Database,
) -> None:
    commits = 0

    def count_commit() -> None:
        nonlocal commits
        commits += 1

    async with open_inbox(database, count_commit) as inbox:
        await asyncio.gather(
            *(inbox.handle_webhook(text("VERIFY", phone=phone)) for phone in PHONES)
        )
    rows = await outbox_rows(database)
    assert len(rows) == len(PHONES)
    assert {row.reply for row in rows} == {Reply.CODE}
    assert commits <= 2


async def test_one_phones_texts_of_a_batch_are_decided_in_their_order(
    inbox: Inbox, database: Database
) -> None:
    said = ["VERIFY", "STOP", "START", "VERIFY", "NOT ME"]
    await asyncio.gather(*(inbox.handle_webhook(text(one)) for one in said))
    rows = await outbox_rows(database)
    assert [(row.reply, row.state) for row in rows] == [
        (Reply.CODE, OutboxState.CANCELLED),
        (Reply.STOPPED, OutboxState.QUEUED),
        (Reply.WELCOME, OutboxState.QUEUED),
        (Reply.CODE, OutboxState.CANCELLED),
        (Reply.NOT_ME, OutboxState.QUEUED),
    ]
    assert await row_count(database, TokenRow) == 2


async def test_parallel_guesses_through_two_writers_never_exceed_the_tries(
    database_url: URL,
) -> None:
    first, second = slow_database(database_url), slow_database(database_url)
    async with open_inbox(first) as one, open_inbox(second) as other:
        await one.handle_webhook(text("VERIFY"))
        wrong = other_than(await code_of(first))
        await asyncio.gather(*(inbox.handle_webhook(text(wrong)) for inbox in [one, other] * 50))
    found = await conversation_of(first)
    assert found.state is State.LOCKED
    assert found.token is not None
    assert found.token.guesses == RULES.policy.attempts
    said = await replies(first)
    assert said.count(Reply.WRONG) == RULES.policy.attempts - 1
    assert said.count(Reply.LOCKED) == 1
    await first.close()
    await second.close()


async def test_parallel_right_codes_through_two_writers_succeed_once(database_url: URL) -> None:
    first, second = slow_database(database_url), slow_database(database_url)
    async with open_inbox(first) as one, open_inbox(second) as other:
        await one.handle_webhook(text("VERIFY"))
        code = await code_of(first)
        await asyncio.gather(*(inbox.handle_webhook(text(code)) for inbox in [one, other] * 20))
    assert (await replies(first)).count(Reply.SUCCESS) == 1
    assert (await conversation_of(first)).state is State.VERIFIED
    await first.close()
    await second.close()


async def test_a_webhook_that_fails_does_not_affect_the_others(
    inbox: Inbox, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = text("VERIFY", phone=PHONES[3])

    def apply_but_for_one(connection: Connection, events: Sequence[InboxItem], *rest: Any) -> Any:
        if bad in events:
            raise ValueError("this one cannot be stored")
        return apply(connection, events, *rest)

    monkeypatch.setattr(inbox_module, "apply", apply_but_for_one)
    good = [text("VERIFY", phone=phone) for phone in PHONES[:3]]
    outcomes = await asyncio.gather(
        *(inbox.handle_webhook(event) for event in [*good, bad]), return_exceptions=True
    )
    assert outcomes[:3] == [None, None, None]
    assert isinstance(outcomes[3], UnavailableError)
    assert len(await outbox_rows(database)) == 3


async def test_an_outage_refuses_all_waiting_webhooks_and_none_of_them_is_stored_later(
    database_url: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    # SQLite waits for a lock in a thread; here it waits by the clock that the test moves.
    loop_time = SimpleNamespace(monotonic=asyncio.get_running_loop().time)
    monkeypatch.setattr("bot.store.engine.sqlite.time", loop_time)
    database = Database(database_url, timeout=2 * HOUR)
    async with open_inbox(database, answer_within=HOUR) as inbox:
        async with locked(database_url):
            batches = recorded_writes(database, monkeypatch)
            accepted = [inbox.handle_webhook(text("VERIFY", phone=phone)) for phone in PHONES[:3]]
            waiting = [asyncio.create_task(each) for each in accepted]
            await wait_until(lambda: bool(batches))
            advance(HOUR / 2)
            done, _ = await asyncio.wait(waiting, timeout=0.1)
            assert not done
            loop_time.monotonic = advance(HOUR)
            await asyncio.wait(waiting)
        assert all(isinstance(task.exception(), UnavailableError) for task in waiting)
        assert await row_count(database, ProcessedWebhookRow) == 0
        await inbox.handle_webhook(text("VERIFY", phone=PHONES[4]))
    assert len(await outbox_rows(database)) == 1
    await database.close()


def test_a_text_is_refused_before_telnyx_gives_up() -> None:
    assert WRITE_TIMEOUT < ANSWER_TIMEOUT < TELNYX_WAITS


@asynccontextmanager
async def locked(url: URL) -> AsyncIterator[None]:
    """Block every write to the database, as another process might."""
    on_postgresql = url.get_backend_name() == "postgresql"
    lock = (
        "LOCK TABLE phone_limits IN EXCLUSIVE MODE"
        if on_postgresql
        else "DELETE FROM processed_webhooks"
    )
    blocker = slow_database(url)
    async with blocker._backend.reader.connect() as connection:
        await connection.exec_driver_sql(lock)
        yield
        await connection.rollback()
    await blocker.close()


def recorded_writes(
    database: Database, monkeypatch: pytest.MonkeyPatch, gate: asyncio.Event | None = None
) -> list[Sequence[InboxItem]]:
    """Record the items of each transaction as it begins, which then waits for the gate, if any."""
    write, batches = database.write, []

    async def recorded(work: Any, events: Sequence[InboxItem], *rest: Any, **more: Any) -> Any:
        batches.append(events)
        if gate:
            await gate.wait()
        return await write(work, events, *rest, **more)

    monkeypatch.setattr(database, "write", recorded)
    return batches


async def test_a_webhook_counts_once_when_the_outcome_of_its_commit_is_unknown(
    inbox: Inbox, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = database.write
    lost: list[bool] = []

    async def write_and_lose_the_answer(*args: Any, **kwargs: Any) -> Any:
        result = await write(*args, **kwargs)
        if not lost:
            lost.append(True)
            raise UncertainCommitError("connection lost")
        return result

    monkeypatch.setattr(database, "write", write_and_lose_the_answer)
    await inbox.handle_webhook(text("VERIFY"))
    assert lost
    assert await replies(database) == [Reply.CODE]


async def test_a_text_does_not_wait_behind_app_requests(
    inbox: Inbox, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = asyncio.Event()
    batches = recorded_writes(database, monkeypatch, gate)

    def request(number: int) -> Coroutine[Any, Any, RequestResult]:
        return inbox.handle_request(
            AppRequest(CodeSubmitted("0" * 32, "123456"), IdempotencyKey(f"{number:064}", ""))
        )

    asking = [asyncio.create_task(request(number)) for number in range(900)]
    await wait_until(lambda: len(batches) == database.writers)
    event = text("VERIFY")
    texting = asyncio.create_task(inbox.handle_webhook(event))
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(texting, *asking)
    # The transactions that had begun hold only requests; the text is in the next, with a few more.
    assert [event in batch for batch in batches[: database.writers + 1]] == [
        *[False] * database.writers,
        True,
    ]
    assert len(batches[database.writers]) == 1 + 20


async def test_too_many_requests_leave_room_for_texts(
    database: Database,
) -> None:
    request = AppRequest(CodeSubmitted("0" * 32, "123456"), IdempotencyKey("k" * 64, ""))
    async with open_inbox(database, max_waiting_requests=10) as inbox:
        tasks = [asyncio.create_task(inbox.handle_request(request)) for _ in range(30)]
        await asyncio.sleep(0)
        await inbox.handle_webhook(text("VERIFY"))
        await asyncio.wait(tasks)
        refused = [task for task in tasks if isinstance(task.exception(), UnavailableError)]
        assert len(refused) == 20
        assert (await inbox.handle_request(request)).outcome is RequestOutcome.NOT_FOUND


async def test_a_client_that_hangs_up_cancels_nothing(inbox: Inbox, database: Database) -> None:
    leaving = asyncio.create_task(inbox.handle_webhook(text("VERIFY")))
    await asyncio.sleep(0)
    leaving.cancel()
    await inbox.handle_webhook(text("STATUS"))
    assert await replies(database) == [Reply.CODE, Reply.STATUS_QUEUED]


async def test_an_inbox_that_has_stopped_refuses(database: Database) -> None:
    async with open_inbox(database) as inbox:
        alive = inbox.alive
    assert (alive, inbox.alive) == (True, False)
    with pytest.raises(UnavailableError):
        await inbox.handle_webhook(text("VERIFY"))


async def _accepted_text(database: Database, inbox: Inbox, carrier_id: str) -> None:
    now = NOON
    await inbox.handle_webhook(text("VERIFY"))
    (claimed,) = await database.write(outbox.claim, 1, now)
    await database.write(outbox.settle_accepted, {claimed.id: carrier_id}, now)


async def test_reports_move_a_text_forward_only(inbox: Inbox, database: Database) -> None:
    await _accepted_text(database, inbox, "id-1")
    for delivery in (DeliveryStatus.DELIVERED, DeliveryStatus.SENT, DeliveryStatus.FAILED):
        await inbox.handle_webhook(report("id-1", delivery))
    (row,) = await outbox_rows(database)
    assert row.state is OutboxState.DELIVERED


async def test_a_report_that_comes_before_the_answer_is_stored_until_then(
    inbox: Inbox, database: Database
) -> None:
    now = NOON
    await inbox.handle_webhook(text("VERIFY"))
    (claimed,) = await database.write(outbox.claim, 1, now)
    await inbox.handle_webhook(report("early", DeliveryStatus.DELIVERED))
    await inbox.handle_webhook(report("early", DeliveryStatus.SENT))
    assert await row_count(database, EarlyReportRow) == 1
    await database.write(outbox.settle_accepted, {claimed.id: "early"}, now)
    (row,) = await outbox_rows(database)
    assert row.state is OutboxState.DELIVERED
    assert await row_count(database, EarlyReportRow) == 0


async def test_a_report_of_an_opt_out_opts_the_person_out(inbox: Inbox, database: Database) -> None:
    await _accepted_text(database, inbox, "id-1")
    await inbox.handle_webhook(text("STATUS"))
    await inbox.handle_webhook(report("id-1", DeliveryStatus.FAILED, OPTED_OUT_FAULT))
    found, person = await conversation_of(database), await person_of(database)
    assert (found.state, person.opt_out_wording) == (State.OPTED_OUT, OPTED_OUT_FAULT)
    states = [row.state for row in await outbox_rows(database)]
    assert states == [OutboxState.FAILED, OutboxState.CANCELLED]


async def test_stop_cancels_queued_texts_and_confirms_once(
    inbox: Inbox, database: Database
) -> None:
    await inbox.handle_webhook(text("VERIFY"))
    await inbox.handle_webhook(text("opt out"))
    await inbox.handle_webhook(text("opt out"))
    claimed = await database.write(outbox.claim, 10, NOON)
    assert [row.reply for row in await outbox_rows(database)] == [Reply.CODE, Reply.STOPPED]
    assert ["opted out" in one.body for one in claimed] == [True]


async def test_a_phone_has_one_set_of_limits_for_all_numbers_of_the_bot(
    inbox: Inbox, database: Database
) -> None:
    event = text("VERIFY")
    await inbox.handle_webhook(event)
    key = conversation()
    limits_of = PhoneLimitsRow.__table__
    used_up = update(limits_of).where(limits_of.c.phone == key.phone).values(wrong_guesses=4)
    await database.write(Connection.execute, used_up)
    await inbox.handle_webhook(text(other_than(await code_of(database))))
    assert (await conversation_of(database)).state is State.LOCKED
    elsewhere = type(event)("message:elsewhere", key.phone, "+13125550101", event.input)
    await inbox.handle_webhook(elsewhere)
    assert await replies(database) == [Reply.CODE, Reply.LOCKED]
