"""The bot and the pretend Telnyx, set up for each other on loopback."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bot import app
from bot.conversation.decision import Shape
from bot.settings import Settings
from bot.simulator.telnyx import API_KEY, SimulatedTelnyx
from bot.store import outbox
from bot.web.routes import WEBHOOK_PATH

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import timedelta

    from pydantic_settings import BaseSettings, PydanticBaseSettingsSource
    from sqlalchemy import URL

    from bot.app import Running
    from bot.simulator.clock import TravelClock
    from bot.simulator.telnyx import PhoneText

BOT_NUMBER = "+13125550100"
PHONE = "+13125550001"
_LOOK_EVERY = 0.005


class StageSettings(Settings):
    """Settings that no environment has a say in."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take what is given, and nothing else."""
        return (init_settings,)


@dataclass(frozen=True, slots=True)
class Stage:
    """A bot at work, the carrier it works with, and the clock that both go by."""

    telnyx: SimulatedTelnyx
    bot: Running
    clock: TravelClock

    async def text(
        self, phone: str, text: str | None, shape: Shape = Shape.PLAIN
    ) -> list[PhoneText]:
        """Text the bot and return all that came to the phone until there was quiet."""
        before = len(self.telnyx.texts)
        status = await self.telnyx.text(phone, BOT_NUMBER, text, shape)
        if status != 200:  # noqa: PLR2004
            raise ConnectionError(f"the bot answered the webhook with {status}")
        await self.quiet()
        return self._came_to(phone, before)

    async def travel(self, phone: str, length: timedelta) -> list[PhoneText]:
        """Move the clock ahead and return all that then came to the phone."""
        before = len(self.telnyx.texts)
        self.clock.travel(length)
        if self.bot.sender:
            self.bot.sender.wake()
        await self.quiet()
        return self._came_to(phone, before)

    async def quiet(self) -> None:
        """Wait until no text is due, none is on its way, and all is reported."""
        sender = self.bot.sender
        if sender is None:
            raise ValueError("nobody sends on this stage")
        while True:
            due = await self.bot.database.read(outbox.any_due, self.clock.now())
            if not due and sender.idle:
                break
            await asyncio.sleep(_LOOK_EVERY)
        await self.telnyx.reported()

    def _came_to(self, phone: str, since: int) -> list[PhoneText]:
        return [text for text in self.telnyx.texts[since:] if text.phone == phone]


@asynccontextmanager
async def staged(
    database_url: URL | str, clock: TravelClock, **changes: Any
) -> AsyncIterator[Stage]:
    """Set the stage on a database; `changes` are settings other than the usual."""
    async with SimulatedTelnyx(clock).running() as telnyx:
        settings = StageSettings.model_validate(
            {
                "database_url": database_url,
                "telnyx_api_key": API_KEY,
                "telnyx_public_key": telnyx.public_key,
                "telnyx_base_url": telnyx.base_url,
                "from_number": BOT_NUMBER,
                "secret_key": secrets.token_hex(),
                "host": "127.0.0.1",
                "port": 0,
            }
            | changes
        )
        async with app.running(
            settings, clock, asyncio.Event(), with_web=True, with_work=True
        ) as bot:
            telnyx.webhook_url = f"{bot.url}{WEBHOOK_PATH}"
            yield Stage(telnyx, bot, clock)
            await telnyx.reported()
