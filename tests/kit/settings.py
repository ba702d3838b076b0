"""Settings of a bot that meets no Telnyx."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bot.simulator.clock import StoppedClock
from bot.simulator.sandbox import BOT_NUMBER, SandboxSettings
from bot.simulator.telnyx.server import API_KEY, SimulatedTelnyx

if TYPE_CHECKING:
    from sqlalchemy import URL


def settings_for(database_url: URL) -> SandboxSettings:
    """Make settings with which a bot can run on a database, and send nothing."""
    return SandboxSettings.model_validate(
        {
            "database_url": database_url,
            "telnyx_api_key": API_KEY,
            "telnyx_public_key": SimulatedTelnyx(StoppedClock()).public_key,
            "telnyx_base_url": "http://127.0.0.1:9/v2",
            "from_number": BOT_NUMBER,
            "secret_key": "a secret of the tests that is long enough",
            "host": "127.0.0.1",
            "port": 0,
        }
    )
