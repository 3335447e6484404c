"""Logs that can be found by the ids of the traces, without secrets: for structlog and `logging`.

    structlog.configure(processors=[add_context, …, redact_secrets, JSONRenderer()])
    handler.addFilter(RedactSecrets())

Put `redact_secrets` right before the renderer, so that formatted tracebacks pass it too.
`install_logging` is called by `init_telemetry`.
"""

from __future__ import annotations

import logging
import operator
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import suppress
from typing import Any, Final

from opentelemetry import trace

from otel_genapp.context import current
from otel_genapp.quiet import quiet
from otel_genapp.secrets import REDACTED, clean_urls_in, without_secret_value, without_secrets

FIELDS: Final = ("correlation_id", "session_id", "trace_id", "span_id")
"""What every log record carries; "" on records of `logging` where there is none."""

_HTTP_LOGGERS = ("httpx", "httpx2")
_IDS = frozenset({*FIELDS, "user_id", "request_id"})
_LEFT_ALONE = frozenset({"exc_info", "_record", "_logger"})
"""Entries that later processors turn into text."""
_DEPTH = 6
_FORMATTER = logging.Formatter()
_OWN_ATTRIBUTES = frozenset({*vars(logging.makeLogRecord({})), "message", "asctime"})

_guarded = quiet("context")

RecordFactory = Callable[..., logging.LogRecord]


def context_fields() -> dict[str, str]:
    """Those of `FIELDS` that are in force here."""
    bound = current()
    span_context = trace.get_current_span().get_span_context()
    fields = {}
    if bound.correlation_id is not None:
        fields["correlation_id"] = bound.correlation_id
    if bound.session_id is not None:
        fields["session_id"] = bound.session_id
    if span_context.is_valid:
        fields["trace_id"] = f"{span_context.trace_id:032x}"
        fields["span_id"] = f"{span_context.span_id:016x}"
    return fields


def add_context(
    logger: object,  # noqa: ARG001 - structlog's signature
    method_name: str,  # noqa: ARG001 - as above
    event_dict: MutableMapping[str, Any],
) -> MutableMapping[str, Any]:
    """A structlog processor: the ids in force here; what the event says itself is kept."""
    with _guarded:
        for name, value in context_fields().items():
            event_dict.setdefault(name, value)
    return event_dict


def redact_secrets(
    logger: object,  # noqa: ARG001 - structlog's signature
    method_name: str,  # noqa: ARG001 - as above
    event_dict: MutableMapping[str, Any],
) -> MutableMapping[str, Any]:
    """A structlog processor: `[REDACTED]` for secrets, in nested values and beside telling names too."""
    clean: Mapping[str, Any] | None = None
    with _guarded:
        clean = _clean_mapping(event_dict)
    if clean is None:  # what could not be cleaned is not shown
        clean = {"event": REDACTED}
    if clean is not event_dict:
        event_dict.clear()
        event_dict.update(clean)
    return event_dict


class RedactSecrets(logging.Filter):
    """`[REDACTED]` for the secrets of a record: put it on a handler.

    Records are changed in place, so the handlers that come later see the clean one. Arguments keep
    their places; a message that is clean only as a whole is formatted here. A traceback with a
    secret becomes text (`exc_text`) and its exception is taken off the record.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        cleaned = False
        with _guarded:
            _clean_record(record)
            cleaned = True
        if not cleaned:  # what could not be cleaned is not shown
            record.msg, record.args = REDACTED, None
            record.exc_info = record.exc_text = record.stack_info = None
            for name in vars(record).keys() - _OWN_ATTRIBUTES:
                setattr(record, name, REDACTED)
        return True


class _CleanUrls(logging.Filter):
    """httpx logs each request with its full URL; the query often is a key."""

    def filter(self, record: logging.LogRecord) -> bool:
        with _guarded:
            if isinstance(record.args, tuple):
                record.args = tuple(_clean_url_argument(argument) for argument in record.args)
            if isinstance(record.msg, str):
                record.msg = clean_urls_in(record.msg)
        return True


class _Fields(dict[str, Any]):
    """The attributes of a record, where ours do not count as taken.

    `Logger.makeRecord` refuses an `extra` whose names are attributes already; an application that
    passes its own `session_id` would meet a KeyError.
    """

    def __contains__(self, key: object) -> bool:
        return key not in FIELDS and super().__contains__(key)

    def __reduce__(self) -> tuple[Any, ...]:
        # A pickled record is read by processes that may not have this package.
        return dict, (dict(self),)


class _ContextFactory:
    """Makes records by the factory before it and gives them the ids in force."""

    def __init__(self, previous: RecordFactory) -> None:
        self.previous = previous
        self.active = True

    def __call__(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record = self.previous(*args, **kwargs)
        if self.active:
            with _guarded:
                fields = _Fields.fromkeys(FIELDS, "")
                fields.update(context_fields())
                fields.update(vars(record))
                record.__dict__ = fields
        return record


def install_logging() -> Callable[[], None]:
    """Give every record of `logging` the attributes of `FIELDS`, and clean the URLs httpx logs.

    Returns the call that takes both back. Where somebody has put a factory of his own on top of
    ours meanwhile, ours stays below it and passes records through.
    """
    factory = _ContextFactory(logging.getLogRecordFactory())
    logging.setLogRecordFactory(factory)
    urls = _CleanUrls()
    for name in _HTTP_LOGGERS:
        logging.getLogger(name).addFilter(urls)

    def undo() -> None:
        factory.active = False
        if logging.getLogRecordFactory() is factory:
            logging.setLogRecordFactory(_below(factory))
        for name in _HTTP_LOGGERS:
            logging.getLogger(name).removeFilter(urls)

    return undo


def _below(factory: _ContextFactory) -> RecordFactory:
    """The next factory that is not one of ours already taken back."""
    below = factory.previous
    while isinstance(below, _ContextFactory) and not below.active:
        below = below.previous
    return below


def _clean_url_argument(argument: object) -> object:
    """Text and the URL objects of the HTTP libraries; numbers keep their type for `%d`."""
    if isinstance(argument, str):
        return clean_urls_in(argument)
    return clean_urls_in(str(argument)) if type(argument).__name__ == "URL" else argument


def _clean_text(text: str) -> str:
    # URLs last: the query that goes with one may begin a secret that ends after it.
    return clean_urls_in(without_secrets(text))


def _clean_value(name: str, value: Any, *, depth: int = 0) -> Any:
    """`value` itself when it holds no secret, else a copy without."""
    if value is None or isinstance(value, bool | int | float) or name in _LEFT_ALONE:
        return value
    if isinstance(value, str):
        if name in _IDS:
            return without_secrets(value, keep_hex=True)
        return clean_urls_in(without_secret_value(name, value))
    if isinstance(value, Mapping | list | tuple) and depth >= _DEPTH:
        return REDACTED
    if isinstance(value, Mapping):
        return _clean_mapping(value, depth=depth + 1)
    if isinstance(value, list | tuple):
        return _clean_sequence(name, value, depth=depth + 1)
    # Renderers show anything else by its repr.
    shown = repr(value)
    clean = clean_urls_in(without_secret_value(name, shown))
    return value if clean == shown else clean


def _clean_mapping(value: Mapping[Any, Any], *, depth: int = 0) -> Mapping[Any, Any]:
    clean: dict[Any, Any] = {}
    same = True
    for key, item in value.items():
        clean_key = without_secrets(key) if isinstance(key, str) else key
        clean[clean_key] = _clean_value(str(key), item, depth=depth)
        same = same and clean_key == key and clean[clean_key] is item
    return value if same else clean


def _clean_sequence(
    name: str, value: list[Any] | tuple[Any, ...], *, depth: int
) -> list[Any] | tuple[Any, ...]:
    clean = [_clean_value(name, item, depth=depth) for item in value]
    if all(map(operator.is_, clean, value)):
        return value
    return tuple(clean) if isinstance(value, tuple) else clean


def _clean_record(record: logging.LogRecord) -> None:
    if isinstance(record.msg, str):
        record.msg = _clean_text(record.msg)
    if isinstance(record.args, tuple):
        record.args = tuple(_clean_text(item) if isinstance(item, str) else item for item in record.args)
    elif isinstance(record.args, Mapping):
        record.args = _clean_mapping(record.args)
    with suppress(TypeError, ValueError, KeyError):  # arguments that do not fit are logging's to report
        message = record.getMessage()
        clean = _clean_text(message)
        if clean != message:  # only the whole tells it: "password=%s"
            record.msg, record.args = clean, None
    if record.exc_info and not record.exc_text:
        formatted = _FORMATTER.formatException(record.exc_info)
        clean = _clean_text(formatted)
        if clean != formatted:
            record.exc_text, record.exc_info = clean, None
    elif record.exc_text:
        record.exc_text = _clean_text(record.exc_text)
    if record.stack_info:
        record.stack_info = _clean_text(record.stack_info)
    for name, value in tuple(vars(record).items()):
        if name not in _OWN_ATTRIBUTES:
            setattr(record, name, _clean_value(name, value))
