"""Column types: times in UTC, lists of times, and enums stored by their value."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import JSON, DateTime, Enum, TypeDecorator

if TYPE_CHECKING:
    from collections.abc import Callable
    from enum import StrEnum

    from sqlalchemy import Dialect

_LENGTH_WITHOUT_ZONE = len("2026-01-15 12:00:00.000000")


class UtcDateTime(TypeDecorator[datetime]):
    """A time in UTC. SQLite stores no time zone, so reading adds it again.

    SQLite's text format is the one of SQLAlchemy's own type, written and read in a fifth of its
    time. SQLAlchemy's conversion was a third of a webhook's database work.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> Callable[[datetime | None], Any]:
        """Return the conversion to UTC; it raises ValueError for a naive time."""
        return _to_utc_text if dialect.name == "sqlite" else _to_utc

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any]:  # noqa: ARG002
        """Return the conversion to an aware time in UTC."""
        return _from_utc_text if dialect.name == "sqlite" else _to_utc


class DateTimeList(TypeDecorator[tuple[datetime, ...]]):
    """A few times in UTC, stored as a JSON list of ISO 8601 strings."""

    impl = JSON
    cache_ok = True

    def process_bind_param(
        self, value: tuple[datetime, ...] | None, _dialect: Dialect
    ) -> list[str]:
        """Convert the times to text."""
        return [time.isoformat() for time in value or ()]

    def process_result_value(self, value: Any, _dialect: Dialect) -> tuple[datetime, ...]:
        """Convert the text to times."""
        return tuple(datetime.fromisoformat(time) for time in value or ())


class ChannelTimes(TypeDecorator[Mapping[str, datetime]]):
    """A time in UTC for each of a few channels, stored as a JSON object; NULL for none."""

    impl = JSON(none_as_null=True)
    cache_ok = True

    def process_bind_param(
        self, value: Mapping[str, datetime] | None, _dialect: Dialect
    ) -> dict[str, str] | None:
        """Convert the times to text."""
        return {name: time.isoformat() for name, time in value.items()} if value else None

    def process_result_value(self, value: Any, _dialect: Dialect) -> Mapping[str, datetime]:
        """Convert the text to times."""
        return {name: datetime.fromisoformat(time) for name, time in (value or {}).items()}


def string_enum(enum_class: type[StrEnum]) -> Enum:
    """Return a type that stores an enum's value, without a CHECK, which Alembic cannot compare."""
    return Enum(
        enum_class,
        native_enum=False,
        create_constraint=False,
        length=20,
        values_callable=lambda members: [member.value for member in members],
    )


def _to_utc(value: datetime | None) -> datetime | None:
    if value is None or value.tzinfo is UTC:
        return value
    if value.tzinfo is None:
        raise ValueError("cannot store a naive datetime; give it a timezone")
    return value.astimezone(UTC)


@lru_cache(maxsize=256)  # the rows of a batch share a few times
def _to_utc_text(value: datetime | None) -> str | None:
    time = _to_utc(value)
    return None if time is None else time.isoformat(" ", "microseconds")[:_LENGTH_WITHOUT_ZONE]


def _from_utc_text(value: str | None) -> datetime | None:
    return None if value is None else datetime.fromisoformat(value).replace(tzinfo=UTC)
