"""Alerts, raised in the transaction of what they are about."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bot.conversation.policy import UNKNOWN_REFERENCES_FOR_ALERT
from bot.services.intake.app_event_log import record_alert
from bot.services.intake.form_gate import FormLevel
from bot.store import alerts, counters
from bot.store.alerts import Alert

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection

ALL = "all"
"""The scope of an alert that concerns all phones, numbers and keys."""
_UNKNOWN_REFERENCES = Alert(
    "unknown_references",
    ALL,
    f"{UNKNOWN_REFERENCES_FOR_ALERT} unknown references were texted within an hour",
    "each phone is limited already; if this goes on, find the senders among the inbound messages"
    " of the Telnyx portal, and block them",
)

_FORM_ALERTS = {
    FormLevel.PROOF: Alert(
        "form_budget",
        ALL,
        "the web form has sent 80 % of WEB_CODES_PER_DAY: everybody does a proof of work first",
        "check that the form is not abused; if people need more codes, raise WEB_CODES_PER_DAY",
    ),
    FormLevel.CLOSED: Alert(
        "form_budget",
        ALL,
        "the web form has sent all of WEB_CODES_PER_DAY: only numbers that were verified before"
        " get a code",
        "check that the form is not abused; if people need more codes, raise WEB_CODES_PER_DAY",
    ),
}


def form_alert(level: FormLevel) -> Alert:
    """Return the alert for a level that the web form's budget has reached."""
    return _FORM_ALERTS[level]


def raise_alert(connection: Connection, alert: Alert, now: datetime, *, has_app: bool) -> None:
    """Record an alert for `bot status` and the log and, if there is one, for the app.

    One process writes it to its log after the commit.
    """
    alerts.save(connection, alert, now)
    if has_app:
        record_alert(connection, alert, now)


def count_unknown_references(
    connection: Connection, count: int, now: datetime, *, has_app: bool
) -> None:
    """Count unknown references over all phones, and raise an alert once an hour if there are many.

    Each phone may look up only a few, but somebody may guess from many numbers.
    """
    hour = now.replace(minute=0, second=0, microsecond=0)
    total = counters.increment(connection, "unknown_references", count, hour)
    if total - count < UNKNOWN_REFERENCES_FOR_ALERT <= total:
        raise_alert(connection, _UNKNOWN_REFERENCES, now, has_app=has_app)
