"""Logging configuration. Exceptions are logged without their messages, which may quote data."""

from __future__ import annotations

import logging
import sys
import traceback
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from types import TracebackType

    from structlog.typing import EventDict, Processor


def configure(level: str, style: str) -> None:
    """Log to standard error: the bot at `level`, libraries at WARNING; `style` is console or json.

    Libraries stay at WARNING because aiosqlite and the SDK log parameters and texts at DEBUG.
    """
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _without_messages,
    ]
    renderer: Processor = (
        structlog.processors.JSONRenderer(default=str)
        if style == "json"
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_is_ours_or_warning)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_first_line, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("bot").setLevel(level.upper())
    # aiohttp logs each broken or malformed request; our own errors are logged by the middleware.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    logging.captureWarnings(capture=True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )


def _is_ours_or_warning(record: logging.LogRecord) -> bool:
    """Return whether a record is the bot's own, or at least a warning.

    Loggers' levels do not suffice: with TELNYX_LOG, the SDK lowers that of its own logger.
    """
    return record.levelno >= logging.WARNING or record.name.partition(".")[0] == "bot"


def _first_line(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Cut asyncio's messages to one line: the next ones show tasks, which quote exceptions."""
    if event["_record"].name == "asyncio":
        event["event"] = str(event["event"]).partition("\n")[0]
    return event


def _without_messages(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Replace an exception with its type and its stack, without its message."""
    raised = event.pop("exc_info", None)
    if raised:
        event["exception"] = "\n".join(_frames(_exception_of(raised)))
    return event


def _exception_of(raised: Any) -> BaseException | None:
    if isinstance(raised, BaseException):
        return raised
    return raised[1] if isinstance(raised, tuple) else sys.exc_info()[1]


def _frames(error: BaseException | None) -> list[str]:
    lines: list[str] = []
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        lines += [type(error).__qualname__, *_stack(error.__traceback__)]
        error = error.__cause__ or error.__context__
    return lines


def _stack(trace: TracebackType | None) -> list[str]:
    return [
        f"  {frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(trace)
    ]
