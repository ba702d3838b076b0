"""The bot and the pretend Telnyx, set up for each other on loopback."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bot import app
from bot.app import Deadlines
from bot.conversation.inputs import Shape
from bot.settings import Settings
from bot.simulator.telnyx.faults import fault_named
from bot.simulator.telnyx.journal import ClockMoved
from bot.simulator.telnyx.server import API_KEY, SimulatedTelnyx
from bot.simulator.webhook_receiver import WebhookReceiver
from bot.store import api_keys
from bot.store.api_keys import Scope
from bot.store.queues import outbox
from bot.store.tables import OutboxState
from bot.web.app import WEBHOOK_PATH

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import timedelta

    from pydantic_settings import BaseSettings, PydanticBaseSettingsSource
    from sqlalchemy import URL

    from bot.app import Bot
    from bot.services.delivery.sender import Sender
    from bot.simulator.clock import TravelClock
    from bot.simulator.telnyx.journal import PhoneText

BOT_NUMBER = "+13125550100"
PHONE = "+13125550001"
_LOOK_EVERY = 0.002
LONG_DEADLINES = Deadlines(write=60.0, answer=60.0, second_commit=60.0, lookup=60.0)
"""Nobody is kept waiting here, and a machine may stand still for longer than Telnyx would wait."""


class SandboxSettings(Settings):
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
class Sandbox:
    """A bot at work, the carrier it works with, and the clock that both go by."""

    telnyx: SimulatedTelnyx
    bot: Bot
    clock: TravelClock
    form_url: str | None = None
    """Where the form on the web is, if it is on."""
    key: str | None = None
    """An API key, where there is a pretend app."""

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
        self.move_clock(length)
        await self.quiet()
        return self._came_to(phone, before)

    def move_clock(self, length: timedelta) -> None:
        """Move the clock ahead and have what is due by then done; raises ValueError if too far."""
        self.clock.travel(length)
        self.telnyx.journal.add(ClockMoved(self.clock.now(), length))
        self._sender.wake()

    def arm(self, fault: str) -> None:
        """Have a fault of the menu come about at its next occasion; raises ValueError."""
        self.telnyx.arm(fault_named(fault))

    async def quiet(self) -> None:
        """Wait until no text is due, none is on its way, and all that is due is reported."""
        while not await self._is_quiet():  # noqa: ASYNC110 - the sender tells nobody
            await asyncio.sleep(_LOOK_EVERY)
        await self.telnyx.reported()

    async def waiting(self) -> bool:
        """Tell whether a text waits for its next try."""
        counts = await self.bot.database.read(outbox.counts)
        return bool(counts.get(OutboxState.QUEUED))

    async def ready(self) -> None:
        """Wait until the bot can send, so that the first text is answered as fast as any."""
        while not self._sender.alive:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(_LOOK_EVERY)

    async def _is_quiet(self) -> bool:
        if not self._sender.idle:
            return False
        due = await self._sender.delivery.any_due()
        # What was due may have been claimed while we looked.
        return not due and self._sender.idle

    @property
    def _sender(self) -> Sender:
        if self.bot.sender is None:
            raise ValueError("nobody sends on this stage")
        return self.bot.sender

    def _came_to(self, phone: str, since: int) -> list[PhoneText]:
        return [text for text in self.telnyx.texts[since:] if text.phone == phone]


@asynccontextmanager
async def open_sandbox(
    database_url: URL | str,
    clock: TravelClock,
    *,
    with_app: bool = False,
    deadlines: Deadlines = LONG_DEADLINES,
    warm: bool = False,
    **changes: Any,
) -> AsyncIterator[Sandbox]:
    """Set the stage on a database; `changes` are settings other than the usual.

    `with_app` has a pretend app listen to events, and makes a key to be one that asks; `deadlines`
    are those of the bot. A `warm` one starts later, and answers its first text as fast as any.
    """
    async with AsyncExitStack() as stack:
        telnyx = await stack.enter_async_context(SimulatedTelnyx(clock).running())
        if with_app:
            listener = await stack.enter_async_context(WebhookReceiver(telnyx).listening())
            changes |= _told(listener)
        settings = SandboxSettings.model_validate(
            {
                "database_url": database_url,
                "telnyx_api_key": API_KEY,
                "telnyx_public_key": telnyx.public_key,
                "telnyx_base_url": telnyx.base_url,
                "from_number": BOT_NUMBER,
                "secret_key": secrets.token_hex(),
                "host": "127.0.0.1",
                "port": 0,
                # By a clock that stands still, no text's time would ever come.
                "send_rate_account": 0,
            }
            | changes
        )
        async with app.run_bot(
            settings,
            clock,
            with_web=True,
            with_work=True,
            jitter=0,  # a story must turn out the same each time
            deadlines=deadlines,
            warm=warm,
        ) as bot:
            telnyx.webhook_url = f"{bot.url}{WEBHOOK_PATH}"
            form_url = f"{bot.url}/" if settings.web_form else None
            key = await _key(bot, clock) if with_app else None
            try:
                yield Sandbox(telnyx, bot, clock, form_url, key)
                await telnyx.reported()
            finally:
                telnyx.hang_up()


def _told(listener: WebhookReceiver) -> dict[str, Any]:
    """Make the settings of a bot that tells an app of events."""
    return {
        "events_url": listener.url,
        "events_secret": listener.secret,
        "events_to_private": True,
    }


async def _key(bot: Bot, clock: TravelClock) -> str:
    return await bot.database.write(
        api_keys.create, "a pretend app", tuple(Scope), api_keys.DEFAULT_PER_MINUTE, clock.now()
    )
