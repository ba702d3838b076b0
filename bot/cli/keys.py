"""`bot keys`: create, list, revoke."""

from __future__ import annotations

import click

from bot.cli.common import fail, on_database, read_settings


@click.group()
def keys() -> None:
    """Create, list and revoke the API keys of your apps."""


@keys.command()
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice(["verifications:read", "verifications:write"]),
    help="What the key allows; repeat it for more than one. Default: all.",
)
@click.option(
    "--per-minute",
    type=click.IntRange(1, 1_000_000),
    default=600,
    show_default=True,
    help="How many requests a minute the key allows.",
)
def create(name: str, scopes: tuple[str, ...], per_minute: int) -> None:
    """Create a key for the app called NAME, and print it this once."""
    from bot.settings import DatabaseSettings
    from bot.store import api_keys

    settings, title = read_settings(DatabaseSettings), name.strip()
    if not title or len(title) > api_keys.MAX_TITLE_LENGTH or not title.isprintable():
        fail(f"NAME: write 1 to {api_keys.MAX_TITLE_LENGTH} printable characters, like 'web shop'")
    allowed = frozenset(map(api_keys.Scope, scopes or api_keys.Scope))
    key = on_database(
        settings,
        lambda database, now: database.write(api_keys.create, title, allowed, per_minute, now),
    )
    click.echo(key)
    click.echo("Keep this key in your app's secrets: it is never shown again.", err=True)


@keys.command("list")
def list_keys() -> None:
    """List all keys, without their secrets."""
    from bot.services import status
    from bot.settings import DatabaseSettings
    from bot.store import api_keys

    settings = read_settings(DatabaseSettings)
    stored = on_database(settings, lambda database, _: database.read(api_keys.list_all))
    click.echo(status.of_keys(stored) or "There are no keys yet; create one: bot keys create NAME")


@keys.command()
@click.argument("id_", metavar="ID")
def revoke(id_: str) -> None:
    """Revoke the key with this ID, from the next request on."""
    from bot.settings import DatabaseSettings
    from bot.store import api_keys

    settings = read_settings(DatabaseSettings)
    if not on_database(settings, lambda database, now: database.write(api_keys.revoke, id_, now)):
        fail("no valid key has this ID; to see the IDs, run: bot keys list")
    click.echo("The key is revoked: requests with it are refused from now on.")
