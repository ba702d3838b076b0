"""The limits of each phone: one row with its counts by text, and one for each other channel.

The first is the phone's lock: only the transaction that holds it decides for the phone, or reads
its limits in other channels to change them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import String, cast, exists, func, literal, literal_column, null, select

from bot.conversation.channels import Channel
from bot.conversation.state import NOTHING_USED, ChannelLimits, Closing, PhoneLimits
from bot.store.sql.array_param import array_param
from bot.store.sql.bulk_insert import insert_missing_from, insert_or_update
from bot.store.tables import ChannelLimitsRow, PhoneLimitsRow

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sqlalchemy import ColumnElement, Connection, Row, Select

_LIMITS, _CHANNELS = PhoneLimitsRow.__table__, ChannelLimitsRow.__table__
_IN_CHANNEL = ("wrong_guesses", "locks", "locked_until", "failures", "wrong_times")
_SAME_NAMES = (
    *_IN_CHANNEL,
    "code_times",
    "key_code_times",
    "form_code_times",
    "unknown_reference_times",
)
_FIELD_OF_COLUMN = {column: column for column in _SAME_NAMES} | {"notified_until": "told_until"}
_EMPTY_ROWS = array_param("phones", String()).add_columns(
    *(
        literal(getattr(NOTHING_USED, _FIELD_OF_COLUMN[column.name]), column.type)
        if column.name in _FIELD_OF_COLUMN
        else cast(null(), column.type)
        for column in _LIMITS.columns
        if column is not _LIMITS.c.phone
    )
)
_OF_PHONES = _LIMITS.c.phone.in_(array_param("phones", String()))
# In the order of their key, so that transactions do not deadlock.
_ROWS = select(_LIMITS).where(_OF_PHONES).order_by(_LIMITS.c.phone)
_LOCK = _ROWS.with_for_update()
_LOCK_FREE = _ROWS.with_for_update(skip_locked=True)
_CHANNELS_OF_PHONES = select(_CHANNELS).where(
    _CHANNELS.c.phone.in_(array_param("phones", String()))
)
# The advisory locks of phones without a row. A row that another transaction is inserting is
# invisible, and inserting it too would wait for that transaction.
_NEW_PHONE_LOCK: ColumnElement[int] = literal_column("2119630849")


def _lock_new(phones: Select[Any]) -> Select[Any]:
    """Select the phones that have no row and whose advisory lock this transaction gets."""
    (phone, *_) = phones.selected_columns
    locked = func.pg_try_advisory_xact_lock(_NEW_PHONE_LOCK, func.hashtext(phone))
    return phones.where(~exists().where(_LIMITS.c.phone == phone), locked)


_LOCK_NEW = _lock_new(array_param("phones", String()))
_NEW_EMPTY_ROWS = _lock_new(_EMPTY_ROWS)


class LockedLimits(NamedTuple):
    """The limits that were locked, and the locked phones (E.164) that have no row yet."""

    limits_of: dict[str, PhoneLimits]
    without_row: set[str]

    @property
    def phones(self) -> set[str]:
        """Return the phones for which no other transaction decides until this one ends."""
        return self.limits_of.keys() | self.without_row


def lock_free(
    connection: Connection, phones: Iterable[str], create_for: Iterable[str] = ()
) -> LockedLimits:
    """Lock and read the limits of those `phones` (E.164) that no other transaction has locked.

    A phone in `create_for` that has no row gets one; other phones get none, so that a refused
    request leaves no row.
    """
    all_phones = sorted({*phones, *create_for})
    if not all_phones:
        return LockedLimits({}, set())
    rows = connection.execute(_LOCK_FREE, {"phones": all_phones})
    found = {row.phone: _limits(row) for row in rows}
    missing = [phone for phone in all_phones if phone not in found]
    created = set(create_for).intersection(missing)
    without_row = set(missing) - created
    if connection.dialect.name != "sqlite":  # there, the transaction itself is the lock
        created = _insert_new(connection, created)
        if without_row:
            free = connection.scalars(_LOCK_NEW, {"phones": sorted(without_row)})
            without_row = set(free)
    return LockedLimits(found | dict.fromkeys(created, NOTHING_USED), without_row)


def _insert_new(connection: Connection, phones: set[str]) -> set[str]:
    """Insert rows for phones that no other transaction has locked, and return these phones."""
    if not phones:
        return set()
    new, phone = {"phones": sorted(phones)}, _LIMITS.c.phone
    return set(insert_missing_from(connection, _LIMITS, _NEW_EMPTY_ROWS, new, phone))


def lock(connection: Connection, phones: Iterable[str]) -> dict[str, PhoneLimits]:
    """Lock and read the limits of `phones` (E.164), waiting for other transactions."""
    ordered = sorted(set(phones))
    if not ordered:
        return {}
    if connection.dialect.name != "sqlite":  # there, the transaction itself is the lock
        insert_missing_from(connection, _LIMITS, _EMPTY_ROWS, {"phones": ordered})
    rows = connection.execute(_LOCK, {"phones": ordered})
    return dict.fromkeys(ordered, NOTHING_USED) | {row.phone: _limits(row) for row in rows}


def read(connection: Connection, phone: str) -> PhoneLimits:
    """Read a phone's limits without a lock; those of an unknown phone are empty."""
    row = connection.execute(select(_LIMITS).where(_LIMITS.c.phone == phone)).first()
    return _limits(row) if row else NOTHING_USED


def save(connection: Connection, limits_of: Mapping[str, PhoneLimits]) -> None:
    """Write changed limits, all in one statement."""
    if limits_of:
        rows = [_row(phone, limits) for phone, limits in limits_of.items()]
        insert_or_update(connection, _LIMITS, rows)


def read_channels(
    connection: Connection, phones: Iterable[str]
) -> dict[tuple[str, Channel], ChannelLimits]:
    """Read the limits of `phones` (E.164) in the channels that have any, but for texts.

    To change them, hold the locks of the phones.
    """
    rows = connection.execute(_CHANNELS_OF_PHONES, {"phones": sorted(set(phones))})
    return {
        (row.phone, Channel(row.channel)): ChannelLimits(
            **{name: getattr(row, name) for name in _IN_CHANNEL}
        )
        for row in rows
    }


def save_channels(
    connection: Connection, limits_of: Mapping[tuple[str, Channel], ChannelLimits]
) -> None:
    """Write changed limits of channels, all in one statement."""
    if limits_of:
        rows = [
            {"phone": phone, "channel": channel}
            | {name: getattr(limits, name) for name in _IN_CHANNEL}
            for (phone, channel), limits in limits_of.items()
        ]
        insert_or_update(connection, _CHANNELS, rows)


def _row(phone: str, limits: PhoneLimits) -> dict[str, Any]:
    values = {column: getattr(limits, field) for column, field in _FIELD_OF_COLUMN.items()}
    return {"phone": phone, "closed": dict(limits.closed) or None} | values


def _limits(row: Row[Any]) -> PhoneLimits:
    return PhoneLimits(
        closed=tuple(Closing(Channel(name), until) for name, until in row.closed.items()),
        **{field: getattr(row, column) for column, field in _FIELD_OF_COLUMN.items()},
    )
