from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import select

from bot.simulator.clock import NOON
from bot.store import keys
from bot.store.keys import Scope
from bot.store.models import KeyRow

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from bot.store.database import Database


async def make(database: Database, title: str = "shop") -> tuple[str, str]:
    written = await database.write(keys.create, title, [Scope.READ], 60, NOON)
    parts = keys.split(written)
    assert parts is not None
    return parts


async def test_a_key_is_found_by_its_name_and_only_its_hash_is_stored(database: Database) -> None:
    name, secret = await make(database)
    key = await database.read(keys.find, name)
    assert key == keys.Key(
        name=name,
        title="shop",
        secret_hash=hashlib.sha256(secret.encode()).hexdigest(),
        scopes=frozenset({Scope.READ}),
        per_minute=60,
        created_at=NOON,
        revoked_at=None,
    )

    def stored(connection: Connection) -> str:
        return repr(connection.execute(select(KeyRow.__table__)).all())

    assert secret not in await database.read(stored)
    assert len(bytes.fromhex(secret)) * 8 == 256


async def test_only_the_right_secret_opens_and_only_until_the_key_is_revoked(
    database: Database,
) -> None:
    name, secret = await make(database)
    other, _ = await make(database, "other")
    key = await database.read(keys.find, name)
    assert key is not None
    assert keys.opens(key, secret)
    assert not keys.opens(key, "0" * 64)
    assert not keys.opens(await database.read(keys.find, other), secret)
    assert not keys.opens(await database.read(keys.find, "nobody"), secret)
    assert not keys.opens(replace(key, revoked_at=NOON), secret)

    later = NOON + timedelta(days=1)
    assert await database.write(keys.revoke, name, later)
    assert not await database.write(keys.revoke, name, later + timedelta(days=1))
    assert not await database.write(keys.revoke, "nobody", later)
    revoked, untouched = await database.read(keys.listed)
    assert (revoked.name, revoked.revoked_at) == (name, later)
    assert (untouched.name, untouched.revoked_at) == (other, None)


def test_what_is_no_key_is_not_taken_apart() -> None:
    name, secret = "0" * 12, "a" * 64
    assert keys.split(f"tp_{name}_{secret}") == (name, secret)
    for wrong in (
        "",
        f"tp_{name}",
        f"tp_{name}_{secret}0",
        f"tp_{name}_{secret.upper()}",
        f"sk_{name}_{secret}",
        f"tp_{name}_{secret}\n",
    ):
        assert keys.split(wrong) is None
