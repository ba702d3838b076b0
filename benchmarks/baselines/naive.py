"""The usual way: an ORM session and a transaction for each webhook, on SQLite.

It does the minimum that the bot does for VERIFY: check the signature, process a message once, find
or create the conversation, issue a token, queue the reply.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import secrets
from datetime import UTC, datetime, timedelta

from aiohttp import web
from nacl.signing import VerifyKey
from sqlalchemy import ForeignKey, UniqueConstraint, event, select
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from benchmarks.running import run

KEY = VerifyKey(base64.b64decode(os.environ["TELNYX_PUBLIC_KEY"]))


class Base(DeclarativeBase):
    """The base of the tables."""


class Message(Base):
    """A webhook that was processed."""

    __tablename__ = "messages"
    id: Mapped[str] = mapped_column(primary_key=True)


class Conversation(Base):
    """A phone and a bot number."""

    __tablename__ = "conversations"
    __table_args__ = (UniqueConstraint("phone", "bot_number"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    phone: Mapped[str]
    bot_number: Mapped[str]
    state: Mapped[str] = mapped_column(default="idle")


class Token(Base):
    """An issued code."""

    __tablename__ = "tokens"
    id: Mapped[str] = mapped_column(primary_key=True)
    conversation_id: Mapped[int] = mapped_column(ForeignKey("conversations.id"), index=True)
    expires_at: Mapped[datetime]


class Text(Base):
    """A text to be sent."""

    __tablename__ = "outbox"
    id: Mapped[int] = mapped_column(primary_key=True)
    conversation_id: Mapped[int] = mapped_column(ForeignKey("conversations.id"), index=True)
    token_id: Mapped[str] = mapped_column(ForeignKey("tokens.id"))
    body: Mapped[str]
    state: Mapped[str] = mapped_column(default="queued", index=True)


engine = create_async_engine(os.environ["DATABASE_URL"])
sessions = async_sessionmaker(engine)
write_lock = asyncio.Lock()


@event.listens_for(engine.sync_engine, "connect")
def prepare(connection: object, _record: object) -> None:
    """Make commits as durable as the bot's."""
    cursor = connection.cursor()  # type: ignore[attr-defined]
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.close()


async def webhook(request: web.Request) -> web.Response:
    """Process one webhook in a transaction of its own."""
    body = await request.read()
    timestamp = request.headers["telnyx-timestamp"].encode()
    KEY.verify(
        timestamp + b"|" + body, base64.b64decode(request.headers["telnyx-signature-ed25519"])
    )
    payload = json.loads(body)["data"]["payload"]
    phone, bot_number = payload["from"]["phone_number"], payload["to"][0]["phone_number"]
    async with write_lock, sessions.begin() as session:
        if await session.get(Message, payload["id"]) is None:
            session.add(Message(id=payload["id"]))
            statement = select(Conversation).filter_by(phone=phone, bot_number=bot_number)
            conversation = (await session.scalars(statement)).first()
            if conversation is None:
                conversation = Conversation(phone=phone, bot_number=bot_number)
                session.add(conversation)
                await session.flush()
            conversation.state = "awaiting_code"
            token = Token(
                id=secrets.token_hex(16),
                conversation_id=conversation.id,
                expires_at=datetime.now(UTC) + timedelta(minutes=10),
            )
            session.add(token)
            await session.flush()
            session.add(
                Text(conversation_id=conversation.id, token_id=token.id, body="code: {code}")
            )
    return web.Response()


async def create_tables(_application: web.Application) -> None:
    """Create the tables."""
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)


if __name__ == "__main__":
    application = web.Application()
    application.add_routes([web.post("/webhooks/telnyx", webhook)])
    application.on_startup.append(create_tables)
    run(application)
