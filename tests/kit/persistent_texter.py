"""Someone who texts through a Telnyx that repeats what was not acknowledged, and checks the end."""

from __future__ import annotations

import asyncio
import socket
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

_TRY_EVERY = 0.05
_OUTBOX, _TOKENS = OutboxRow.__table__, TokenRow.__table__
_RECEIVED, _CONVERSATIONS = ProcessedWebhookRow.__table__, ConversationRow.__table__


def free_port() -> int:
    """Find a port that is free now: a bot that is started again has the same."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@dataclass(slots=True)
class PersistentTexter:
    """Remembers what was acknowledged: `accepted` are the ids of messages answered 200."""

    telnyx: SimulatedTelnyx
    accepted: list[str] = field(default_factory=list)

    async def say(self, phone: str, text: str) -> None:
        """Text the bot, again under another event id each time, until it answers 200."""
        await self.post(payloads.inbound(phone, BOT_NUMBER, text))

    async def post(self, payload: dict[str, Any]) -> None:
        """Post the event of a text until the bot answers 200."""
        async with asyncio.timeout(TEST_TIMEOUT):
            while await self._try(payload) != 200:  # noqa: ASYNC110 - as Telnyx does
                await asyncio.sleep(_TRY_EVERY)
        self.accepted.append(payload["id"])

    async def _try(self, payload: dict[str, Any]) -> int | None:
        try:
            return await self.telnyx.post_event("message.received", payload)
        except ClientError:
            return None

    async def code_of(self, phone: str) -> str:
        """Wait for a code to come to a phone, and return the latest."""
        await wait_until(lambda: bool(codes_to(self.telnyx, phone)))
        return codes_to(self.telnyx, phone)[-1]


def codes_to(telnyx: SimulatedTelnyx, phone: str) -> list[str]:
    """Read the codes that came to a phone, in order."""
    texts = [text.text for text in telnyx.texts if text.phone == phone]
    return [code for code in map(code_in, texts) if code]


async def drained(database: Database) -> None:
    """Wait until no text waits any more; raises TimeoutError where one is stuck."""

    def waiting(connection: Connection) -> int:
        queued = select(func.count()).where(_OUTBOX.c.state == OutboxState.QUEUED)
        return connection.scalar(queued) or 0

    async with asyncio.timeout(TEST_TIMEOUT):
        while await database.read(waiting):  # noqa: ASYNC110 - another process writes there
            await asyncio.sleep(_TRY_EVERY)


async def check(database: Database, texter: PersistentTexter) -> None:
    """Check what must hold of every phone that texted VERIFY once and then its code."""
    found = await database.read(_look)
    texts = Counter((text.phone, text.text) for text in texter.telnyx.texts)
    # Each acknowledged webhook was applied exactly once.
    assert found.received >= {f"message:{message}" for message in texter.accepted}
    phones = found.states.keys()
    assert found.tokens == dict.fromkeys(phones, 1)
    assert found.texts == {(phone, reply): 1 for phone in phones for reply in ("code", "success")}
    # Each reached its phone once, and each code verified the phone it was sent to.
    assert set(texts.values()) == {1}
    assert len(texts) == 2 * len(phones)
    assert set(found.states.values()) == {State.VERIFIED}
    assert found.sound


@dataclass(frozen=True, slots=True)
class _Found:
    received: set[str]
    states: dict[str, State]
    tokens: dict[str, int]
    texts: dict[tuple[str, str], int]
    sound: bool


def _look(connection: Connection) -> _Found:
    conversations = connection.execute(select(_CONVERSATIONS)).all()
    phones = {row.id: row.phone for row in conversations}
    tokens = connection.execute(select(_TOKENS.c.conversation_id))
    texts = connection.execute(select(_OUTBOX.c.conversation_id, _OUTBOX.c.reply))
    sound = (
        connection.dialect.name != "sqlite"
        or connection.scalar(sql("PRAGMA integrity_check")) == "ok"
    )
    return _Found(
        received=set(connection.scalars(select(_RECEIVED.c.key))),
        states={row.phone: row.state for row in conversations},
        tokens=dict(Counter(phones[row.conversation_id] for row in tokens)),
        texts=dict(Counter((phones[row.conversation_id], str(row.reply)) for row in texts)),
        sound=sound,
    )
