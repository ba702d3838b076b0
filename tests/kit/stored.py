"""Functions that read the database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from bot.store import conversations, people
from bot.store.tables import OutboxRow
from tests.kit.samples import PHONE, RULES

if TYPE_CHECKING:
    from sqlalchemy import Connection, Row

    from bot.conversation.person import Person
    from bot.conversation.state import Conversation
    from bot.store.engine.database import Database
    from bot.store.tables import Base


async def outbox_rows(database: Database) -> list[Row[Any]]:
    """Return the rows of the outbox in the order of insertion."""

    def read(connection: Connection) -> list[Row[Any]]:
        table = OutboxRow.__table__
        return list(connection.execute(select(table).order_by(table.c.id)))

    return await database.read(read)


async def conversation_of(database: Database, phone: str = PHONE) -> Conversation:
    """Return the only conversation of a phone."""
    (stored,) = await database.read(conversations.find, phone)
    return stored.conversation


async def person_of(database: Database, phone: str = PHONE) -> Person:
    """Return what is kept about the person of a phone."""
    return await database.read(people.read, phone)


async def code_of(database: Database, phone: str = PHONE) -> str:
    """Return the code that was last sent to a phone."""
    conversation = await conversation_of(database, phone)
    assert conversation.token is not None
    return RULES.keyring.code(conversation.token, conversation.bot_number, phone)


async def row_count(database: Database, table: type[Base]) -> int:
    """Return the number of rows of a table."""

    def count(connection: Connection) -> int:
        return connection.scalar(select(func.count()).select_from(table.__table__)) or 0

    return await database.read(count)


def other_than(code: str) -> str:
    """Return a wrong code of the same format."""
    return code[:-1] + ("1" if code[-1] != "1" else "2")
