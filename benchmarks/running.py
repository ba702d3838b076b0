"""Runs the servers that the bot is compared with: on uvloop, and without a log."""

from __future__ import annotations

import os

import uvloop
from aiohttp import web


def run(application: web.Application) -> None:
    """Serve on the port in PORT until SIGTERM."""
    web.run_app(
        application,
        host="127.0.0.1",
        port=int(os.environ["PORT"]),
        access_log=None,
        loop=uvloop.new_event_loop(),
        print=None,
    )
