"""The signature of an event (Standard Webhooks 1.0.0, "Signature scheme")."""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

_SECRET_PREFIX = "whsec_"  # noqa: S105 - how every secret begins


def signing_key(secret: str) -> bytes:
    """Read a secret, `whsec_` and base64; raises ValueError where it is none."""
    return base64.b64decode(secret.removeprefix(_SECRET_PREFIX), validate=True)


def signed_headers(name: str, body: bytes, keys: Sequence[bytes], at: datetime) -> dict[str, str]:
    """Make the headers of an event that is posted at `at`, with a signature by each of the keys.

    An app that knows one of the keys can verify it, so that a key can be replaced.
    """
    timestamp = str(int(at.timestamp()))
    content = b".".join((name.encode(), timestamp.encode(), body))
    return {
        "webhook-id": name,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(_signature(content, key) for key in keys),
    }


def _signature(content: bytes, key: bytes) -> str:
    return "v1," + base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()
