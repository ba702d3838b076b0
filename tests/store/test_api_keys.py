from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import select

from bot.simulator.clock import NOON
from bot.store import api_keys
from bot.store.api_keys import Scope
from bot.store.tables import ApiKeyRow

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from bot.store.engine.database import Database


async def make(database: Database, title: str = "shop") -> tuple[str, str]:
    written = await database.write(api_keys.create, title, [Scope.READ], 60, NOON)
    parts = api_keys.split(written)
    assert parts is not None
    return parts


async def test_a_key_is_found_by_its_public_id_and_only_its_hash_is_stored(
    database: Database,
) -> None:
    public_id, secret = await make(database)
    key = await database.read(api_keys.find, public_id)
    assert key == api_keys.ApiKey(
        public_id=public_id,
        title="shop",
        secret_hash=hashlib.sha256(secret.encode()).hexdigest(),
        scopes=frozenset({Scope.READ}),
        per_minute=60,
        created_at=NOON,
        revoked_at=None,
    )

    def stored(connection: Connection) -> str:
        return repr(connection.execute(select(ApiKeyRow.__table__)).all())

    assert secret not in await database.read(stored)
    assert len(bytes.fromhex(secret)) * 8 == 256


async def test_only_the_right_secret_matches_and_only_until_the_key_is_revoked(
    database: Database,
) -> None:
    public_id, secret = await make(database)
    other, _ = await make(database, "other")
    key = await database.read(api_keys.find, public_id)
    assert key is not None
    assert api_keys.secret_matches(key, secret)
    assert not api_keys.secret_matches(key, "0" * 64)
    assert not api_keys.secret_matches(await database.read(api_keys.find, other), secret)
    assert not api_keys.secret_matches(await database.read(api_keys.find, "unknown"), secret)
    assert not api_keys.secret_matches(replace(key, revoked_at=NOON), secret)

    later = NOON + timedelta(days=1)
    assert await database.write(api_keys.revoke, public_id, later)
    assert not await database.write(api_keys.revoke, public_id, later + timedelta(days=1))
    assert not await database.write(api_keys.revoke, "unknown", later)
    revoked, untouched = await database.read(api_keys.list_all)
    assert (revoked.public_id, revoked.revoked_at) == (public_id, later)
    assert (untouched.public_id, untouched.revoked_at) == (other, None)


def test_only_an_api_key_is_split() -> None:
    public_id, secret = "0" * 12, "a" * 64
    assert api_keys.split(f"tp_{public_id}_{secret}") == (public_id, secret)
    for wrong in (
        "",
        f"tp_{public_id}",
        f"tp_{public_id}_{secret}0",
        f"tp_{public_id}_{secret.upper()}",
        f"sk_{public_id}_{secret}",
        f"tp_{public_id}_{secret}\n",
    ):
        assert api_keys.split(wrong) is None
