"""API keys: create, find, list and revoke them. A key is shown once; only its hash is stored."""

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
DEFAULT_PER_MINUTE = 600
"""Requests a minute that a key allows, unless another limit is given when it is created."""
MAX_PER_MINUTE = 1_000_000
_KEY = re.compile(r"tp_([0-9a-f]{12})_([0-9a-f]{64})")
_HASH_OF_NO_SECRET = "0" * 64
"""Compared with the given secret's hash if there is no such key; no secret is known for it."""
_KEYS = ApiKeyRow.__table__


class Scope(StrEnum):
    """A permission of an API key."""

    READ = "verifications:read"
    WRITE = "verifications:write"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key, without its secret; `title` is the operator's name for it."""

    public_id: str
    title: str
    secret_hash: str
    scopes: frozenset[Scope]
    per_minute: int
    created_at: datetime
    revoked_at: datetime | None


def create(
    connection: Connection, title: str, scopes: Collection[Scope], per_minute: int, now: datetime
) -> str:
    """Create a key and return it; it cannot be read again."""
    public_id, secret = secrets.token_hex(6), secrets.token_hex(32)
    connection.execute(
        insert(_KEYS).values(
            public_id=public_id,
            title=title,
            secret_hash=_hash(secret),
            scopes=" ".join(sorted(scopes)),
            per_minute=per_minute,
            created_at=now,
        )
    )
    return f"tp_{public_id}_{secret}"


def split(key: str) -> tuple[str, str] | None:
    """Split a key into its public id and its secret; return None if it is not an API key."""
    match = _KEY.fullmatch(key)
    return (match[1], match[2]) if match else None


def find(connection: Connection, public_id: str) -> ApiKey | None:
    """Read a key, revoked or not."""
    row = connection.execute(select(_KEYS).where(_KEYS.c.public_id == public_id)).one_or_none()
    return None if row is None else _from_row(row)


def secret_matches(key: ApiKey | None, secret: str) -> bool:
    """Return whether a secret is that of a key that exists and is not revoked.

    It takes the same time in all cases.
    """
    matches = hash_matches(key.secret_hash if key else None, secret)
    return matches and key is not None and key.revoked_at is None


def hash_matches(secret_hash: str | None, secret: str) -> bool:
    """Return whether a hash is that of a secret; it takes the same time if there is no hash."""
    return hmac.compare_digest(_hash(secret), secret_hash or _HASH_OF_NO_SECRET)


def valid_hashes(connection: Connection) -> dict[str, str]:
    """Read the hash of each key that is not revoked, by its public id."""
    valid = select(_KEYS.c.public_id, _KEYS.c.secret_hash).where(_KEYS.c.revoked_at.is_(None))
    return {row.public_id: row.secret_hash for row in connection.execute(valid)}


def list_all(connection: Connection) -> Sequence[ApiKey]:
    """Read all keys, the oldest first."""
    return [_from_row(row) for row in connection.execute(select(_KEYS).order_by(_KEYS.c.id))]


def revoke(connection: Connection, public_id: str, now: datetime) -> bool:
    """Revoke a key for good; return whether there was one that was not revoked yet."""
    valid = (_KEYS.c.public_id == public_id) & _KEYS.c.revoked_at.is_(None)
    revoked = connection.execute(update(_KEYS).where(valid).values(revoked_at=now))
    return revoked.rowcount == 1


def _from_row(row: Row[Any]) -> ApiKey:
    return ApiKey(
        public_id=row.public_id,
        title=row.title,
        secret_hash=row.secret_hash,
        scopes=frozenset(map(Scope, row.scopes.split())),
        per_minute=row.per_minute,
        created_at=row.created_at,
        revoked_at=row.revoked_at,
    )


def _hash(secret: str) -> str:
    """Hash a secret. Its 256 random bits need neither a salt nor a slow hash."""
    return hashlib.sha256(secret.encode()).hexdigest()
