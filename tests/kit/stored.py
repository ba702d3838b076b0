"""What stands in the database, read as a person would look into it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from bot.store import conversations
from bot.store.tables import OutboxRow
from tests.kit.samples import PHONE, RULES

if TYPE_CHECKING:
    from sqlalchemy import Connection, Row

    from bot.conversation.state import Conversation
    from bot.store.engine.database import Database
    from bot.store.tables import Base


async def outbox_rows(database: Database) -> list[Row[Any]]:
    """Read the outbox in the order it was written."""

    def read(connection: Connection) -> list[Row[Any]]:
        table = OutboxRow.__table__
        return list(connection.execute(select(table).order_by(table.c.id)))

    return await database.read(read)


async def conversation_of(database: Database, phone: str = PHONE) -> Conversation:
    """Read the one conversation of a phone."""
    (known,) = await database.read(conversations.find, phone)
    return known.conversation


async def code_of(database: Database, phone: str = PHONE) -> str:
    """Derive the code that a phone was sent last."""
    found = await conversation_of(database, phone)
    assert found.token is not None
    return RULES.keyring.code(found.token, found.bot_number, phone)


async def row_count(database: Database, table: type[Base]) -> int:
    """Count the rows of a table."""

    def count(connection: Connection) -> int:
        return connection.scalar(select(func.count()).select_from(table.__table__)) or 0

    return await database.read(count)


def other_than(code: str) -> str:
    """Make a wrong code of the right shape."""
    return code[:-1] + ("1" if code[-1] != "1" else "2")
