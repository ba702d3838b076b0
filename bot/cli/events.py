"""`bot events`: list, replay, resume."""

from __future__ import annotations

import click

from bot.cli.common import fail, on_database, read_settings


@click.group(invoke_without_command=True)
@click.pass_context
def events(context: click.Context) -> None:
    """List, replay or resume the events that are sent to your app.

    Without a command: `bot events list`.
    """
    if context.invoked_subcommand is None:
        context.invoke(list_events)


@events.command("list")
def list_events() -> None:
    """Count events by state, and list those that were given up."""
    from bot.services import status
    from bot.settings import DatabaseSettings

    settings = read_settings(DatabaseSettings)
    click.echo(on_database(settings, lambda database, _: database.read(status.of_events)))


@events.command()
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--all", "replay_all", is_flag=True, help="All events that were given up.")
def replay(*, ids: tuple[str, ...], replay_all: bool) -> None:
    """Put events that were given up back in the queue: those with these IDs, or --all."""
    from bot.settings import DatabaseSettings
    from bot.store.queues import app_events

    if replay_all == bool(ids):
        fail("name the events: bot events replay ID, or --all; bot events lists them")
    names = None if replay_all else ids
    count = on_database(
        read_settings(DatabaseSettings),
        lambda database, now: database.write(app_events.replay, names, now),
    )
    if count < len(set(ids)):
        fail(f"queued {count} of {len(set(ids))} again; bot events lists those that were given up")
    click.echo(f"Queued again: {count}. They are sent while bot serve or bot work runs.")


@events.command()
def resume() -> None:
    """Send events again after your app has answered 410 (Gone)."""
    from bot.settings import DatabaseSettings
    from bot.store.queues import app_events

    settings = read_settings(DatabaseSettings)
    if on_database(settings, lambda database, _: database.write(app_events.enable, None)):
        click.echo("Resumed. Queued events are sent while bot serve or bot work runs.")
    else:
        click.echo("Nothing was paused.")
