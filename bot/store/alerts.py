"""Alerts: what the operator must look at. Of each kind only the last one is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import exists, select, update

from bot.store.sql.bulk_insert import insert_or_update
from bot.store.tables import AlertRow

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection

_ALERTS = AlertRow.__table__
_NOT_LOGGED = ~_ALERTS.c.logged
_ANY_NOT_LOGGED = select(exists().where(_NOT_LOGGED))


class Alert(NamedTuple):
    """What has happened, and what to do.

    `code` names the kind for programs, `scope` what it concerns: "all", or a bot number (E.164), an
    API key's id, a country. `message` and `action` are sentences in plain words.
    """

    code: str
    scope: str
    message: str
    action: str


class StoredAlert(NamedTuple):
    """An alert and when it was raised (UTC)."""

    alert: Alert
    raised_at: datetime


def save(connection: Connection, alert: Alert, now: datetime) -> None:
    """Store an alert, in place of the last one of its code and scope."""
    row = alert._asdict() | {"raised_at": now, "logged": False}
    insert_or_update(connection, _ALERTS, [row])


def since(connection: Connection, moment: datetime) -> list[StoredAlert]:
    """Read the alerts that were raised since a time (UTC), the latest first."""
    recent = select(_ALERTS).where(_ALERTS.c.raised_at >= moment)
    rows = connection.execute(recent.order_by(_ALERTS.c.raised_at.desc()))
    return [StoredAlert(Alert(*(row[:4])), row.raised_at) for row in rows]


def any_not_logged(connection: Connection) -> bool:
    """Return whether an alert is in no log yet; without a lock."""
    return bool(connection.scalar(_ANY_NOT_LOGGED))


def take_not_logged(connection: Connection) -> list[Alert]:
    """Mark the alerts that are in no log yet as logged, and return them.

    The caller logs them after the commit. Those that another process is marking are left out.
    """
    rows = connection.execute(select(_ALERTS).where(_NOT_LOGGED).with_for_update(skip_locked=True))
    found = [Alert(*(row[:4])) for row in rows]
    for alert in found:
        connection.execute(
            update(_ALERTS)
            .where(_ALERTS.c.code == alert.code, _ALERTS.c.scope == alert.scope)
            .values(logged=True)
        )
    return found
