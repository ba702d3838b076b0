"""Settings of the tests' bots: as an object, and as the environment of a process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bot.simulator.clock import StoppedClock
from bot.simulator.sandbox import BOT_NUMBER, SandboxSettings
from bot.simulator.telnyx.server import API_KEY, SimulatedTelnyx
from tests.kit.secret_keys import SECRET

if TYPE_CHECKING:
    from sqlalchemy import URL

_UNREACHABLE_API = "http://127.0.0.1:9/v2"


def settings_for(database_url: URL) -> SandboxSettings:
    """Return settings of a bot on a database, with a Telnyx that is not reachable."""
    return SandboxSettings.model_validate(_values(None) | {"database_url": database_url})


def environment(url: URL, telnyx: SimulatedTelnyx | None = None, **more: str) -> dict[str, str]:
    """Return the environment of a bot on a database, with a Telnyx or one that is not reachable."""
    variables = {name.upper(): str(value) for name, value in _values(telnyx).items()}
    return variables | {"DATABASE_URL": as_written(url), "LOG_FORMAT": "json"} | more


def as_written(url: URL) -> str:
    """Return a URL as hosting providers write it: `postgres://`, which names no driver."""
    written = url.set(drivername="postgres") if url.get_backend_name() == "postgresql" else url
    return written.render_as_string(hide_password=False)


def _values(telnyx: SimulatedTelnyx | None) -> dict[str, Any]:
    telnyx = telnyx or SimulatedTelnyx(StoppedClock())
    return {
        "telnyx_api_key": API_KEY,
        "telnyx_public_key": telnyx.public_key,
        "telnyx_base_url": telnyx.base_url or _UNREACHABLE_API,
        "from_number": BOT_NUMBER,
        "secret_key": SECRET,
        "host": "127.0.0.1",
        "port": 0,
    }
