"""The signature of an app event (Standard Webhooks 1.0.0, "Signature scheme")."""

from __future__ import annotations

from typing import TYPE_CHECKING

from standardwebhooks import Webhook

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime


def signed_headers(
    event_id: str, body: str, secrets: Sequence[str], at: datetime
) -> dict[str, str]:
    """Return the headers of an event that is posted at `at` (UTC), signed with each secret.

    An app that knows one of the secrets can verify the event, so that a secret can be replaced.
    """
    return {
        "webhook-id": event_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(
            Webhook(secret).sign(event_id, at, body) for secret in secrets
        ),
    }
