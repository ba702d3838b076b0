"""The composition root: makes all parts from the settings, and runs them in one TaskGroup."""

from __future__ import annotations

import asyncio
import importlib
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

import structlog
from aiohttp import web

from bot.app_events.client import open_client
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
from bot.services.upkeep.reporter import Reporter
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
from bot.web.http.refusals import REFUSAL_DELAY, Refusals
from bot.web.telnyx import TelnyxWebhook

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping

    from pydantic import SecretStr

    from bot.carrier.client import Carrier
    from bot.services.clock import Clock
    from bot.settings import Settings
    from bot.web.health import Check, Detail

_SHUTDOWN_TIMEOUT = 6.0
"""Seconds that requests in progress may take after SIGTERM: hosting platforms kill the process
after ten."""

_log = structlog.get_logger(__name__)


class CrashedError(Exception):
    """A background task has raised: the process must be restarted."""

    def __init__(self) -> None:
        super().__init__("a background task crashed (see the log); restart the bot")


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Timeouts of work on the database, and the delay of a refusal, in seconds."""

    write: float = WRITE_TIMEOUT
    answer: float = ANSWER_TIMEOUT
    second_commit: float = SECOND_COMMIT_TIMEOUT
    lookup: float = LOOKUP_TIMEOUT
    refusal: float = REFUSAL_DELAY


DEFAULT_DEADLINES = Deadlines()


@dataclass(frozen=True, slots=True)
class Bot:
    """The parts of a running bot that the command line, the simulator and tests use."""

    database: Database
    rules: Rules
    url: str | None
    sender: Sender | None
    notifier: Notifier | None
    expirer: Expirer | None
    verifications: Verifications | None


@asynccontextmanager
async def run_bot(  # noqa: PLR0913 - settings, clock, and what simulator and tests vary
    settings: Settings,
    clock: Clock,
    *,
    with_web: bool,
    with_work: bool,
    jitter: float = JITTER,
    deadlines: Deadlines = DEFAULT_DEADLINES,
    warm: bool = True,
) -> AsyncIterator[Bot]:
    """Run the bot until the block ends; then finish requests and sends in progress.

    `with_web` runs the web server with the inbox; `with_work` the sender, the notifier (if
    EVENTS_URL is set), the expirer, the reporter and the janitor. `jitter` is the share by which
    delays before retries vary. Without `warm`, the bot starts faster, but its first responses are
    slower.

    Raises SchemaError if `bot migrate` must run first, UnavailableError if the database cannot be
    reached, OSError if the port cannot be bound. If a background task crashes, the block is
    cancelled and CrashedError is raised.
    """
    rules = _rules(settings)
    async with AsyncExitStack() as stack:
        database = Database(settings.database_url, deadlines.write)
        stack.push_async_callback(database.close)
        await _prepare_schema(database)
        if warm:
            await warm_up(database, settings.from_number[0], clock.now(), rules)
        tasks: dict[str, Runnable] = {"clock monitor": ClockMonitor(database, clock)}
        workers: dict[str, Sender | Notifier] = {}
        wake = partial(_wake_all, workers)
        sender = notifier = expirer = verifications = url = application = None
        if with_work:
            tasks["janitor"] = Janitor(database, clock)
            sender = workers["sender"] = _sender(settings, database, rules, clock, jitter)
            if settings.events_url:
                notifier = workers["notifier"] = _notifier(settings, database, clock, jitter)
            expirer = tasks["expirer"] = Expirer(database, rules, clock, wake)
            tasks["reporter"] = Reporter(database, clock, wake)
        if with_web:
            inbox = tasks["inbox"] = Inbox(
                database,
                rules,
                clock,
                wake,
                answer_within=deadlines.answer,
                second_commit_within=deadlines.second_commit,
            )
            verifications = Verifications(inbox, database, rules, clock, settings.from_number[0])
            refusals = Refusals(deadlines.refusal)
            lookups = LookupGate(deadlines.lookup)
            authentication = Authentication(
                database,
                clock,
                lookups,
                refusals,
                settings.trusted_proxies,
            )
            await authentication.load_keys()
            application = app.build_application(
                TelnyxWebhook(
                    Verifier(settings.telnyx_public_key), inbox, settings.from_number, clock
                ),
                _readiness(database, inbox, workers, clock),
                _api(settings, verifications, authentication, clock),
                _form(settings, verifications, clock, lookups, refusals),
                refusals,
            )
        await stack.enter_async_context(_background_tasks(workers, tasks))
        if application:
            url = await stack.enter_async_context(_listening(application, settings))
        yield Bot(database, rules, url, sender, notifier, expirer, verifications)


class Runnable(Protocol):
    """A part that runs as a task, until it is cancelled."""

    async def run(self) -> None:
        """Run until cancelled."""


@asynccontextmanager
async def _background_tasks(
    workers: Mapping[str, Sender | Notifier], others: Mapping[str, Runnable]
) -> AsyncIterator[None]:
    """Run tasks until the block ends; then let the workers drain, and cancel the others."""
    try:
        async with asyncio.TaskGroup() as group:

            def start(name: str, part: Runnable) -> asyncio.Task[None]:
                return group.create_task(_run_logged(name, part), name=name)

            cancellable = [start(name, part) for name, part in others.items()]
            draining = [start(name, worker) for name, worker in workers.items()]
            try:
                yield
            finally:
                for worker in workers.values():
                    worker.stop()
                await asyncio.gather(*draining, return_exceptions=True)
                for task in cancellable:
                    task.cancel()
    except BaseExceptionGroup as errors:
        # The group also wraps what the block raises; the first error is the cause of the others.
        raise errors.exceptions[0] from errors.exceptions[0].__cause__


async def _run_logged(name: str, part: Runnable) -> None:
    try:
        await part.run()
    except Exception as error:
        _log.critical("background task crashed", task=name, exc_info=error)
        raise CrashedError from error


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
    keyring = Keyring(_plain(settings.secret_key), settings.test_numbers)
    return Rules(policy, keyring, has_app=bool(settings.events_url))


def _form(
    settings: Settings,
    verifications: Verifications,
    clock: Clock,
    lookups: LookupGate,
    refusals: Refusals,
) -> Form | None:
    if not settings.web_form:
        return None
    regions = filter(None, map(region_of, settings.from_number))
    form_settings = FormSettings(
        app_name=settings.app_name,
        code_format=CodeFormat(settings.token_length, settings.token_alphabet),
        code_lifetime=timedelta(seconds=settings.token_ttl),
        recipients=Recipients(
            country_code=settings.country_code,
            bot_numbers=settings.from_number,
            test_numbers=settings.test_numbers,
            countries=settings.allowed_countries or tuple(dict.fromkeys(regions)),
        ),
        trusted_proxies=settings.trusted_proxies,
        terms_url=settings.terms_url,
        privacy_url=settings.privacy_url,
    )
    sessions = Sessions(_plain(settings.secret_key), settings.public_url)
    return Form(verifications, form_settings, sessions, clock, lookups=lookups, refusals=refusals)


def _plain(secrets: Iterable[SecretStr]) -> list[str]:
    return [secret.get_secret_value() for secret in secrets]


async def _prepare_schema(database: Database) -> None:
    """Migrate an SQLite database; raise SchemaError if a PostgreSQL one must be migrated first.

    Several processes may run on PostgreSQL, so a step of the deployment migrates it.
    """
    if database.url.get_backend_name() == "sqlite":
        await migrate.migrate(database.url)
    elif not await database.read(migrate.is_current):
        raise migrate.SchemaError


def _api(
    settings: Settings, verifications: Verifications, authentication: Authentication, clock: Clock
) -> Api:
    recipients = Recipients(settings.country_code, settings.from_number, settings.test_numbers)
    return Api(verifications, authentication, recipients, clock)


def _sender(
    settings: Settings, database: Database, rules: Rules, clock: Clock, jitter: float
) -> Sender:
    rates = SendRates(settings.send_rate_account, settings.send_rate_per_number)
    texts = TextDelivery(database, rules, clock, rates=rates, jitter=jitter)
    return QueueWorker(texts, lambda: _carrier(settings))


@asynccontextmanager
async def _carrier(settings: Settings) -> AsyncIterator[Carrier]:
    """Open the client of Telnyx's API.

    Importing the SDK takes seconds; a thread does it, so that webhooks are answered meanwhile.
    """
    client = await asyncio.to_thread(importlib.import_module, "bot.carrier.client")
    carrier: Carrier = client.Carrier(
        settings.telnyx_api_key.get_secret_value(), settings.telnyx_base_url
    )
    try:
        yield carrier
    finally:
        await carrier.close()


def _notifier(settings: Settings, database: Database, clock: Clock, jitter: float) -> Notifier:
    url, to_private = settings.events_url, settings.events_to_private
    secrets = _plain(settings.events_secret)
    events = AppEventDelivery(database, url, clock, jitter=jitter)
    return QueueWorker(events, lambda: open_client(url, secrets, to_private=to_private))


def _wake_all(workers: Mapping[str, Sender | Notifier]) -> None:
    for worker in workers.values():
        worker.wake()


def _readiness(
    database: Database, inbox: Inbox, workers: Mapping[str, Sender | Notifier], clock: Clock
) -> Readiness:
    async def schema_current() -> bool:
        try:
            return await database.read(migrate.is_current)
        except UnavailableError:
            return False

    check_write = cached(accepts_writes(database.check_write), writes=True)

    async def writer_works() -> bool:
        return inbox.alive and await check_write()

    async def worker_alive(worker: Sender | Notifier) -> bool:
        return worker.alive

    checks: dict[str, Check] = {"database": cached(schema_current), "writer": writer_works}
    checks |= {name: partial(worker_alive, worker) for name, worker in workers.items()}
    details: dict[str, Detail] = {
        "clock_drift_seconds": lambda: round(drift_of(clock).total_seconds(), 3),
        "clock_warning": lambda: ADVICE if abs(drift_of(clock)) > MAX_DRIFT else None,
    }
    return Readiness(checks, details)


@asynccontextmanager
async def _listening(application: web.Application, settings: Settings) -> AsyncIterator[str]:
    """Serve HTTP until the block ends, and then until requests in progress are answered."""
    runner = web.AppRunner(
        application,
        access_log=None,
        shutdown_timeout=_SHUTDOWN_TIMEOUT,
        # The signature covers the bytes as they were sent.
        auto_decompress=False,
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, settings.host, settings.port).start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()
