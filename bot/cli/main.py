"""The `bot` command, with all its subcommands."""

from __future__ import annotations

import click

from bot import __version__
from bot.cli import database, demo, events, keys, security, serve


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="Textproof")
def main() -> None:
    """Textproof verifies phone numbers by SMS.

    New here? `bot demo` shows everything, without an account.
    """


main.add_command(serve.serve)
main.add_command(serve.work)
main.add_command(database.migrate)
main.add_command(database.status)
main.add_command(database.unlock)
main.add_command(keys.keys)
main.add_command(events.events)
main.add_command(security.security)
main.add_command(demo.demo)
