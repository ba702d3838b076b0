"""The Retry-After header: whole seconds, at least 1 (RFC 9110 §10.2.3)."""

from __future__ import annotations

import math
from datetime import timedelta


def retry_after(wait: timedelta) -> dict[str, str]:
    """Return the header for a wait, rounded up."""
    return {"Retry-After": str(max(1, math.ceil(wait.total_seconds())))}


RETRY_SOON = retry_after(timedelta(seconds=5))
"""Header of a 503."""
