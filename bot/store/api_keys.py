"""API keys: made, found, listed and revoked. A key itself is shown once and stored nowhere."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from sqlalchemy import insert, select, update

from bot.store.tables import ApiKeyRow

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    from sqlalchemy import Connection, Row

MAX_TITLE_LENGTH = 64
PER_MINUTE = 600
"""Requests a minute that a key may make, where its maker names no other figure."""
MAX_PER_MINUTE = 1_000_000
_KEY = re.compile(r"tp_([0-9a-f]{12})_([0-9a-f]{64})")
_NOBODYS = "0" * 64
"""What is compared where no key has the name: no secret has this hash."""
_KEYS = ApiKeyRow.__table__


class Scope(StrEnum):
    """What a key allows."""

    READ = "verifications:read"
    WRITE = "verifications:write"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key, without its secret; `title` is the operator's word for it."""

    name: str
    title: str
    secret_hash: str
    scopes: frozenset[Scope]
    per_minute: int
    created_at: datetime
    revoked_at: datetime | None


def create(
    connection: Connection, title: str, scopes: Collection[Scope], per_minute: int, now: datetime
) -> str:
    """Make a key and return it: nobody can read it again."""
    name, secret = secrets.token_hex(6), secrets.token_hex(32)
    connection.execute(
        insert(_KEYS).values(
            name=name,
            title=title,
            secret_hash=_hash(secret),
            scopes=" ".join(sorted(scopes)),
            per_minute=per_minute,
            created_at=now,
        )
    )
    return f"tp_{name}_{secret}"


def split(key: str) -> tuple[str, str] | None:
    """Take a key apart into its name and its secret; None where it has another shape."""
    match = _KEY.fullmatch(key)
    return (match[1], match[2]) if match else None


def find(connection: Connection, name: str) -> ApiKey | None:
    """Read a key, revoked or not."""
    row = connection.execute(select(_KEYS).where(_KEYS.c.name == name)).one_or_none()
    return None if row is None else _from_row(row)


def secret_matches(key: ApiKey | None, secret: str) -> bool:
    """Tell whether a secret is that of a key that holds.

    It takes as long for a name that nobody has, and for a key that was revoked.
    """
    same = hmac.compare_digest(_hash(secret), key.secret_hash if key else _NOBODYS)
    return same and key is not None and key.revoked_at is None


def listed(connection: Connection) -> Sequence[ApiKey]:
    """Read all keys, the oldest first."""
    return [_from_row(row) for row in connection.execute(select(_KEYS).order_by(_KEYS.c.id))]


def revoke(connection: Connection, name: str, now: datetime) -> bool:
    """End a key for good; tell whether there was one that held."""
    holding = (_KEYS.c.name == name) & _KEYS.c.revoked_at.is_(None)
    ended = connection.execute(update(_KEYS).where(holding).values(revoked_at=now))
    return ended.rowcount == 1


def _from_row(row: Row[Any]) -> ApiKey:
    return ApiKey(
        name=row.name,
        title=row.title,
        secret_hash=row.secret_hash,
        scopes=frozenset(map(Scope, row.scopes.split())),
        per_minute=row.per_minute,
        created_at=row.created_at,
        revoked_at=row.revoked_at,
    )


def _hash(secret: str) -> str:
    """Hash 256 random bits: with so many, a hash needs neither salt nor delay."""
    return hashlib.sha256(secret.encode()).hexdigest()
