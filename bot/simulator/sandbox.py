"""A bot and a simulated Telnyx, connected on loopback."""

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
from bot.simulator.telnyx.faults import find_fault
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
_POLL_INTERVAL = 0.002
LONG_DEADLINES = Deadlines(write=60.0, answer=60.0, second_commit=60.0, lookup=60.0, refusal=0.0)
"""Seconds: the simulated Telnyx has no timeout, and a busy machine may stall for a long time. Only
programs on this machine can send requests, so no refusal is delayed."""


class SandboxSettings(Settings):
    """Settings from arguments only, not from the environment or .env."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the arguments as the only source."""
        return (init_settings,)


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A running bot, its carrier, and the clock of both."""

    telnyx: SimulatedTelnyx
    bot: Bot
    clock: TravelClock
    form_url: str | None = None
    """The address of the web form, if it is on."""
    key: str | None = None
    """An API key, if there is a simulated app."""

    async def text(
        self, phone: str, text: str | None, shape: Shape = Shape.PLAIN
    ) -> list[PhoneText]:
        """Text the bot, wait until nothing more is due, and return the texts to the phone."""
        before = len(self.telnyx.texts)
        status = await self.telnyx.text(phone, BOT_NUMBER, text, shape)
        if status != 200:  # noqa: PLR2004
            raise ConnectionError(f"the bot answered the webhook with {status}")
        await self.quiet()
        return self._texts_to(phone, before)

    async def travel(self, phone: str, duration: timedelta) -> list[PhoneText]:
        """Move the clock ahead, wait until nothing is due, and return the texts to the phone."""
        before = len(self.telnyx.texts)
        self.move_clock(duration)
        await self.quiet()
        return self._texts_to(phone, before)

    def move_clock(self, duration: timedelta) -> None:
        """Move the clock ahead and wake the sender; raise ValueError if too far."""
        self.clock.travel(duration)
        self.telnyx.journal.add(ClockMoved(self.clock.now(), duration))
        self._sender.wake()

    def arm(self, fault: str) -> None:
        """Arm the fault with this name; raise ValueError if there is none."""
        self.telnyx.arm(find_fault(fault))

    async def quiet(self) -> None:
        """Wait until no text is due or being sent and every due delivery report is posted."""
        while not await self._is_quiet():  # noqa: ASYNC110 - the sender sets no event
            await asyncio.sleep(_POLL_INTERVAL)
        await self.telnyx.wait_until_reported()

    async def has_queued_texts(self) -> bool:
        """Return whether a text is waiting for its next attempt."""
        counts = await self.bot.database.read(outbox.counts)
        return bool(counts.get(OutboxState.QUEUED))

    async def ready(self) -> None:
        """Wait until the bot can send, so that the first text is answered as fast as later ones."""
        while not self._sender.alive:  # noqa: ASYNC110 - the sender sets no event
            await asyncio.sleep(_POLL_INTERVAL)

    async def _is_quiet(self) -> bool:
        if not self._sender.idle:
            return False
        due = await self._sender.delivery.any_due()
        # What was due may have been claimed while we looked.
        return not due and self._sender.idle

    @property
    def _sender(self) -> Sender:
        if self.bot.sender is None:
            raise ValueError("this sandbox has no sender")
        return self.bot.sender

    def _texts_to(self, phone: str, since: int) -> list[PhoneText]:
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
    """Run a bot and a simulated Telnyx on a database; `changes` are settings that differ.

    `with_app` adds an app that receives events, and an API key. `deadlines` are the bot's. `warm`
    runs the warm-up: the bot starts later and answers its first text as fast as later ones.
    """
    async with AsyncExitStack() as stack:
        telnyx = await stack.enter_async_context(SimulatedTelnyx(clock).running())
        if with_app:
            receiver = await stack.enter_async_context(WebhookReceiver(telnyx).running())
            changes |= _event_settings(receiver)
        settings = SandboxSettings.model_validate(
            {
                "database_url": database_url,
                "telnyx_api_key": API_KEY,
                "telnyx_public_key": telnyx.public_key,
                "telnyx_base_url": telnyx.base_url,
                "from_number": BOT_NUMBER,
                "secret_key": secrets.token_hex(),
                # A story may play with short codes: no number is verified for real.
                "allow_weak_codes": True,
                "host": "127.0.0.1",
                "port": 0,
                # The throttle would wait forever for a stopped clock.
                "send_rate_account": 0,
            }
            | changes
        )
        async with app.run_bot(
            settings,
            clock,
            with_web=True,
            with_work=True,
            jitter=0,  # a story must play the same way each time
            deadlines=deadlines,
            warm=warm,
        ) as bot:
            telnyx.webhook_url = f"{bot.url}{WEBHOOK_PATH}"
            form_url = f"{bot.url}/" if settings.web_form else None
            key = await _create_key(bot, clock) if with_app else None
            try:
                yield Sandbox(telnyx, bot, clock, form_url, key)
                await telnyx.wait_until_reported()
            finally:
                telnyx.release_requests()


def _event_settings(receiver: WebhookReceiver) -> dict[str, Any]:
    """Return the settings of a bot that sends app events to a receiver."""
    return {
        "events_url": receiver.url,
        "events_secret": receiver.secret,
        "events_to_private": True,
    }


async def _create_key(bot: Bot, clock: TravelClock) -> str:
    return await bot.database.write(
        api_keys.create, "a simulated app", tuple(Scope), api_keys.DEFAULT_PER_MINUTE, clock.now()
    )
