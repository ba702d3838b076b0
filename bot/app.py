"""The composition root: where everything is introduced to everything else."""

from __future__ import annotations

import asyncio
import importlib
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import structlog
from aiohttp import web

from bot.app_events import client
from bot.app_events.signing import signing_key
from bot.carrier.webhooks import Verifier
from bot.conversation.codes import Keyring
from bot.conversation.numbers import region_of
from bot.conversation.policy import Policy
from bot.conversation.state import CodeFormat
from bot.services.clock import drift_of
from bot.services.delivery.notifier import AppEventDelivery, Notifier
from bot.services.delivery.queue_worker import JITTER, QueueWorker
from bot.services.delivery.sender import Sender, TextDelivery
from bot.services.delivery.throttle import SendRates
from bot.services.intake.inbox import ANSWER_TIMEOUT, SECOND_COMMIT_TIMEOUT, Inbox
from bot.services.intake.unit_of_work import Rules
from bot.services.recipients import Recipients
from bot.services.upkeep.clock_monitor import ADVICE, MAX_DRIFT, ClockMonitor
from bot.services.upkeep.expirer import Expirer
from bot.services.upkeep.janitor import Janitor
from bot.services.upkeep.warm_up import warm_up
from bot.services.verifications import Verifications
from bot.store.engine import migrate
from bot.store.engine.database import WRITE_TIMEOUT, Database
from bot.store.engine.errors import UnavailableError
from bot.web import app
from bot.web.api.authentication import Authentication
from bot.web.api.handlers import Api
from bot.web.form.sessions import Sessions
from bot.web.form.views import Form, FormSettings
from bot.web.health import Readiness, accepts_writes, cached
from bot.web.http.lookup_gate import LOOKUP_TIMEOUT, LookupGate
from bot.web.telnyx import TelnyxWebhook

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from typing import Any

    from bot.carrier.client import Carrier
    from bot.services.clock import Clock
    from bot.settings import Settings
    from bot.web.health import Check, Detail

_SHUTDOWN_TIMEOUT = 6.0

_log = structlog.get_logger(__name__)


class SchemaError(Exception):
    """The database does not have this version's schema: run `bot migrate`."""


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds that work on the database may take."""

    write: float = WRITE_TIMEOUT
    answer: float = ANSWER_TIMEOUT
    second_commit: float = SECOND_COMMIT_TIMEOUT
    lookup: float = LOOKUP_TIMEOUT


TELNYX_DEADLINES = Deadlines()


@dataclass(frozen=True, slots=True)
class Running:
    """A bot at work: what its front door, its simulator and its tests may touch."""

    database: Database
    rules: Rules
    url: str | None
    sender: Sender | None
    notifier: Notifier | None
    expirer: Expirer | None
    verifications: Verifications | None
    died: asyncio.Event


@asynccontextmanager
async def running(  # noqa: PLR0913 - each part of the world it meets is named at the call
    settings: Settings,
    clock: Clock,
    ended: asyncio.Event,
    *,
    with_web: bool,
    with_work: bool,
    jitter: float = JITTER,
    deadlines: Deadlines = TELNYX_DEADLINES,
    warm: bool = True,
) -> AsyncIterator[Running]:
    """Run the parts asked for until the block ends; then let what is on its way arrive.

    `ended` is set, with `died` of what is returned, when a loop has failed: only a restart can
    mend that.
    `with_web` is the web server with the inbox, `with_work` the sender, the janitor and, where
    there is an EVENTS_URL, the notifier; `jitter` varies their waits, 0 making them exact.
    Unless it is to be `warm`, it starts sooner and its first answers are slower. Raises
    SchemaError where `bot migrate` is to be run first, UnavailableError where the database
    cannot be reached.
    """
    rules = _rules(settings)
    async with AsyncExitStack() as stack:
        loops = _Loops(stack, ended)
        database = Database(settings.database_url, deadlines.write)
        stack.push_async_callback(database.close)
        await _prepare_schema(database)
        if warm:
            await warm_up(database, settings.from_number[0], clock.now(), rules)
        loops.start("clock monitor", ClockMonitor(database, clock).run())
        sender = notifier = expirer = verifications = None
        if with_work:
            loops.start("janitor", Janitor(database, clock).run())
            rates = SendRates(settings.send_rate_account, settings.send_rate_per_number)
            texts = TextDelivery(database, rules, clock, rates=rates, jitter=jitter)
            sender = QueueWorker(texts, lambda: _carrier(settings))
            notifier = _notifier(settings, database, clock, jitter)
            _start_sending(loops, sender, notifier)
            expirer = Expirer(database, rules, clock, _wake_all(sender, notifier))
            loops.start("expirer", expirer.run())
        url = None
        if with_web:
            inbox = Inbox(
                database,
                rules,
                clock,
                _wake_all(sender, notifier),
                answer_within=deadlines.answer,
                second_commit_within=deadlines.second_commit,
            )
            loops.start("inbox", inbox.run())
            verifications = Verifications(inbox, database, rules, clock, settings.from_number[0])
            webhook = TelnyxWebhook(
                Verifier(settings.telnyx_public_key), inbox, settings.from_number, clock
            )
            readiness = Readiness(
                _checks(database, inbox, sender) | _notifier_check(notifier), _details(clock)
            )
            lookups = deadlines.lookup
            api = _api(settings, verifications, database, clock, LookupGate(lookups))
            form = _form(settings, verifications, clock, LookupGate(lookups))
            url = await _listen(
                stack, app.build_application(webhook, readiness, api, form), settings
            )
        yield Running(database, rules, url, sender, notifier, expirer, verifications, loops.died)


def _rules(settings: Settings) -> Rules:
    policy = Policy(
        code_format=CodeFormat(settings.token_length, settings.token_alphabet),
        code_lifetime=timedelta(seconds=settings.token_ttl),
        attempts=settings.token_attempts,
        resend_cooldown=timedelta(seconds=settings.resend_cooldown),
        codes_per_hour=settings.codes_per_hour,
        codes_per_day=settings.codes_per_day,
        app_name=settings.app_name,
        support_contact=settings.support_contact,
        form_host=urlsplit(settings.public_url).netloc,
        form_codes_per_day=settings.web_codes_per_day,
    )
    secrets = [secret.get_secret_value() for secret in settings.secret_key]
    keyring = Keyring(secrets, settings.test_numbers)
    return Rules(policy, keyring, has_app=bool(settings.events_url))


def _form(
    settings: Settings, verifications: Verifications, clock: Clock, lookups: LookupGate
) -> Form | None:
    if not settings.web_form:
        return None
    own = filter(None, map(region_of, settings.from_number))
    form_settings = FormSettings(
        app_name=settings.app_name,
        code_format=CodeFormat(settings.token_length, settings.token_alphabet),
        code_lifetime=timedelta(seconds=settings.token_ttl),
        recipients=Recipients(
            country_code=settings.country_code,
            bot_numbers=settings.from_number,
            test_numbers=settings.test_numbers,
            countries=settings.allowed_countries or tuple(dict.fromkeys(own)),
        ),
        trusted_proxies=settings.trusted_proxies,
    )
    keys = [secret.get_secret_value() for secret in settings.secret_key]
    return Form(verifications, form_settings, Sessions(keys, settings.public_url), clock, lookups)


async def _prepare_schema(database: Database) -> None:
    """Migrate SQLite, whose only user we are; on PostgreSQL that is a step of the deploy."""
    if database.url.get_backend_name() == "sqlite":
        await migrate.migrate(database.url)
    elif not await database.read(migrate.is_current):
        raise SchemaError


def _start_sending(loops: _Loops, sender: Sender, notifier: Notifier | None) -> None:
    """Start what sends; both are stopped at once, so that they share the time they may take."""
    tasks = [loops.start("sender", sender.run())]
    if notifier:
        tasks.append(loops.start("notifier", notifier.run()))

    async def stop_sending() -> None:
        sender.stop()
        if notifier:
            notifier.stop()
        await asyncio.wait(tasks)

    loops.stack.push_async_callback(stop_sending)


def _notifier(
    settings: Settings, database: Database, clock: Clock, jitter: float
) -> Notifier | None:
    """Make what tells the app of events, where there is an app to be told."""
    if not settings.events_url:
        return None
    url, to_private = settings.events_url, settings.events_to_private
    keys = [signing_key(secret.get_secret_value()) for secret in settings.events_secret]
    events = AppEventDelivery(database, url, clock, jitter=jitter)
    return QueueWorker(events, lambda: client.open_client(url, keys, to_private=to_private))


def _wake_all(*loops: Sender | Notifier | None) -> Callable[[], None]:
    """Tell the loops of this process that there may be something to send."""

    def wake() -> None:
        for loop in loops:
            if loop is not None:
                loop.wake()

    return wake


def _notifier_check(notifier: Notifier | None) -> dict[str, Check]:
    async def notifier_running() -> bool:
        return notifier is not None and notifier.alive

    return {"notifier": notifier_running} if notifier else {}


@asynccontextmanager
async def _carrier(settings: Settings) -> AsyncIterator[Carrier]:
    """Open the way to Telnyx, warm.

    The SDK's import takes a second; in a thread, the loop goes on.
    """
    client = await asyncio.to_thread(importlib.import_module, "bot.carrier.client")
    carrier: Carrier = client.Carrier(
        settings.telnyx_api_key.get_secret_value(), settings.telnyx_base_url
    )
    try:
        await carrier.warm()
        yield carrier
    finally:
        await carrier.close()


@dataclass(frozen=True, slots=True)
class _Loops:
    """The loops at work, cancelled when the stack unwinds."""

    stack: AsyncExitStack
    ended: asyncio.Event
    died: asyncio.Event = field(default_factory=asyncio.Event)

    def start(self, name: str, loop: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(loop, name=name)

        def report(ended: asyncio.Task[None]) -> None:
            if not ended.cancelled() and ended.exception() is not None:
                _log.critical("loop died", loop=name, exc_info=ended.exception())
                self.died.set()
                self.ended.set()

        async def cancel() -> None:
            task.cancel()
            await asyncio.wait([task])

        task.add_done_callback(report)
        self.stack.push_async_callback(cancel)
        return task


def _checks(database: Database, inbox: Inbox, sender: Sender | None) -> dict[str, Check]:
    async def schema_current() -> bool:
        try:
            return await database.read(migrate.is_current)
        except UnavailableError:
            return False

    writes_pass = cached(accepts_writes(database.check_write), writes=True)

    async def writer_writes() -> bool:
        return inbox.alive and await writes_pass()

    async def sender_running() -> bool:
        return sender is not None and sender.alive

    checks: dict[str, Check] = {"database": cached(schema_current), "writer": writer_writes}
    return checks if sender is None else checks | {"sender": sender_running}


def _details(clock: Clock) -> dict[str, Detail]:
    return {
        "clock_drift_seconds": lambda: round(drift_of(clock).total_seconds(), 3),
        "clock_warning": lambda: ADVICE if abs(drift_of(clock)) > MAX_DRIFT else None,
    }


def _api(
    settings: Settings,
    verifications: Verifications,
    database: Database,
    clock: Clock,
    lookups: LookupGate,
) -> Api:
    recipients = Recipients(settings.country_code, settings.from_number, settings.test_numbers)
    return Api(verifications, Authentication(database, clock, lookups), recipients, clock)


async def _listen(stack: AsyncExitStack, application: web.Application, settings: Settings) -> str:
    runner = web.AppRunner(
        application,
        access_log=None,
        shutdown_timeout=_SHUTDOWN_TIMEOUT,
        # The signature is over the bytes as they came.
        auto_decompress=False,
    )
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    site = web.TCPSite(runner, settings.host, settings.port)
    await site.start()
    host, port = runner.addresses[0][:2]
    return f"http://{host}:{port}"
