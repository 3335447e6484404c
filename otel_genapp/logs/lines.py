"""Records as lines of JSON: one record is one line, with the same keys in the same order.

timestamp, level, service, env, logger, event, then `FIELDS` (null where there is none), then what the
record says beside (`extra`, the values of a structlog event), then `exception` and `stack`. A name of
ours that the record uses for something else gets an underscore behind it.
"""

from __future__ import annotations

import copy
import json
import logging
import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import PurePath
from typing import Any, Final
from uuid import UUID

from otel_genapp import hub
from otel_genapp.logs.fields import FIELDS, fields_with
from otel_genapp.logs.redaction import OWN_ATTRIBUTES, clean_argument, clean_arguments, clean_mapping
from otel_genapp.logs.texts import message_of, repr_of
from otel_genapp.quiet import quiet
from otel_genapp.secrets import REDACTED, without_secrets

RENAMED: Final = "_otel_genapp_renamed"
"""The attribute of a record with those values of its event whose names a record has for itself."""

_OURS = frozenset({"timestamp", "level", "service", "env", "logger", "event", "exception", "stack"})
_NOISE = frozenset({
    RENAMED, *FIELDS, "color_message", "otelServiceName", "otelSpanID", "otelTraceID", "otelTraceSampled",
})  # fmt: skip
_ODD = re.compile(
    "[\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ud800-\udfff\ufeff]"
    "(?:(?<=[\ud800-\udbff])[\udc00-\udfff])?"
)
"""What ends a line for some reader, turns text around or cannot be encoded; JSON itself lets it pass."""
_BEYOND_ASCII = re.compile("[^\x00-\x7f]+")
_CONTAINERS = (Mapping, list, tuple)
_AS_TEXT = (date, Decimal, PurePath, UUID)

_guarded = quiet("context")


class JsonLines(logging.Formatter):
    """A formatter for one line of JSON a record, without secrets; never raises.

    `service` and `env` are those of the running telemetry unless given. Exceptions are text, without
    the values of variables. With `ascii_only` everything else is escaped.
    """

    def __init__(
        self, service: str | None = None, env: str | None = None, *, ascii_only: bool = False
    ) -> None:
        super().__init__()
        self._service = service
        self._env = env
        self._ascii_only = ascii_only

    def format(self, record: logging.LogRecord) -> str:
        said: Mapping[Any, Any] = {"event": REDACTED}  # what could not be cleaned is not shown
        with _guarded:
            said = clean_mapping(self._said(record))
        line = ""
        with _guarded:
            line = self._line({**self._head(record), **said})
        return line or self._line({**self._head(record), "event": REDACTED})

    def _head(self, record: logging.LogRecord) -> dict[str, Any]:
        running = hub.active
        settings = running.settings if running is not None else None
        return {
            "timestamp": _moment(record.created).isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "level": str(record.levelname).lower(),
            "service": self._service or (settings.app if settings is not None else None),
            "env": self._env or (settings.env if settings is not None else None),
        }

    def _said(self, record: logging.LogRecord) -> dict[str, Any]:
        found: dict[str, Any] = {"logger": record.name, "event": _message(record)}
        attributes = vars(record)
        in_force = {} if FIELDS[0] in attributes else fields_with(record.exc_info)
        for name in FIELDS:
            value = attributes.get(name, in_force.get(name))
            found[name] = None if value == "" else value
        for name, value in extras(record):
            found[f"{name}_" if name in _OURS else name] = value
        if record.exc_text:
            found["exception"] = record.exc_text
        elif record.exc_info:
            found["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            found["stack"] = record.stack_info
        return found

    def _line(self, entry: dict[str, Any]) -> str:
        try:
            text = self._dumped(entry)
        except (RecursionError, TypeError, ValueError):  # keys that are no text, numbers JSON has not
            text = self._dumped(_plain(entry))
        text = _ODD.sub(_harmless, text)
        if self._ascii_only and not text.isascii():
            text = _BEYOND_ASCII.sub(_escaped, text)
        return text

    def _dumped(self, entry: Any) -> str:
        # Escaped here, a lone surrogate could not be told from a text about one.
        return json.dumps(entry, ensure_ascii=False, allow_nan=False, default=_shown)


def _harmless(found: re.Match[str]) -> str:
    """The odd character escaped; U+FFFD for half a one, which strict readers refuse."""
    odd = found[0]
    return "\ufffd" if len(odd) == 1 and "\ud800" <= odd <= "\udfff" else _escaped(found)


def _escaped(found: re.Match[str]) -> str:
    return json.dumps(found[0])[1:-1]


def extras(record: logging.LogRecord) -> Iterator[tuple[str, Any]]:
    """(name, value) of what a record says beside its message and the ids."""
    for name, value in tuple(vars(record).items()):
        if name == RENAMED and isinstance(value, dict):
            yield from value.items()
        elif name not in OWN_ATTRIBUTES and name not in _NOISE:
            yield name, value


def _message(record: logging.LogRecord) -> str:
    """The message; where it is made of containers their names tell what is a secret, and the text may not."""
    arguments = record.args if isinstance(record.args, tuple) else (record.args,)
    if any(isinstance(one, _CONTAINERS) for one in (record.msg, *arguments)):
        record = copy.copy(record)
        record.msg, record.args = clean_argument(record.msg), clean_arguments(record.args)
    return message_of(record)


def _moment(created: float) -> datetime:
    """The time of a record; of one whose time is none, the time it is."""
    try:
        return datetime.fromtimestamp(created, UTC)
    except (OSError, OverflowError, TypeError, ValueError):
        return datetime.now(UTC)


def _shown(value: Any) -> Any:
    """A value JSON has no form for. By its repr, which is what was looked at for secrets."""
    if isinstance(value, _AS_TEXT):
        return value.isoformat() if isinstance(value, date) else str(value)
    return dict(value) if isinstance(value, Mapping) else repr_of(value)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {without_secrets(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
