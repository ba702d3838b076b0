"""A person whose texts Telnyx repeats until they are acknowledged, and checks of the result."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aiohttp import ClientError
from sqlalchemy import func, select
from sqlalchemy import text as sql

from bot.conversation.state import State
from bot.simulator.sandbox import BOT_NUMBER
from bot.simulator.stories.transcript import code_in
from bot.simulator.telnyx import payloads
from bot.store.tables import ConversationRow, OutboxRow, OutboxState, ProcessedWebhookRow, TokenRow
from tests.kit.timeouts import TEST_TIMEOUT, wait_until

if TYPE_CHECKING:
    from typing import Any

    from sqlalchemy import Connection

    from bot.simulator.telnyx.server import SimulatedTelnyx
    from bot.store.engine.database import Database

_RETRY_INTERVAL = 0.05
_OUTBOX, _TOKENS = OutboxRow.__table__, TokenRow.__table__
_RECEIVED, _CONVERSATIONS = ProcessedWebhookRow.__table__, ConversationRow.__table__


@dataclass(slots=True)
class PersistentTexter:
    """Texts the bot; `accepted` has the ids of the messages that were answered 200."""

    telnyx: SimulatedTelnyx
    accepted: list[str] = field(default_factory=list)

    async def text(self, phone: str, text: str) -> None:
        """Text the bot, with another event id at each attempt, until it answers 200."""
        await self.post(payloads.inbound(phone, BOT_NUMBER, text))

    async def post(self, payload: dict[str, Any]) -> None:
        """Post a text's webhook until the bot answers 200."""
        async with asyncio.timeout(TEST_TIMEOUT):
            while await self._try(payload) != 200:  # noqa: ASYNC110 - as Telnyx does
                await asyncio.sleep(_RETRY_INTERVAL)
        self.accepted.append(payload["id"])

    async def _try(self, payload: dict[str, Any]) -> int | None:
        try:
            return await self.telnyx.post_event("message.received", payload)
        except ClientError:
            return None

    async def code_of(self, phone: str) -> str:
        """Wait until a phone has a code, and return the latest."""
        await wait_until(lambda: bool(codes_to(self.telnyx, phone)))
        return codes_to(self.telnyx, phone)[-1]


def codes_to(telnyx: SimulatedTelnyx, phone: str) -> list[str]:
    """Return the codes that were sent to a phone, in order."""
    texts = [text.text for text in telnyx.texts if text.phone == phone]
    return [code for code in map(code_in, texts) if code]


async def wait_until_drained(database: Database) -> None:
    """Wait until no text is queued; raise TimeoutError if one is stuck."""

    def count_queued(connection: Connection) -> int:
        statement = select(func.count()).where(_OUTBOX.c.state == OutboxState.QUEUED)
        return connection.scalar(statement) or 0

    async with asyncio.timeout(TEST_TIMEOUT):
        while await database.read(count_queued):  # noqa: ASYNC110 - another process writes there
            await asyncio.sleep(_RETRY_INTERVAL)


async def check(database: Database, texter: PersistentTexter) -> None:
    """Check that every phone, which texted VERIFY once and then its code, was verified once."""
    stored = await database.read(_read)
    texts = Counter((text.phone, text.text) for text in texter.telnyx.texts)
    # Each acknowledged webhook was applied exactly once.
    assert stored.received >= {f"message:{message}" for message in texter.accepted}
    phones = stored.states.keys()
    assert stored.tokens == dict.fromkeys(phones, 1)
    assert stored.texts == {(phone, reply): 1 for phone in phones for reply in ("code", "success")}
    # Each text arrived once, and each code verified the phone it was sent to.
    assert set(texts.values()) == {1}
    assert len(texts) == 2 * len(phones)
    assert set(stored.states.values()) == {State.VERIFIED}
    assert stored.sound


@dataclass(frozen=True, slots=True)
class _Stored:
    received: set[str]
    states: dict[str, State]
    tokens: dict[str, int]
    texts: dict[tuple[str, str], int]
    sound: bool


def _read(connection: Connection) -> _Stored:
    conversations = connection.execute(select(_CONVERSATIONS)).all()
    phones = {row.id: row.phone for row in conversations}
    tokens = connection.execute(select(_TOKENS.c.conversation_id))
    texts = connection.execute(select(_OUTBOX.c.conversation_id, _OUTBOX.c.reply))
    sound = (
        connection.dialect.name != "sqlite"
        or connection.scalar(sql("PRAGMA integrity_check")) == "ok"
    )
    return _Stored(
        received=set(connection.scalars(select(_RECEIVED.c.key))),
        states={row.phone: row.state for row in conversations},
        tokens=dict(Counter(phones[row.conversation_id] for row in tokens)),
        texts=dict(Counter((phones[row.conversation_id], str(row.reply)) for row in texts)),
        sound=sound,
    )
