"""structlog on top of `logging`: its events are records, so that whatever reads records sees them, once."""

from __future__ import annotations

import logging
from collections.abc import Callable, MutableMapping
from functools import cache
from typing import Any

from otel_genapp.logs.fields import add_context
from otel_genapp.logs.lines import RENAMED
from otel_genapp.logs.redaction import OWN_ATTRIBUTES
from otel_genapp.logs.texts import formatted, message_of, text_of

_PASSED_ON = ("exc_info", "stack_info", "stacklevel")
_ARGUMENTS = "positional_args"
"""Where structlog keeps the arguments of an event."""


def to_record(
    logger: object,  # noqa: ARG001 - structlog's signature
    method_name: str,  # noqa: ARG001 - as above
    event_dict: MutableMapping[str, Any],
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The last structlog processor: the event as the arguments of a logger of `logging`. Never raises.

    Arguments that fit stay arguments; those that do not are kept as text, or plain handlers would lose the event.
    """
    said = {text_of(name): value for name, value in event_dict.items()}
    arguments = said.pop(_ARGUMENTS) if isinstance(said.get(_ARGUMENTS), tuple) else ()
    passed_on = {name: said.pop(name) for name in _PASSED_ON if name in said}
    if not isinstance(passed_on.get("stacklevel", 1), int):
        said["stacklevel"] = passed_on.pop("stacklevel")
    event = text_of(said.pop("event", ""))
    if arguments:
        tried = logging.LogRecord("", 0, "", 0, event, arguments, None)
        if formatted(tried) is None:
            event, arguments = message_of(tried), ()
    taken = {name: said.pop(name) for name in tuple(said) if name in OWN_ATTRIBUTES}
    if taken:
        said[RENAMED] = taken
    return (event, *arguments), {**passed_on, "extra": said}


@cache
def _bound_logger() -> type[Any]:
    """The logger of structlog for `logging`, with what its default one has and some versions of that lack."""
    from structlog.stdlib import BoundLogger

    same = {
        "msg": BoundLogger.info,
        "amsg": BoundLogger.ainfo,
        "awarn": BoundLogger.awarning,
        "is_enabled_for": BoundLogger.isEnabledFor,
        "get_effective_level": BoundLogger.getEffectiveLevel,
    }
    return type("BoundLogger", (BoundLogger,), same)


def route_structlog() -> Callable[[], None]:
    """Make structlog, where it is installed, write by `logging`. Returns the call that takes it back."""
    try:
        import structlog
    except ImportError:
        return lambda: None
    before = structlog.get_config() if structlog.is_configured() else None
    logger_class = logging.getLoggerClass()
    factory = structlog.stdlib.LoggerFactory()  # sets a class of loggers that finds the true caller
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            add_context,
            to_record,
        ],
        wrapper_class=_bound_logger(),
        context_class=dict,
        logger_factory=factory,
        cache_logger_on_first_use=False,
    )

    def undo() -> None:
        if structlog.get_config()["logger_factory"] is not factory:  # configured anew meanwhile
            return
        logging.setLoggerClass(logger_class)
        if before is None:
            structlog.reset_defaults()
        else:
            structlog.configure(**before)

    return undo
