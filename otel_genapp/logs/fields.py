"""The ids in force, as fields of records of `logging` and of events of structlog."""

from __future__ import annotations

import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, Final

from otel_genapp.context import ids_in, remembered_ids
from otel_genapp.quiet import quiet

FIELDS: Final = ("user_id", "session_id", "correlation_id", "trace_id", "span_id")
"""What every log record carries; "" on records of `logging` where there is none."""

_guarded = quiet("context")


def context_fields() -> dict[str, str]:
    """Those of `FIELDS` that are in force here."""
    return ids_in(None)


def fields_with(exc_info: object) -> Mapping[str, str]:
    """Those in force here; where there are none, those in force where the error of `exc_info` came from."""
    fields = context_fields()
    if fields or not exc_info:
        return fields
    if exc_info is True:  # as structlog takes it
        exc_info = sys.exc_info()
    error = exc_info[1] if isinstance(exc_info, tuple) and len(exc_info) > 1 else exc_info
    return remembered_ids(error) if isinstance(error, BaseException) else fields


def add_context(
    logger: object,  # noqa: ARG001 - structlog's signature
    method_name: str,  # noqa: ARG001 - as above
    event_dict: MutableMapping[str, Any],
) -> MutableMapping[str, Any]:
    """A structlog processor: the ids in force here, or where its exception came from; what the event says itself is kept."""
    with _guarded:
        for name, value in fields_with(event_dict.get("exc_info")).items():
            event_dict.setdefault(name, value)
    return event_dict
