"""Records and events without secrets, whatever writes them."""

from __future__ import annotations

import logging
import operator
from collections.abc import Mapping, MutableMapping
from typing import Any, Final

from otel_genapp.logs.fields import FIELDS
from otel_genapp.logs.texts import formatted, message_of, repr_of, text_of, unshown
from otel_genapp.quiet import quiet
from otel_genapp.secrets import REDACTED, clean_urls_in, kind_of_name, without_secret_value, without_secrets

OWN_ATTRIBUTES: Final = frozenset({*vars(logging.makeLogRecord({})), "message", "asctime"})
"""What a record of `logging` has of itself; all the rest is `extra`, or our fields."""

_IDS = frozenset({*FIELDS, "request_id"})
_LEFT_ALONE = frozenset({"exc_info", "_record", "_logger"})
"""Entries that later processors turn into text."""
_DEPTH = 6
_FORMATTER = logging.Formatter()

_guarded = quiet("context")


def redact_secrets(
    logger: object,  # noqa: ARG001 - structlog's signature
    method_name: str,  # noqa: ARG001 - as above
    event_dict: MutableMapping[str, Any],
) -> MutableMapping[str, Any]:
    """A structlog processor: `[REDACTED]` for secrets, in nested values and beside telling names too."""
    clean: Mapping[str, Any] | None = None
    with _guarded:
        clean = clean_mapping(event_dict)
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
            for name in vars(record).keys() - OWN_ATTRIBUTES:
                setattr(record, name, REDACTED)
        return True


def clean_text(text: str) -> str:
    """`text` without secrets, those in URLs included."""
    # URLs last: the query that goes with one may begin a secret that ends after it.
    return clean_urls_in(without_secrets(text))


def _clean_value(name: str, value: Any, *, depth: int = 0) -> Any:
    """`value` itself when it holds no secret, else a copy without."""
    if value is None or isinstance(value, bool) or name in _LEFT_ALONE:
        return value
    if isinstance(value, str):
        if name in _IDS:
            return without_secrets(value, keep_hex=True)
        return clean_urls_in(without_secret_value(name, value))
    if isinstance(value, Mapping | list | tuple) and not value:
        return value
    kind = kind_of_name(name)
    if kind == "certain":  # nobody knows which part of it is the password
        return REDACTED
    if isinstance(value, int | float):
        return value
    if isinstance(value, Mapping | list | tuple) and depth >= _DEPTH:
        return REDACTED
    if isinstance(value, Mapping):
        return clean_mapping(value, depth=depth + 1, under=name if kind else "")
    if isinstance(value, list | tuple):
        return _clean_sequence(name, value, depth=depth + 1)
    # Renderers show anything else by its repr.
    shown = repr_of(value)
    clean = clean_urls_in(without_secret_value(name, shown))
    return value if clean == shown and shown != unshown(value) else clean


def clean_mapping(value: Mapping[Any, Any], *, depth: int = 0, under: str = "") -> Mapping[Any, Any]:
    """`value` itself when it holds no secret, else a copy without; what the mapping itself raises comes through.

    `under` is the name of the whole, for keys that say nothing themselves.
    """
    clean: dict[Any, Any] = {}
    same = True
    for key, item in value.items():
        name = text_of(key)
        if under and name not in _IDS and not kind_of_name(name):
            name = under
        clean_key = without_secrets(key) if isinstance(key, str) else key
        clean[clean_key] = _clean_value(name, item, depth=depth)
        same = same and clean_key == key and clean[clean_key] is item
    return value if same else clean


def _clean_sequence(
    name: str, value: list[Any] | tuple[Any, ...], *, depth: int
) -> list[Any] | tuple[Any, ...]:
    clean = [_clean_value(name, item, depth=depth) for item in value]
    if all(map(operator.is_, clean, value)):
        return value
    return tuple(clean) if isinstance(value, tuple) else clean


def clean_argument(argument: Any) -> Any:
    """A message or one of its arguments, itself when it holds no secret; what is no text or container stays."""
    return _clean_value("", argument) if isinstance(argument, str | Mapping | list | tuple) else argument


def clean_arguments(arguments: Any) -> Any:
    """The arguments of a record, themselves when they hold no secret; those of another type may not fit."""
    if isinstance(arguments, tuple):
        clean = tuple(map(clean_argument, arguments))
        return arguments if all(map(operator.is_, clean, arguments)) else clean
    return clean_mapping(arguments) if isinstance(arguments, Mapping) else arguments


def _clean_message(record: logging.LogRecord, *, given: Any) -> None:
    message = formatted(record)
    if message is not None:
        clean = clean_text(message)
        if clean != message:  # only the whole tells it: "password=%s"
            record.msg, record.args = clean, None
    elif record.args is not given:  # what did not fit before is logging's to report
        record.msg, record.args = clean_text(message_of(record)), None


def _clean_record(record: logging.LogRecord) -> None:
    record.msg = clean_argument(record.msg)
    given, record.args = record.args, clean_arguments(record.args)
    if record.args or not isinstance(record.msg, str):
        _clean_message(record, given=given)
    if record.exc_info and not record.exc_text:
        traceback = _FORMATTER.formatException(record.exc_info)
        clean = clean_text(traceback)
        if clean != traceback:
            record.exc_text, record.exc_info = clean, None
    elif record.exc_text:
        record.exc_text = clean_text(record.exc_text)
    if record.stack_info:
        record.stack_info = clean_text(record.stack_info)
    for name, value in tuple(vars(record).items()):
        if name not in OWN_ATTRIBUTES:
            setattr(record, name, _clean_value(name, value))
