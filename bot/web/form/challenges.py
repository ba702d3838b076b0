"""Proofs of work: a browser finds a number by trying, which costs a program that asks often.

In the manner of altcha (https://altcha.org/docs/v2/proof-of-work): the SHA-256 of a salt and a
secret number is shown, and the browser tries all numbers until it has the same one. A challenge is
bound to one session, expires, and is accepted once; nothing is stored until it is used.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from bot.web.form.sessions import Sessions

MAX_NUMBER = 100_000
"""The largest number; a browser tries half of that on average. That is about a second on a phone if
it hashes 50,000 times a second (`crypto.subtle`), which is an estimate."""
CHALLENGE_LIFETIME = timedelta(minutes=10)
_SALT_BYTES = 16
_SIGNED = re.compile(r"(([0-9a-f]{32})-(\d{1,12}))\.([0-9a-f]{64})\.([0-9a-f]{64})", re.ASCII)
_NUMBER = re.compile(r"\d{1,6}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Challenge:
    """What a browser must find: the number whose hash with `salt` is `target`.

    `signed` is sent back with the number.
    """

    salt: str
    target: str
    signed: str


def new_challenge(sessions: Sessions, session_id: str, now: datetime) -> Challenge:
    """Return a new challenge for a session."""
    expires_at = int((now + CHALLENGE_LIFETIME).timestamp())
    salt = f"{secrets.token_hex(_SALT_BYTES)}-{expires_at}"
    target = _hash(salt, secrets.randbelow(MAX_NUMBER + 1))
    mac = sessions.sign_challenge(f"{salt}.{target}", session_id)
    return Challenge(salt, target, f"{salt}.{target}.{mac}")


def proof_of(
    sessions: Sessions, session_id: str, signed: str, number: str, now: datetime
) -> str | None:
    """Return the id of a proof of work, by which it is used once; None if it is not right."""
    parts = _SIGNED.fullmatch(signed)
    if parts is None or _NUMBER.fullmatch(number) is None:
        return None
    salt, proof, expires_at, target, mac = parts.groups()
    is_right = (
        sessions.is_own_challenge(f"{salt}.{target}", mac, session_id)
        and now.timestamp() < int(expires_at)
        and _hash(salt, int(number)) == target
    )
    return proof if is_right else None


def _hash(salt: str, number: int) -> str:
    """Hash with a separator: without one, digits could move from the number to the salt."""
    return hashlib.sha256(f"{salt}.{number}".encode()).hexdigest()
