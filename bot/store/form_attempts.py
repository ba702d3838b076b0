"""What the web form counts against strangers: attempts, used proofs of work, and waits.

The caller has locked the form (`verifications.try_lock_form`), so that two transactions do not
count at the same time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import String, bindparam, delete, func, select, update

from bot.store.sql.bulk_insert import insert_all, insert_missing, insert_or_update
from bot.store.sql.column_types import UtcDateTime, string_enum
from bot.store.tables import FormAttempt, FormAttemptRow, FormProofRow, FormWaitRow

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from sqlalchemy import Connection

_ATTEMPTS = FormAttemptRow.__table__
_PROOFS = FormProofRow.__table__
_WAITS = FormWaitRow.__table__
_COUNT = select(func.count(), func.min(_ATTEMPTS.c.made_at)).where(
    _ATTEMPTS.c.subject == bindparam("subject", type_=String),
    _ATTEMPTS.c.kind == bindparam("kind", type_=string_enum(FormAttempt)),
    _ATTEMPTS.c.made_at > bindparam("since", type_=UtcDateTime),
)
_MOVE = (
    update(_ATTEMPTS)
    .where(
        _ATTEMPTS.c.subject == bindparam("old", type_=String),
        _ATTEMPTS.c.kind == FormAttempt.GUESS,
    )
    .values(subject=bindparam("new", type_=String))
)


class Count(NamedTuple):
    """How many attempts there were, and the time of the first (UTC)."""

    number: int
    first: datetime | None


class Wait(NamedTuple):
    """A person who waits instead of a proof of work; the code may be requested at `ready_at`."""

    session: str
    ready_at: datetime


def count(connection: Connection, kind: FormAttempt, subject: str, since: datetime) -> Count:
    """Count the attempts of a subject since a time."""
    of_subject = {"kind": kind, "subject": subject, "since": since}
    return Count(*connection.execute(_COUNT, of_subject).one())


def add(connection: Connection, kind: FormAttempt, subjects: Iterable[str], now: datetime) -> None:
    """Record an attempt for each of the subjects."""
    rows = [{"kind": kind, "subject": each, "made_at": now} for each in dict.fromkeys(subjects)]
    insert_all(connection, _ATTEMPTS, rows)


def move_guesses(connection: Connection, old: str, new: str) -> None:
    """Count the wrong guesses of one session as those of the session that follows it."""
    connection.execute(_MOVE, {"old": old, "new": new})


def use_proof(connection: Connection, proof: str, now: datetime) -> bool:
    """Record that a proof of work is used; return False if it has been used before."""
    row = {"proof": proof, "used_at": now}
    return bool(insert_missing(connection, _PROOFS, [row], _PROOFS.c.proof))


def find_wait(connection: Connection, network: str) -> Wait | None:
    """Read the wait of a network."""
    waits = select(_WAITS.c.session, _WAITS.c.ready_at).where(_WAITS.c.network == network)
    row = connection.execute(waits).one_or_none()
    return None if row is None else Wait(*row)


def begin_wait(connection: Connection, network: str, wait: Wait) -> None:
    """Begin the wait of a network in place of an earlier one."""
    insert_or_update(connection, _WAITS, [{"network": network, **wait._asdict()}])


def end_wait(connection: Connection, network: str) -> None:
    """End the wait of a network, since the code was requested."""
    connection.execute(delete(_WAITS).where(_WAITS.c.network == network))
