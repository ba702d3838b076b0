"""`bot demo`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from bot.cli.common import fail, run


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), help="The page's port; usually 8025.")
@click.option("--once", is_flag=True, help="Play one conversation and exit.")
@click.option(
    "--play",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Play a saved transcript and exit, with 1 if it turns out differently.",
)
def demo(*, port: int | None, once: bool, file: Path | None) -> None:
    """Try the bot on this machine: phones in the browser, and no account."""
    from bot import logs
    from bot.app import CrashedError
    from bot.simulator import demo
    from bot.simulator.phones.page.server import PortError

    logs.configure("warning", "console")
    try:
        if file:
            sys.exit(run(demo.play(_read(file))))
        if once:
            sys.exit(run(demo.play(demo.first_story())))
        run(demo.run(port))
    except PortError as error:
        fail(f"{error}; try another --port")
    except CrashedError as error:
        fail(str(error))


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        fail(f"{file} is not a transcript: it is not a text file in UTF-8")
