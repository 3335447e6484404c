"""A record of `logging` as OTLP has it: without secrets, encodable whatever it holds, and of a bounded size."""

from __future__ import annotations

import copy
import json
import logging
import time
from collections.abc import Mapping
from typing import Any, Final

from opentelemetry import trace
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.semconv.attributes import code_attributes, exception_attributes
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from otel_genapp import semconv
from otel_genapp.logs import RedactSecrets
from otel_genapp.logs.fields import fields_with
from otel_genapp.logs.lines import extras
from otel_genapp.logs.redaction import OWN_ATTRIBUTES, clean_argument, clean_arguments, clean_text
from otel_genapp.logs.texts import message_of, repr_of, text_of, unshown
from otel_genapp.pipeline.export.weight import weight_of
from otel_genapp.pipeline.redact import CUT_MARK, TEXT_LIMIT_BYTES, encodable
from otel_genapp.quiet import quiet
from otel_genapp.secrets import REDACTED, beginning_without_secrets, without_secrets

TEXT_CHARS: Final = TEXT_LIMIT_BYTES
"""A longer text, value or traceback is cut and marked."""
RECORD_CHARS: Final = 4 * TEXT_CHARS
"""So much is sent of all values of a record together."""

_IDS = {
    "user_id": semconv.USER_ID, "session_id": semconv.SESSION_ID, "correlation_id": semconv.CORRELATION_ID,
}  # fmt: skip
_FIELDS = frozenset({*_IDS, "trace_id", "span_id"})
_SEVERITY_TEXTS = {"WARNING": "WARN", "CRITICAL": "FATAL"}
_LARGEST_INT = 2**63 - 1
_FEW_CHARS, _NUMBER_CHARS = 200, 8
_RECORD_BYTES = 2500
_DEPTH = 8
"""Deeper than anything that is shown."""
_FORMATTER = logging.Formatter()
_redact = RedactSecrets()
_guarded = quiet("export")


def otlp_record(record: logging.LogRecord) -> LogRecord:
    """The record, cleaned; the application's own, which other handlers get too, stays as it is."""
    clean = _shortened_record(record)
    message = _exception_message(clean)
    _redact.filter(clean)
    said = {name: value for name, value in vars(clean).items() if name in _FIELDS}
    fields = {**fields_with(record.exc_info), **said}
    attributes: dict[str, Any] = {}
    for key, value in (
        (code_attributes.CODE_FILE_PATH, record.pathname),
        (code_attributes.CODE_FUNCTION_NAME, record.funcName),
        (code_attributes.CODE_LINE_NUMBER, record.lineno),
        *((key, fields.get(name) or None) for name, key in _IDS.items()),
    ):
        if value is not None:
            attributes[key] = value if isinstance(value, int) else encodable(text_of(value))
    for name, value in extras(clean):
        if value is not None:
            attributes[encodable(without_secrets(text_of(name)))] = _attribute(value)
    if clean.exc_text:
        attributes[exception_attributes.EXCEPTION_STACKTRACE] = clean.exc_text
    attributes.update(message)
    return LogRecord(
        timestamp=_nanoseconds(record.created),
        observed_timestamp=time.time_ns(),
        context=_context(str(fields.get("trace_id", "")), str(fields.get("span_id", ""))),
        severity_text=encodable(_SEVERITY_TEXTS.get(record.levelname, text_of(record.levelname))),
        severity_number=_severity(record.levelno),
        body=clean.msg,
        attributes=attributes,
    )


def weight_of_record(record: LogRecord) -> int:
    """The bytes that a queued record costs, roughly."""
    return _RECORD_BYTES + weight_of({"": record.body, **(record.attributes or {})})


class _Room:
    """How many characters there is still room for."""

    __slots__ = ("chars", "keeps_objects")

    def __init__(self, chars: int, *, keeps_objects: bool = False) -> None:
        self.chars = chars
        self.keeps_objects = keeps_objects
        """Whether objects that fit stay objects, or become text at once."""

    def take(self, text: str) -> str:
        """As much of a text as there is room for."""
        text = _beginning(text, min(max(self.chars, 0), TEXT_CHARS))
        self.chars -= len(text)
        return text


def _shortened_record(record: logging.LogRecord) -> logging.LogRecord:
    """A copy whose message, exception and values are text of a bounded length; not clean yet."""
    short = copy.copy(record)
    short.msg = clean_argument(_shortened_argument(record.msg, _Room(RECORD_CHARS, keeps_objects=True)))
    short.args = clean_arguments(_shortened_arguments(record.args))
    short.msg, short.args = _beginning(message_of(short), TEXT_CHARS), None
    if not record.exc_text and record.exc_info:
        with _guarded:  # on a record made by hand it may be anything
            short.exc_text = _FORMATTER.formatException(record.exc_info)
    if short.exc_text:
        short.exc_text = _beginning(short.exc_text, TEXT_CHARS)
    short.stack_info = None  # is not sent
    room = _Room(RECORD_CHARS)
    for name, value in tuple(vars(short).items()):
        if name not in OWN_ATTRIBUTES and not _is_plain(value):
            setattr(short, name, _value_within(room, value))
    return short


def _is_plain(value: Any) -> bool:
    """Whether there is nothing to do: most values are like that."""
    if value.__class__ is str:
        return len(value) <= _FEW_CHARS and value.isascii()
    return value is None or isinstance(value, bool | int | float)


def _value_within(room: _Room, value: Any) -> Any:
    """The value, as far as there is room in its record and as one value may be long."""
    shorter: Any = REDACTED
    with _guarded:  # a mapping of the application's own may raise
        own = _Room(min(room.chars, TEXT_CHARS))
        room.chars -= own.chars
        shorter = _shortened(value, own)
        room.chars += own.chars
    return shorter


def _shortened_arguments(arguments: Any) -> Any:
    """The arguments of a message with long texts cut; numbers and objects stay, for `%d` and the like."""
    room = _Room(RECORD_CHARS, keeps_objects=True)
    if isinstance(arguments, tuple):
        return tuple(_shortened_argument(item, room) for item in arguments)
    if isinstance(arguments, Mapping):
        return {key: _shortened_argument(item, room) for key, item in arguments.items()}
    return arguments


def _shortened_argument(argument: Any, room: _Room) -> Any:
    return _shortened(argument, room) if isinstance(argument, str | Mapping | list | tuple) else argument


def _shortened(value: Any, room: _Room, *, depth: int = 0) -> Any:
    """`value` as text, numbers, lists and mappings, as far as there is room."""
    if value is None or isinstance(value, bool | int | float):
        room.chars -= _NUMBER_CHARS
        return value
    if isinstance(value, str):
        return room.take(value)
    if isinstance(value, Mapping | list | tuple):
        return REDACTED if depth >= _DEPTH else _shortened_items(value, room, depth=depth + 1)
    shown = repr_of(value)
    taken = room.take(shown)
    return value if room.keeps_objects and taken == shown != unshown(value) else taken


def _shortened_items(value: Any, room: _Room, *, depth: int) -> Any:
    if isinstance(value, Mapping):
        shorter: dict[Any, Any] = {}
        for key, item in value.items():
            if room.chars <= 0:
                shorter[CUT_MARK] = len(value) - len(shorter)
                break
            is_plain = key is None or isinstance(key, bool | int | float)
            shorter[key if is_plain else room.take(text_of(key))] = _shortened(item, room, depth=depth)
        return shorter
    items: list[Any] = []
    for item in value:
        if room.chars <= 0:
            items.append(CUT_MARK)
            break
        items.append(_shortened(item, room, depth=depth))
    return tuple(items) if isinstance(value, tuple) else items


def _beginning(text: str, limit: int) -> str:
    """The text, or as much of it as is sent, cut where no secret is cut in two."""
    if len(text) > limit:
        text = beginning_without_secrets(text, limit) + CUT_MARK
    return encodable(text)


def _attribute(value: Any) -> Any:
    """A value that is clean and short, as an attribute has it."""
    if isinstance(value, bool | float | str):
        return value
    if isinstance(value, int) and abs(value) <= _LARGEST_INT:
        return value
    text = None
    if isinstance(value, dict | list | tuple):
        try:
            text = json.dumps(value, ensure_ascii=False)
        except (RecursionError, TypeError, ValueError):
            text = None
    return _beginning(repr_of(value) if text is None else text, TEXT_CHARS)


def _exception_message(record: logging.LogRecord) -> dict[str, str]:
    found = {}
    if isinstance(record.exc_info, tuple) and record.exc_info[:1] != (None,):
        kind, error = record.exc_info[:2]
        found[exception_attributes.EXCEPTION_TYPE] = encodable(getattr(kind, "__qualname__", text_of(kind)))
        found[exception_attributes.EXCEPTION_MESSAGE] = clean_text(_beginning(text_of(error), TEXT_CHARS))
    return found


def _nanoseconds(created: float) -> int:
    """The time of a record; of one whose time cannot be sent, the time it is."""
    try:
        at_ns = int(created * 1e9)
    except (OverflowError, TypeError, ValueError):
        return time.time_ns()
    return at_ns if 0 <= at_ns < 2**64 else time.time_ns()


def _context(trace_id: str, span_id: str) -> Context | None:
    """The context with the span of these ids; the sampled flag is the current span's, if it is that one."""
    try:
        ids = int(trace_id or "0", 16), int(span_id or "0", 16)
    except ValueError:  # the application's own idea of an id
        return Context()
    if not (0 <= ids[0] < 2**128 and 0 <= ids[1] < 2**64):
        return Context()
    here = trace.get_current_span().get_span_context()
    same = (here.trace_id, here.span_id) == ids
    span = NonRecordingSpan(
        SpanContext(*ids, is_remote=False, trace_flags=here.trace_flags if same else TraceFlags(0))
    )
    return trace.set_span_in_context(span, Context())


def _severity(level: int) -> SeverityNumber:
    """DEBUG is 5, INFO 9, WARNING 13, ERROR 17, CRITICAL 21; what lies between counts up by up to 3."""
    if level < logging.DEBUG:
        return SeverityNumber.UNSPECIFIED if level <= 0 else SeverityNumber.TRACE
    step, rest = divmod(min(level, 53), 10)
    return SeverityNumber(min(step * 4 + 1 + min(rest, 3), 24))
