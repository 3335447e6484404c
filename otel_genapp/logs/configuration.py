"""`configure_logging`: `logging` and structlog set up by one call, and taken back by another."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any, TextIO

from otel_genapp.errors import ConfigError
from otel_genapp.logs.events import route_structlog
from otel_genapp.logs.installation import install_logging
from otel_genapp.logs.lines import JsonLines
from otel_genapp.quiet import quiet

_SERVERS = (
    "uvicorn", "uvicorn.access", "uvicorn.asgi", "uvicorn.error", "gunicorn.access", "gunicorn.error",
    "hypercorn.access", "hypercorn.error",
)  # fmt: skip
"""Loggers of servers, which write for themselves: theirs would be other lines, and second ones."""

_guarded = quiet("context")


class _Line(logging.LogRecord):
    """A record that is its line already."""


class _Lines(logging.StreamHandler[TextIO]):
    """Our handler, by which a later call finds what an earlier one did."""

    undo: Callable[[], None]

    def handle(self, record: logging.LogRecord) -> Any:
        # The line is made before the lock is taken: the repr of a value may wait for a thread that logs.
        passed: Any = self.filter(record)
        with _guarded:
            if passed:
                one = passed if isinstance(passed, logging.LogRecord) else record
                place = (one.name, one.levelno, one.pathname, one.lineno)
                line = _Line(*place, self.format(one), None, None)
                self.acquire()
                try:
                    self.emit(line)
                finally:
                    self.release()
        return passed

    def format(self, record: logging.LogRecord) -> str:
        return str(record.msg) if isinstance(record, _Line) else super().format(record)


def configure_logging(
    service: str | None = None,
    env: str | None = None,
    *,
    level: int | str = logging.INFO,
    stream: TextIO | None = None,
) -> Callable[[], None]:
    """Write every record of `logging` and every structlog event as one line of JSON, without secrets.

    `service` and `env` are those of the running telemetry unless given; lines go to `stream`, else to
    standard error, from `level` on. Handlers of the root logger that write to the console make room,
    all others stay; the loggers of uvicorn, gunicorn and hypercorn are written like all others. Called
    again, it starts from what was there before the first call. Returns the call that takes it all back.

    Raises:
        ConfigError: there is no such level.
    """
    root = logging.getLogger()
    stream = sys.stderr if stream is None else stream
    for handler in tuple(root.handlers):
        if isinstance(handler, _Lines):
            handler.undo()
    encoding = (getattr(stream, "encoding", None) or "utf-8").lower().replace("-", "").replace("_", "")
    ours = _Lines(stream)
    ours.setFormatter(JsonLines(service, env, ascii_only=not encoding.startswith("utf")))
    steps = [_set_level(root, level), install_logging(), route_structlog()]
    steps.append(_exchange_handlers(root, [*(one for one in root.handlers if not _is_console(one)), ours]))
    steps += [_hand_on(logging.getLogger(name)) for name in _SERVERS]

    def undo() -> None:
        while steps:
            steps.pop()()

    ours.undo = undo
    return undo


def _set_level(logger: logging.Logger, level: int | str) -> Callable[[], None]:
    before = logger.level
    try:
        logger.setLevel(level.upper() if isinstance(level, str) else level)
    except (TypeError, ValueError):
        raise ConfigError(f"level must be a level of logging such as INFO, got {level!r}") from None
    set_to = logger.level

    def undo() -> None:
        if logger.level == set_to:
            logger.setLevel(before)

    return undo


def _exchange_handlers(logger: logging.Logger, handlers: list[logging.Handler]) -> Callable[[], None]:
    """Give a logger these handlers; what others add or take away meanwhile stays so when it is taken back."""
    gone = [one for one in logger.handlers if one not in handlers]
    new = [one for one in handlers if one not in logger.handlers]
    for one in gone:
        logger.removeHandler(one)
    for one in new:
        logger.addHandler(one)

    def undo() -> None:
        for one in new:
            logger.removeHandler(one)
        for one in gone:
            logger.addHandler(one)

    return undo


def _hand_on(logger: logging.Logger) -> Callable[[], None]:
    """Let the root logger's handlers write what this one is told, instead of its console."""
    before = logger.propagate
    put_back = _exchange_handlers(logger, [one for one in logger.handlers if not _is_console(one)])
    logger.propagate = True

    def undo() -> None:
        logger.propagate = before
        put_back()

    return undo


def _is_console(handler: logging.Handler) -> bool:
    consoles: tuple[Any, ...] = (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)
    return (
        isinstance(handler, logging.StreamHandler)
        and not isinstance(handler, logging.FileHandler)
        and any(handler.stream is console for console in consoles)
    )
