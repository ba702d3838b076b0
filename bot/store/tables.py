"""The tables. Times are timezone-aware UTC, phone numbers E.164, states short strings."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar

from sqlalchemy import (
    JSON,
    BigInteger,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from bot.conversation.channels import MAX_CHANNEL_LENGTH
from bot.conversation.replies import MAX_LABEL_LENGTH, Reply
from bot.conversation.state import Alphabet, State
from bot.conversation.verification import (
    Complete,
    Origin,
    Reason,
    ReplyRule,
    RequestOutcome,
    Status,
)
from bot.store.sql.column_types import ChannelTimes, DateTimeList, UtcDateTime, string_enum

MAX_ID_LENGTH = 128
"""The longest id of the carrier that is stored, in characters."""
MAX_ALERT_CODE_LENGTH = 32
MAX_ALERT_SCOPE_LENGTH = 64


class OutboxState(StrEnum):
    """The delivery state of a text to a person; only a `queued` one is sent, or sent again."""

    QUEUED = "queued"
    ACCEPTED = "accepted"
    SENT = "sent"
    UNCONFIRMED = "unconfirmed"
    DELIVERED = "delivered"
    FAILED = "failed"
    DROPPED = "dropped"
    CANCELLED = "cancelled"


OUTBOX_FAILURES = (OutboxState.FAILED, OutboxState.DROPPED, OutboxState.CANCELLED)
"""The states of a text that has not reached, and will not reach, the person."""


class AppEventState(StrEnum):
    """The delivery state of an app event."""

    QUEUED = "queued"
    DELIVERED = "delivered"
    DEAD = "dead"


class FormAttempt(StrEnum):
    """What is counted at the web form."""

    REQUEST = "request"
    """A request for a code, or for sending it again, whether or not a text was sent for it."""
    WAIT = "wait"
    """A request after a wait instead of a proof of work."""
    GUESS = "guess"
    """A code that was typed and was not right."""


RowId = Annotated[
    int,
    mapped_column(
        BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True
    ),
]
E164 = Annotated[str, mapped_column(String(16))]
CarrierId = Annotated[str, mapped_column(String(MAX_ID_LENGTH))]
ChannelName = Annotated[str, mapped_column(String(MAX_CHANNEL_LENGTH))]
TokenId = Annotated[str, mapped_column(String(32))]
Time = Annotated[datetime, mapped_column(UtcDateTime)]
_QUEUED = f"state = '{OutboxState.QUEUED}'"
_HAS_CARRIER_ID = "carrier_id IS NOT NULL"
_QUEUED_CODE = f"state = '{OutboxState.QUEUED}' AND token_id IS NOT NULL"
_QUEUED_OTHER = f"state = '{OutboxState.QUEUED}' AND token_id IS NULL"
MAX_UNCERTAIN_ATTEMPTS = 2
"""How often a text is sent while it is unknown whether the carrier accepted it. The person receives
it at most so many times if the carrier ignores idempotency keys."""
_QUEUED_UNCERTAIN = (
    f"state = '{OutboxState.QUEUED}' AND uncertain_attempts >= {MAX_UNCERTAIN_ATTEMPTS}"
)
_HAS_VERIFICATION = "verification_id IS NOT NULL"
_BY_REFERENCE = f"origin = '{Origin.REFERENCE}'"
_FOR_FORM = f"origin = '{Origin.FORM}'"
_PENDING = f"status = '{Status.PENDING}'"
_QUEUED_EVENT = f"state = '{AppEventState.QUEUED}'"
_DEAD_EVENT = f"state = '{AppEventState.DEAD}'"


def _partial_index(name: str, *columns: str, where: str, unique: bool = False) -> Index:
    condition = text(where)
    return Index(name, *columns, unique=unique, sqlite_where=condition, postgresql_where=condition)


class Base(DeclarativeBase):
    """The base of all tables, with a naming convention by which migrations find constraints."""

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


class PhoneLimitsRow(Base):
    """The limits of a phone, with its counts by text.

    Locking this row locks all conversations of the phone, and its limits in all channels.
    """

    __tablename__ = "phone_limits"

    phone: Mapped[E164] = mapped_column(primary_key=True)
    wrong_guesses: Mapped[int] = mapped_column(default=0)
    locks: Mapped[int] = mapped_column(default=0)
    locked_until: Mapped[Time | None]
    # The end of the wait that the person was last notified of.
    notified_until: Mapped[Time | None]
    code_times: Mapped[Any] = mapped_column(DateTimeList, default=())
    # NULL in rows of earlier versions, read as an empty list: adding it rewrites no table.
    unknown_reference_times: Mapped[Any | None] = mapped_column(DateTimeList, default=())
    key_code_times: Mapped[Any | None] = mapped_column(DateTimeList, default=())
    form_code_times: Mapped[Any | None] = mapped_column(DateTimeList, default=())
    failures: Mapped[int] = mapped_column(default=0, server_default="0")
    wrong_times: Mapped[Any | None] = mapped_column(DateTimeList, default=())
    # Until when a channel is closed for the phone, by the channel; NULL if none is.
    closed: Mapped[Any | None] = mapped_column(ChannelTimes)


class ChannelLimitsRow(Base):
    """The counts and locks of one phone in one channel; those by text are in `phone_limits`."""

    __tablename__ = "channel_limits"

    phone: Mapped[E164] = mapped_column(primary_key=True)
    channel: Mapped[ChannelName] = mapped_column(primary_key=True)
    wrong_guesses: Mapped[int] = mapped_column(default=0)
    locks: Mapped[int] = mapped_column(default=0)
    locked_until: Mapped[Time | None]
    failures: Mapped[int] = mapped_column(default=0)
    wrong_times: Mapped[Any] = mapped_column(DateTimeList, default=())


class PersonRow(Base):
    """What belongs to a phone at all of the bot's numbers; without a row there is nothing to keep.

    `not_mes` counts the NOT MEs, each of which refuses the form's codes for longer.
    """

    __tablename__ = "people"

    phone: Mapped[E164] = mapped_column(primary_key=True)
    opted_out: Mapped[bool]
    opted_out_at: Mapped[Time | None]
    opted_in_at: Mapped[Time | None]
    opt_out_wording: Mapped[str | None] = mapped_column(String(64))
    verified_at: Mapped[Time | None]
    # The latest success of a plain VERIFY, which no app or form has asked for.
    verified_alone_at: Mapped[Time | None]
    not_me_at: Mapped[Time | None]
    not_mes: Mapped[int]
    cancelled_at: Mapped[Time | None]
    own_code_at: Mapped[Time | None]


class ConversationRow(Base):
    """A conversation: one person's number and one of the bot's.

    `phone` is the canonical spelling of the person's number; `texted_from` is the spelling that
    last texted us, if another, and `unreachable` the one to which texts have failed for good.
    `blocked_at` is when the carrier blocked texts from this bot number alone.
    """

    __tablename__ = "conversations"
    __table_args__ = (UniqueConstraint("phone", "bot_number"),)

    id: Mapped[RowId]
    phone: Mapped[E164]
    bot_number: Mapped[E164]
    state: Mapped[State] = mapped_column(string_enum(State))
    # The latest token. No foreign key: tokens refer to conversations already.
    token_id: Mapped[TokenId | None]
    blocked_at: Mapped[Time | None]
    hints_in_a_row: Mapped[int] = mapped_column(default=0)
    last_hint_at: Mapped[Time | None]
    answers_in_a_row: Mapped[int] = mapped_column(default=0)
    last_answer_at: Mapped[Time | None]
    texted_from: Mapped[E164 | None]
    unreachable: Mapped[E164 | None]


class TokenRow(Base):
    """One issued code, without the code."""

    __tablename__ = "tokens"
    __table_args__ = (
        Index("ix_tokens_expires_at", "expires_at"),
        _partial_index(
            "ix_tokens_with_verification", "conversation_id", "expires_at", where=_HAS_VERIFICATION
        ),
    )

    id: Mapped[TokenId] = mapped_column(primary_key=True)
    # Indexed only for tokens of verifications: no conversation is ever deleted.
    conversation_id: Mapped[int] = mapped_column(ForeignKey("conversations.id", ondelete="CASCADE"))
    key_id: Mapped[str] = mapped_column(String(16))
    length: Mapped[int]
    alphabet: Mapped[Alphabet] = mapped_column(string_enum(Alphabet))
    issued_at: Mapped[Time]
    expires_at: Mapped[Time]
    resend_after: Mapped[Time]
    guesses: Mapped[int] = mapped_column(default=0)
    used_at: Mapped[Time | None]
    ended_at: Mapped[Time | None]
    # `public_id` of the verification. No foreign key: SQLite would have to rebuild the table.
    verification_id: Mapped[TokenId | None]
    origin: Mapped[Origin] = mapped_column(
        string_enum(Origin), default=Origin.PERSON, server_default=Origin.PERSON
    )
    reply_rule: Mapped[ReplyRule] = mapped_column(
        string_enum(ReplyRule), default=ReplyRule.CODE, server_default=ReplyRule.NONE
    )
    letters_index: Mapped[int] = mapped_column(default=0, server_default="0")
    # Whether a reply has said where to type the code, since it was last sent.
    explained: Mapped[bool] = mapped_column(default=False, server_default=false())
    # NULL in rows of earlier versions.
    channel: Mapped[ChannelName | None]


class VerificationRow(Base):
    """An app's request and its result; `id` orders the rows, the app uses `public_id`."""

    __tablename__ = "verifications"
    __table_args__ = (
        # A reference that people text is unique; references of the app's own need not be.
        _partial_index("uq_verifications_reference", "reference", unique=True, where=_BY_REFERENCE),
        _partial_index("ix_verifications_pending", "expires_at", where=_PENDING),
        # Without it, a list of a rare status would read the whole table.
        Index("ix_verifications_status", "status", "id"),
    )

    id: Mapped[RowId]
    public_id: Mapped[TokenId] = mapped_column(unique=True)
    origin: Mapped[Origin] = mapped_column(string_enum(Origin))
    bot_number: Mapped[E164]
    phone: Mapped[E164 | None] = mapped_column(index=True)
    reference: Mapped[str | None] = mapped_column(String(128), index=True)
    # The attribute `metadata` is SQLAlchemy's.
    metadata_: Mapped[Any] = mapped_column("metadata", JSON)
    status: Mapped[Status] = mapped_column(string_enum(Status))
    reason: Mapped[Reason | None] = mapped_column(string_enum(Reason))
    created_at: Mapped[Time] = mapped_column(index=True)
    expires_at: Mapped[Time]
    ended_at: Mapped[Time | None]
    revoked_at: Mapped[Time | None]
    session: Mapped[str | None] = mapped_column(String(64), index=True)
    test: Mapped[bool]
    complete: Mapped[Complete] = mapped_column(string_enum(Complete), server_default=Complete.TYPED)
    letters_index: Mapped[int] = mapped_column(server_default="0")
    # The length of its code; NULL while none was sent.
    code_length: Mapped[int | None]
    # What the code text of a reference says that it is about.
    label: Mapped[str | None] = mapped_column(String(MAX_LABEL_LENGTH))


class AppEventRow(Base):
    """An event that is sent to the app, kept for a while after it was delivered.

    `public_id` is the id that the app receives, the same at every attempt. `subject` is what the
    event is about; of each subject only the oldest queued event is sent. `body` is posted byte for
    byte.
    """

    __tablename__ = "app_events"
    __table_args__ = (
        _partial_index("ix_app_events_queued", "subject", "id", where=_QUEUED_EVENT),
        _partial_index("ix_app_events_due", "due_at", where=_QUEUED_EVENT),
        Index("ix_app_events_created_at", "created_at"),
        _partial_index("ix_app_events_dead", "id", where=_DEAD_EVENT),
    )

    id: Mapped[RowId]
    public_id: Mapped[str] = mapped_column(String(40), unique=True)
    subject: Mapped[TokenId]
    type: Mapped[str] = mapped_column(String(40))
    body: Mapped[str] = mapped_column(Text)
    state: Mapped[AppEventState] = mapped_column(string_enum(AppEventState))
    created_at: Mapped[Time]
    due_at: Mapped[Time]
    attempts: Mapped[int]
    fault: Mapped[str | None] = mapped_column(String(64))


class OptEventCountRow(Base):
    """The events about opt-outs and opt-ins of one phone in the last hour.

    `latest` is the type of the last change, at `bot_number`; `due_at` is when what was left out may
    be reported, or the row be deleted.
    """

    __tablename__ = "opt_event_counts"

    phone: Mapped[E164] = mapped_column(primary_key=True)
    bot_number: Mapped[E164]
    latest: Mapped[str] = mapped_column(String(40))
    reported_at: Mapped[Any] = mapped_column(DateTimeList)
    left_out: Mapped[int]
    due_at: Mapped[Time] = mapped_column(index=True)


class AlertRow(Base):
    """The last alert of a kind; `logged` is whether a process has written it to its log."""

    __tablename__ = "alerts"
    __table_args__ = (_partial_index("ix_alerts_not_logged", "code", where="NOT logged"),)

    code: Mapped[str] = mapped_column(String(MAX_ALERT_CODE_LENGTH), primary_key=True)
    scope: Mapped[str] = mapped_column(String(MAX_ALERT_SCOPE_LENGTH), primary_key=True)
    message: Mapped[str] = mapped_column(Text)
    action: Mapped[str] = mapped_column(Text)
    raised_at: Mapped[Time]
    logged: Mapped[bool] = mapped_column(default=False)


class CounterRow(Base):
    """How often something happened over all phones, in the period that began at `began_at`."""

    __tablename__ = "counters"

    name: Mapped[str] = mapped_column(String(80), primary_key=True)
    began_at: Mapped[Time]
    value: Mapped[int]


class DisabledEndpointRow(Base):
    """An app's endpoint that has answered 410 (Gone): no app event is sent there."""

    __tablename__ = "disabled_endpoints"

    url_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    disabled_at: Mapped[Time]


class ApiKeyRow(Base):
    """An API key, without the key: `secret_hash` is the SHA-256 of its 256 random bits.

    `public_id` is the part of the key by which this row is found; `title` is the operator's name
    for the key.
    """

    __tablename__ = "api_keys"

    id: Mapped[RowId]
    public_id: Mapped[str] = mapped_column(String(16), unique=True)
    title: Mapped[str] = mapped_column(String(64))
    secret_hash: Mapped[str] = mapped_column(String(64))
    scopes: Mapped[str] = mapped_column(String(200))
    per_minute: Mapped[int]
    created_at: Mapped[Time]
    revoked_at: Mapped[Time | None]


class IdempotencyKeyRow(Base):
    """An app's request with an Idempotency-Key that was answered; it is carried out only once.

    `key` is a hash of the API key and the Idempotency-Key, `fingerprint` one of the request.
    """

    __tablename__ = "idempotency_keys"

    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(String(64))
    outcome: Mapped[RequestOutcome] = mapped_column(string_enum(RequestOutcome))
    verification_id: Mapped[TokenId]
    tries_left: Mapped[int]
    answered_at: Mapped[Time] = mapped_column(index=True)


class OutboxRow(Base):
    """A text to a person, kept for a while after it was sent.

    `key` is the idempotency key for the carrier. It is random, since a counter would start again
    with a new database; no query searches for it. `due_at` is when the row may be claimed next; a
    claim moves it ahead by the lease. `uncertain_attempts` counts the attempts whose outcome is
    unknown. `fault` says why the text has not been accepted. `bot_number` is the conversation's;
    it is repeated here for the indexes that find the next texts however long the queue is: codes,
    other texts, and texts that must be dropped. `recipient` is the spelling of the phone's number
    to which the text goes, if not the canonical one; it stays the same when the text is sent again.
    `origin` says how the code in the text was requested, and is None if there is none; budgets are
    counted by it.
    """

    __tablename__ = "outbox"
    __table_args__ = (
        _partial_index("ix_outbox_queued", "conversation_id", "id", where=_QUEUED),
        _partial_index("ix_outbox_codes", "bot_number", "due_at", "id", where=_QUEUED_CODE),
        _partial_index("ix_outbox_others", "bot_number", "due_at", "id", where=_QUEUED_OTHER),
        _partial_index("ix_outbox_send_by", "send_by", where=_QUEUED),
        _partial_index("ix_outbox_uncertain", "due_at", where=_QUEUED_UNCERTAIN),
        Index("ix_outbox_created_at", "created_at"),
        _partial_index("ix_outbox_carrier_id", "carrier_id", where=_HAS_CARRIER_ID),
        _partial_index("ix_outbox_form", "created_at", where=_FOR_FORM),
    )

    id: Mapped[RowId]
    key: Mapped[str] = mapped_column(String(32))
    conversation_id: Mapped[int] = mapped_column(ForeignKey("conversations.id", ondelete="CASCADE"))
    token_id: Mapped[TokenId | None] = mapped_column(
        ForeignKey("tokens.id", ondelete="SET NULL"), index=True
    )
    bot_number: Mapped[E164] = mapped_column(server_default=text("''"))
    recipient: Mapped[E164 | None]
    reply: Mapped[Reply] = mapped_column(string_enum(Reply))
    body: Mapped[str] = mapped_column(Text)
    state: Mapped[OutboxState] = mapped_column(string_enum(OutboxState))
    created_at: Mapped[Time]
    send_by: Mapped[Time]
    due_at: Mapped[Time]
    attempts: Mapped[int] = mapped_column(default=0)
    uncertain_attempts: Mapped[int] = mapped_column(default=0, server_default="0")
    carrier_id: Mapped[CarrierId | None]
    fault: Mapped[str | None] = mapped_column(String(64))
    origin: Mapped[Origin | None] = mapped_column(string_enum(Origin))


class FormAttemptRow(Base):
    """An attempt at the web form that counts towards a limit of its `subject`.

    The subject is the hash of a network or of a browser session, or "" for all together.
    """

    __tablename__ = "form_attempts"
    __table_args__ = (
        Index("ix_form_attempts_subject", "subject", "kind", "made_at"),
        Index("ix_form_attempts_made_at", "made_at"),
    )

    id: Mapped[RowId]
    kind: Mapped[FormAttempt] = mapped_column(string_enum(FormAttempt))
    subject: Mapped[str] = mapped_column(String(64))
    made_at: Mapped[Time]


class FormProofRow(Base):
    """A proof of work that was used at the web form; the primary key prevents a second time."""

    __tablename__ = "form_proofs"

    proof: Mapped[TokenId] = mapped_column(primary_key=True)
    used_at: Mapped[Time] = mapped_column(index=True)


class FormWaitRow(Base):
    """The wait of a person whose browser cannot do the proof of work; a network has only one.

    `network` and `session` are hashes; the code may be requested from `ready_at` on.
    """

    __tablename__ = "form_waits"

    network: Mapped[str] = mapped_column(String(64), primary_key=True)
    session: Mapped[str] = mapped_column(String(64))
    ready_at: Mapped[Time] = mapped_column(index=True)


class ThrottleRow(Base):
    """The throttle of the account or of one bot number, whose `name` is that number.

    `next_at` is when the next text may be sent. `halvings` counts how often the rate was halved,
    `halved_at` is when it was last halved.
    """

    __tablename__ = "throttles"

    name: Mapped[E164] = mapped_column(primary_key=True)
    next_at: Mapped[Time]
    halvings: Mapped[int] = mapped_column(default=0)
    halved_at: Mapped[Time | None]


class ClockDriftRow(Base):
    """A process whose wall clock and monotonic clock differ.

    `seconds` is how far the wall clock is ahead; `measured_at` is a time of the wall clock too.
    """

    __tablename__ = "clock_drifts"

    process: Mapped[str] = mapped_column(String(80), primary_key=True)
    seconds: Mapped[float]
    measured_at: Mapped[Time]


class ProcessedWebhookRow(Base):
    """The key of a webhook that has been processed; the primary key prevents a second time."""

    __tablename__ = "processed_webhooks"

    key: Mapped[str] = mapped_column(String(MAX_ID_LENGTH + 8), primary_key=True)
    processed_at: Mapped[Time] = mapped_column(index=True)


class EarlyReportRow(Base):
    """A delivery report that came before the API's response, kept until the text is settled."""

    __tablename__ = "early_reports"

    carrier_id: Mapped[CarrierId] = mapped_column(primary_key=True)
    state: Mapped[OutboxState] = mapped_column(string_enum(OutboxState))
    fault: Mapped[str | None] = mapped_column(String(64))
    received_at: Mapped[Time] = mapped_column(index=True)
