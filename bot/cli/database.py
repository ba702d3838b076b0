"""`bot migrate` and `bot status`."""

from __future__ import annotations

import click

from bot.cli.common import database_errors, fail, on_database, read_settings, run


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
    from bot.conversation.numbers import canonical, to_e164
    from bot.services import status
    from bot.settings import DatabaseSettings

    settings = read_settings(DatabaseSettings)
    try:
        number = phone and canonical(to_e164(phone, settings.country_code))
    except ValueError as error:
        fail(f"PHONE: {error}; write it like +13125550001")

    report = on_database(
        settings,
        lambda database, now: (
            database.read(status.overview, now)
            if number is None
            else database.read(status.of_phone, number, now)
        ),
    )
    click.echo(report)
