"""The tables. Times are timezone-aware UTC, numbers E.164, states short strings."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Enum,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from bot.conversation.replies import Reply
from bot.conversation.state import Alphabet, State
from bot.conversation.verification import Origin, Reason, RequestOutcome, Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Dialect

MAX_ID_LENGTH = 128
"""The longest id of the carrier's that is kept."""


class OutboxState(StrEnum):
    """How far a text to a person has come. All but `queued` are settled by us."""

    QUEUED = "queued"
    ACCEPTED = "accepted"
    SENT = "sent"
    UNCONFIRMED = "unconfirmed"
    DELIVERED = "delivered"
    FAILED = "failed"
    DROPPED = "dropped"
    CANCELLED = "cancelled"


OUTBOX_FAILURES = (OutboxState.FAILED, OutboxState.DROPPED, OutboxState.CANCELLED)
"""States in which a text has not reached, and will not reach, the person."""


class AppEventState(StrEnum):
    """How far an event has come on its way to the app."""

    QUEUED = "queued"
    DELIVERED = "delivered"
    DEAD = "dead"


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in UTC. SQLite keeps no zone, so it is put back on the way out.

    SQLite's texts are those of SQLAlchemy's own type, written and read in a fifth of its time: of
    all that a webhook cost the database, that was a third.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> Callable[[datetime | None], Any]:
        """Refuse a naive time (ValueError): it would be somebody's local one."""
        return _utc_text if dialect.name == "sqlite" else _utc

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any]:  # noqa: ARG002
        """Return an aware time in UTC."""
        return _utc_of_text if dialect.name == "sqlite" else _utc


_WITHOUT_ZONE = len("2026-01-15 12:00:00.000000")


def _utc(value: datetime | None) -> datetime | None:
    if value is None or value.tzinfo is UTC:
        return value
    if value.tzinfo is None:
        raise ValueError("a naive datetime was to be stored; give it a timezone")
    return value.astimezone(UTC)


@lru_cache(maxsize=256)  # the moments of a batch are the same few
def _utc_text(value: datetime | None) -> str | None:
    moment = _utc(value)
    return None if moment is None else moment.isoformat(" ", "microseconds")[:_WITHOUT_ZONE]


def _utc_of_text(value: str | None) -> datetime | None:
    return None if value is None else datetime.fromisoformat(value).replace(tzinfo=UTC)


class Times(TypeDecorator[tuple[datetime, ...]]):
    """A few moments in UTC, as a JSON list of ISO 8601 strings."""

    impl = JSON
    cache_ok = True

    def process_bind_param(
        self, value: tuple[datetime, ...] | None, _dialect: Dialect
    ) -> list[str]:
        """Write the moments as text."""
        return [moment.isoformat() for moment in value or ()]

    def process_result_value(self, value: Any, _dialect: Dialect) -> tuple[datetime, ...]:
        """Read the moments back."""
        return tuple(datetime.fromisoformat(moment) for moment in value or ())


def _named(kind: type[StrEnum]) -> Enum:
    """Store an enum as its value, typed here and without a CHECK, which Alembic cannot compare."""
    return Enum(
        kind,
        native_enum=False,
        create_constraint=False,
        length=20,
        values_callable=lambda members: [member.value for member in members],
    )


RowId = Annotated[
    int,
    mapped_column(
        BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True
    ),
]
E164 = Annotated[str, mapped_column(String(16))]
CarrierId = Annotated[str, mapped_column(String(MAX_ID_LENGTH))]
TokenId = Annotated[str, mapped_column(String(32))]
Moment = Annotated[datetime, mapped_column(UtcDateTime)]
_QUEUED = text(f"state = '{OutboxState.QUEUED}'")
_TAKEN = text("carrier_id IS NOT NULL")
_QUEUED_CODE = text(f"state = '{OutboxState.QUEUED}' AND token_id IS NOT NULL")
_QUEUED_OTHER = text(f"state = '{OutboxState.QUEUED}' AND token_id IS NULL")
MAX_DOUBTS = 2
"""How often a text is tried when nobody says whether the carrier took it: so many times at most
it reaches the person, should the carrier not heed idempotency keys."""
_QUEUED_IN_DOUBT = text(f"state = '{OutboxState.QUEUED}' AND doubts >= {MAX_DOUBTS}")
_ASKED = text("verification_id IS NOT NULL")
_BY_REFERENCE = text(f"origin = '{Origin.REFERENCE}'")
_BY_FORM = text(f"origin = '{Origin.FORM}'")
_PENDING = text(f"status = '{Status.PENDING}'")
_WAITING = text(f"state = '{AppEventState.QUEUED}'")
_DEAD = text(f"state = '{AppEventState.DEAD}'")


class Base(DeclarativeBase):
    """What all tables share: a convention that names every constraint, for migrations."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    __table__: ClassVar[Table]


class _PhoneLimits:
    """What one phone has spent in one way."""

    phone: Mapped[E164] = mapped_column(primary_key=True)
    wrong_guesses: Mapped[int] = mapped_column(default=0)
    locks: Mapped[int] = mapped_column(default=0)
    locked_until: Mapped[Moment | None]
    refused_until: Mapped[Moment | None]
    told_until: Mapped[Moment | None]
    code_times: Mapped[Any] = mapped_column(Times, default=())


class PhoneLimitsRow(_PhoneLimits, Base):
    """What a phone has spent by text; locking this row locks all conversations of the phone."""

    __tablename__ = "ledgers"


class WebPhoneLimitsRow(_PhoneLimits, Base):
    """What others have spent for a phone: codes that apps asked for, and guesses typed there."""

    __tablename__ = "web_ledgers"


class ConversationRow(Base):
    """One person's number and one of the bot's."""

    __tablename__ = "conversations"
    __table_args__ = (UniqueConstraint("phone", "bot_number"),)

    id: Mapped[RowId]
    phone: Mapped[E164]
    bot_number: Mapped[E164]
    state: Mapped[State] = mapped_column(_named(State))
    verified_at: Mapped[Moment | None]
    # The latest token. No foreign key: tokens point here already, and a circle helps nobody.
    token_id: Mapped[TokenId | None]
    opted_out_at: Mapped[Moment | None]
    opted_in_at: Mapped[Moment | None]
    opt_out_wording: Mapped[str | None] = mapped_column(String(64))
    hints: Mapped[int] = mapped_column(default=0)
    hinted_at: Mapped[Moment | None]
    answers: Mapped[int] = mapped_column(default=0)
    answered_at: Mapped[Moment | None]


class TokenRow(Base):
    """One issued code, without the code."""

    __tablename__ = "tokens"
    __table_args__ = (
        Index("ix_tokens_expires_at", "expires_at"),
        Index(
            "ix_tokens_asked",
            "conversation_id",
            "expires_at",
            sqlite_where=_ASKED,
            postgresql_where=_ASKED,
        ),
    )

    id: Mapped[TokenId] = mapped_column(primary_key=True)
    # No index beside that of tokens that apps asked for: no conversation is ever removed.
    conversation_id: Mapped[int] = mapped_column(ForeignKey("conversations.id", ondelete="CASCADE"))
    key_id: Mapped[str] = mapped_column(String(16))
    length: Mapped[int]
    alphabet: Mapped[Alphabet] = mapped_column(_named(Alphabet))
    issued_at: Mapped[Moment]
    expires_at: Mapped[Moment]
    resend_after: Mapped[Moment]
    guesses: Mapped[int] = mapped_column(default=0)
    used_at: Mapped[Moment | None]
    ended_at: Mapped[Moment | None]
    # No foreign key: SQLite would have to make the table anew for it.
    verification_id: Mapped[TokenId | None]
    origin: Mapped[Origin] = mapped_column(
        _named(Origin), default=Origin.PERSON, server_default=Origin.PERSON
    )


class VerificationRow(Base):
    """An app's request and its result; `id` orders, `name` is what the app knows it by."""

    __tablename__ = "verifications"
    __table_args__ = (
        # A reference that people text is theirs alone; the app's own names need not be.
        Index(
            "uq_verifications_reference",
            "reference",
            unique=True,
            sqlite_where=_BY_REFERENCE,
            postgresql_where=_BY_REFERENCE,
        ),
        Index(
            "ix_verifications_pending",
            "expires_at",
            sqlite_where=_PENDING,
            postgresql_where=_PENDING,
        ),
        Index(
            "ix_verifications_form",
            "created_at",
            sqlite_where=_BY_FORM,
            postgresql_where=_BY_FORM,
        ),
        # A list of few among many would else be looked for in all.
        Index("ix_verifications_status", "status", "id"),
    )

    id: Mapped[RowId]
    name: Mapped[TokenId] = mapped_column(unique=True)
    origin: Mapped[Origin] = mapped_column(_named(Origin))
    bot_number: Mapped[E164]
    phone: Mapped[E164 | None] = mapped_column(index=True)
    reference: Mapped[str | None] = mapped_column(String(128), index=True)
    # Not `metadata`: SQLAlchemy's own.
    details: Mapped[Any] = mapped_column(JSON)
    status: Mapped[Status] = mapped_column(_named(Status))
    reason: Mapped[Reason | None] = mapped_column(_named(Reason))
    created_at: Mapped[Moment] = mapped_column(index=True)
    expires_at: Mapped[Moment]
    ended_at: Mapped[Moment | None]
    session: Mapped[str | None] = mapped_column(String(64), index=True)
    asked_from: Mapped[str | None] = mapped_column(String(64))
    test: Mapped[bool]


class AppEventRow(Base):
    """Something the app is told of, kept until long after it knows.

    `name` is the id it is told under, the same at every try; `subject` what it is about, of which
    only the oldest is on its way; `body` is what is posted, byte for byte.
    """

    __tablename__ = "events"
    __table_args__ = (
        Index(
            "ix_events_queued", "subject", "id", sqlite_where=_WAITING, postgresql_where=_WAITING
        ),
        Index("ix_events_due", "due_at", sqlite_where=_WAITING, postgresql_where=_WAITING),
        Index("ix_events_created_at", "created_at"),
        Index("ix_events_dead", "id", sqlite_where=_DEAD, postgresql_where=_DEAD),
    )

    id: Mapped[RowId]
    name: Mapped[str] = mapped_column(String(40), unique=True)
    subject: Mapped[TokenId]
    type: Mapped[str] = mapped_column(String(40))
    body: Mapped[str] = mapped_column(Text)
    state: Mapped[AppEventState] = mapped_column(_named(AppEventState))
    created_at: Mapped[Moment]
    due_at: Mapped[Moment]
    attempts: Mapped[int]
    fault: Mapped[str | None] = mapped_column(String(64))


class DisabledEndpointRow(Base):
    """An address that events go to and that has said it is gone (410): nothing goes there."""

    __tablename__ = "receivers"

    url_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    disabled_at: Mapped[Moment]


class ApiKeyRow(Base):
    """An API key, without the key: `secret_hash` is the SHA-256 of its 256 random bits.

    `name` is public, the part of the key that finds this row; `title` is the operator's word.
    """

    __tablename__ = "keys"

    id: Mapped[RowId]
    name: Mapped[str] = mapped_column(String(16), unique=True)
    title: Mapped[str] = mapped_column(String(64))
    secret_hash: Mapped[str] = mapped_column(String(64))
    scopes: Mapped[str] = mapped_column(String(200))
    per_minute: Mapped[int]
    created_at: Mapped[Moment]
    revoked_at: Mapped[Moment | None]


class IdempotencyKeyRow(Base):
    """A request of an app that was answered, by its Idempotency-Key: it is carried out once.

    `key` names the app's key and its word; `fingerprint` is a hash of what was asked.
    """

    __tablename__ = "requests"

    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(String(64))
    outcome: Mapped[RequestOutcome] = mapped_column(_named(RequestOutcome))
    verification_name: Mapped[TokenId]
    tries_left: Mapped[int]
    answered_at: Mapped[Moment] = mapped_column(index=True)


class OutboxRow(Base):
    """A text to a person, kept until long after it has left.

    `key` is the idempotency key for the carrier: random, since a counter would repeat itself
    when a database is made anew; nothing is looked up by it. `due_at` is when the row may be
    claimed next; a claim moves it ahead by the lease. `doubts` counts the tries of which nobody
    said how they ended. `fault` says why it has not been accepted. `bot_number` is the
    conversation's, here for the indexes by which what may leave next is found, however much waits:
    codes, others, and what is to be dropped.
    """

    __tablename__ = "outbox"
    __table_args__ = (
        Index(
            "ix_outbox_queued",
            "conversation_id",
            "id",
            sqlite_where=_QUEUED,
            postgresql_where=_QUEUED,
        ),
        Index(
            "ix_outbox_codes",
            "bot_number",
            "due_at",
            "id",
            sqlite_where=_QUEUED_CODE,
            postgresql_where=_QUEUED_CODE,
        ),
        Index(
            "ix_outbox_others",
            "bot_number",
            "due_at",
            "id",
            sqlite_where=_QUEUED_OTHER,
            postgresql_where=_QUEUED_OTHER,
        ),
        Index("ix_outbox_send_by", "send_by", sqlite_where=_QUEUED, postgresql_where=_QUEUED),
        Index(
            "ix_outbox_in_doubt",
            "due_at",
            sqlite_where=_QUEUED_IN_DOUBT,
            postgresql_where=_QUEUED_IN_DOUBT,
        ),
        Index("ix_outbox_created_at", "created_at"),
        Index(
            "ix_outbox_carrier_id",
            "carrier_id",
            sqlite_where=_TAKEN,
            postgresql_where=_TAKEN,
        ),
    )

    id: Mapped[RowId]
    key: Mapped[str] = mapped_column(String(32))
    conversation_id: Mapped[int] = mapped_column(ForeignKey("conversations.id", ondelete="CASCADE"))
    token_id: Mapped[TokenId | None] = mapped_column(
        ForeignKey("tokens.id", ondelete="SET NULL"), index=True
    )
    bot_number: Mapped[E164] = mapped_column(server_default=text("''"))
    reply: Mapped[Reply] = mapped_column(_named(Reply))
    body: Mapped[str] = mapped_column(Text)
    state: Mapped[OutboxState] = mapped_column(_named(OutboxState))
    created_at: Mapped[Moment]
    send_by: Mapped[Moment]
    due_at: Mapped[Moment]
    attempts: Mapped[int] = mapped_column(default=0)
    doubts: Mapped[int] = mapped_column(default=0, server_default="0")
    carrier_id: Mapped[CarrierId | None]
    fault: Mapped[str | None] = mapped_column(String(64))


class ThrottleRow(Base):
    """How fast texts leave: of the account, or of one number of the bot, by whose name it goes.

    `next_at` is when the next may leave; `halvings` how often the pace was halved, `halved_at`
    when last.
    """

    __tablename__ = "paces"

    name: Mapped[E164] = mapped_column(primary_key=True)
    next_at: Mapped[Moment]
    halvings: Mapped[int] = mapped_column(default=0)
    halved_at: Mapped[Moment | None]


class ClockDriftRow(Base):
    """A process whose wall clock and steady clock differ.

    The wall clock is ahead by so many `seconds`; `measured_at` is by the wall clock too.
    """

    __tablename__ = "clock_drifts"

    process: Mapped[str] = mapped_column(String(80), primary_key=True)
    seconds: Mapped[float]
    measured_at: Mapped[Moment]


class ProcessedWebhookRow(Base):
    """The key of a webhook that has been applied: the unique key answers whether it is new."""

    __tablename__ = "received"

    key: Mapped[str] = mapped_column(String(MAX_ID_LENGTH + 8), primary_key=True)
    received_at: Mapped[Moment] = mapped_column(index=True)


class EarlyReportRow(Base):
    """A delivery report that came before the API's answer: kept until the text is settled."""

    __tablename__ = "reports"

    carrier_id: Mapped[CarrierId] = mapped_column(primary_key=True)
    state: Mapped[OutboxState] = mapped_column(_named(OutboxState))
    fault: Mapped[str | None] = mapped_column(String(64))
    received_at: Mapped[Moment] = mapped_column(index=True)
