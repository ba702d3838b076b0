"""`bot migrate`, `bot status` and `bot unlock`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from bot.cli.common import database_errors, fail, on_database, read_settings, run

if TYPE_CHECKING:
    from bot.settings import DatabaseSettings


@click.command()
def migrate() -> None:
    """Bring the database to the newest schema."""
    from bot.settings import DatabaseSettings
    from bot.store.engine.migrate import migrate

    settings = read_settings(DatabaseSettings)
    with database_errors(settings):
        run(migrate(settings.database_url))
    click.echo(f"The database has the newest schema: {settings.database_url!r}")


@click.command()
@click.argument("phone", required=False)
def status(phone: str | None) -> None:
    """Count conversations and texts by state, or show the state of one PHONE."""
    from bot.services import status
    from bot.settings import StatusSettings

    settings = read_settings(StatusSettings)
    number = phone and _canonical(phone, settings)
    report = on_database(
        settings,
        lambda database, now: (
            database.read(status.overview, now, settings.form_budget)
            if number is None
            else database.read(status.of_phone, number, now)
        ),
    )
    click.echo(report)


@click.command()
@click.argument("phone")
def unlock(phone: str) -> None:
    """Lift all locks of one PHONE, and open what is closed for it after too many wrong codes."""
    from bot.services.unlock import unlock
    from bot.settings import UnlockSettings

    settings = read_settings(UnlockSettings)
    number = _canonical(phone, settings)
    opened = on_database(
        settings,
        lambda database, now: database.write(
            lambda connection: unlock(connection, number, now, has_app=bool(settings.events_url))
        ),
    )
    click.echo(f"{number} is no longer locked. Opened: {', '.join(opened) or 'nothing'}.")


def _canonical(phone: str, settings: DatabaseSettings) -> str:
    """Return a phone as the database has it (E.164); exit with 1 if it is not a number."""
    from bot.conversation.numbers import canonical, to_e164

    try:
        return canonical(to_e164(phone, settings.country_code))
    except ValueError as error:
        fail(f"PHONE: {error}; write it like +13125550001")
