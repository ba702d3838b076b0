"""Unknown references over all phones raise an alert: in the log, `bot status` and an app event."""

from __future__ import annotations

import json
from datetime import timedelta
from itertools import count
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from bot.conversation.policy import UNKNOWN_REFERENCES_FOR_ALERT
from bot.services.intake.inbox import apply
from bot.services.intake.unit_of_work import Rules
from bot.services.status import overview
from bot.services.upkeep.reporter import Reporter
from bot.simulator.clock import NOON, StoppedClock
from bot.store.tables import AppEventRow
from tests.kit.samples import RULES, text

if TYPE_CHECKING:
    from datetime import datetime

    import pytest
    from sqlalchemy import Connection

    from bot.carrier.webhooks import InboundText
    from bot.store.engine.database import Database

HOUR = timedelta(hours=1)
WITH_APP = Rules(RULES.policy, RULES.keyring, has_app=True)
UNKNOWN = [f"B{digit}CDFG" for digit in range(2, 10)]
PHONES = (f"+1312555{number:04}" for number in count(2000))


async def guess(database: Database, times: int, at: datetime = NOON, rules: Rules = RULES) -> None:
    """Text so many unknown references, from as many phones as that needs."""
    texts: list[InboundText] = []
    while len(texts) < times:
        phone = next(PHONES)
        texts += [text(f"VERIFY {each}", phone=phone) for each in UNKNOWN]
    await database.write(apply, texts[:times], at, rules)


async def alert_events(database: Database) -> list[dict[str, Any]]:
    def read(connection: Connection) -> list[str]:
        table = AppEventRow.__table__
        alerts = select(table.c.body).where(table.c.type == "service.alert")
        return list(connection.scalars(alerts))

    return [json.loads(body) for body in await database.read(read)]


async def logged(database: Database, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    await Reporter(database, StoppedClock(), lambda: None).report()
    return capsys.readouterr().out


async def test_many_unknown_references_from_many_phones_raise_one_alert(
    database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    await guess(database, UNKNOWN_REFERENCES_FOR_ALERT - 1, rules=WITH_APP)
    assert await alert_events(database) == []

    await guess(database, 1, rules=WITH_APP)
    await guess(database, 20, rules=WITH_APP)
    (event,) = await alert_events(database)
    assert event["data"]["code"] == "unknown_references"
    assert event["data"]["scope"] == "all"
    assert event["data"]["action"] in await database.read(overview, NOON)
    assert "unknown_references" in await logged(database, capsys)
    assert await logged(database, capsys) == ""


async def test_the_next_hour_counts_anew_and_raises_the_next_alert(database: Database) -> None:
    await guess(database, UNKNOWN_REFERENCES_FOR_ALERT, rules=WITH_APP)
    await guess(database, UNKNOWN_REFERENCES_FOR_ALERT - 1, NOON + HOUR, WITH_APP)
    assert len(await alert_events(database)) == 1

    await guess(database, 1, NOON + HOUR, WITH_APP)
    assert len(await alert_events(database)) == 2


async def test_without_an_app_the_alert_is_logged_and_shown(
    database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    await guess(database, UNKNOWN_REFERENCES_FOR_ALERT)

    assert await alert_events(database) == []
    assert "unknown_references" in await logged(database, capsys)
    assert "alerts of the last day" in await database.read(overview, NOON)
    assert "alerts" not in await database.read(overview, NOON + 25 * HOUR)
