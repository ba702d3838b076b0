"""A transaction may run twice or be rolled back: it has no effect outside of the database."""

from __future__ import annotations

from contextvars import ContextVar
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

import pytest
import structlog

from bot.conversation.throttle import ACCOUNT, Throttle
from bot.conversation.verification import Origin, RequestOutcome
from bot.services.verifications import VerificationRequest
from bot.simulator.sandbox import PHONE
from bot.simulator.stories.transcript import code_in
from bot.store import retention, throttle
from bot.store.engine.database import Database
from tests.kit.stored import other_than

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, MutableMapping

    from sqlalchemy import Connection

    from tests.conftest import MakeSandbox

OTHER = "+13125550002"


class _RollbackError(Exception):
    """Rolls a transaction back."""


@pytest.fixture
def logged_within(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Roll each write transaction back once before it runs; collect the log of all transactions."""
    within, logged = ContextVar("within", default=False), list[str]()

    def watched(work: Callable[..., Any]) -> Callable[..., Any]:
        def run(connection: Connection, *args: Any) -> Any:
            token = within.set(True)
            try:
                return work(connection, *args)
            finally:
                within.reset(token)

        return run

    def rolled_back(work: Callable[..., Any]) -> Callable[..., NoReturn]:
        def run(connection: Connection, *args: Any) -> NoReturn:
            watched(work)(connection, *args)
            raise _RollbackError

        return run

    def note(_logger: object, _method: str, entry: MutableMapping[str, Any]) -> NoReturn:
        if within.get():
            logged.append(entry["event"])
        raise structlog.DropEvent

    write, read = Database._write, Database.read

    async def write_twice(
        self: Database, deadline: float, work: Any, *args: Any, wait_for_locks: bool
    ) -> Any:
        with pytest.raises(Exception) as ended:  # noqa: PT011 - a warm-up raises its own error
            await write(self, deadline, rolled_back(work), *args, wait_for_locks=wait_for_locks)
        if not isinstance(ended.value, _RollbackError):
            raise ended.value
        return await write(self, deadline, watched(work), *args, wait_for_locks=wait_for_locks)

    async def read_watched(self: Database, work: Any, *args: Any) -> Any:
        return await read(self, watched(work), *args)

    monkeypatch.setattr(Database, "_write", write_twice)
    monkeypatch.setattr(Database, "read", read_watched)
    before = structlog.get_config()
    structlog.configure(processors=[note])
    yield logged
    structlog.configure(**before)


async def test_a_transaction_that_is_rolled_back_once_takes_effect_once_and_logs_nothing(
    make_sandbox: MakeSandbox, logged_within: list[str]
) -> None:
    sandbox = await make_sandbox(with_app=True, send_rate_account=1000)
    apps, expirer = sandbox.bot.verifications, sandbox.bot.expirer
    assert apps is not None
    assert expirer is not None
    await sandbox.bot.database.write(throttle.save, {ACCOUNT: Throttle(sandbox.clock.now())})
    # By then the sender has reloaded the throttle of the new table.
    sandbox.move_clock(timedelta(seconds=10))
    sandbox.arm("429")
    assert await sandbox.text(PHONE, "VERIFY") == []
    # The code expires before the next attempt: the text is dropped.
    assert await sandbox.travel(PHONE, timedelta(minutes=11)) == []
    (sent,) = await sandbox.text(PHONE, "VERIFY")
    code = code_in(sent.text) or ""
    (wrong,) = await sandbox.text(PHONE, other_than(code))
    assert "4 tries left" in wrong.text
    (verified,) = await sandbox.text(PHONE, code)
    assert "verified" in verified.text

    begun = [await apps.begin(VerificationRequest(Origin.APP, OTHER)) for _ in range(3)]
    names = [each.verification.id for each in begun if each.verification]
    await sandbox.quiet()
    codes = [code_in(text.text) for text in sandbox.telnyx.texts if text.phone == OTHER]
    checked = await apps.check(names[0], other_than(codes[0] or ""))
    assert (checked.outcome, checked.tries_left) == (RequestOutcome.WRONG, 4)
    assert (await apps.check(names[0], codes[0] or "")).outcome is RequestOutcome.RIGHT
    assert (await apps.cancel(names[1])).outcome is RequestOutcome.DONE
    await sandbox.travel(OTHER, timedelta(minutes=10))
    await expirer.expire_all()
    assert await sandbox.bot.database.write(retention.purge_chunk, sandbox.clock.now()) == 0
    assert len(codes) == 3
    assert logged_within == []
