"""Kept spans as text: one line of JSON, the values in a fixed order after a version."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import fields
from operator import attrgetter
from typing import Any, Final

from otel_genapp.ledger.codec import DecodeError
from otel_genapp.records import KeptEvent, KeptSpan

SPAN: Final = "s1"
"""Kind and version; a change of the fields of kept spans makes a new one."""

_NAMES: Final = tuple(field.name for field in fields(KeptSpan) if field.name != "events")
_values_of = attrgetter(*_NAMES)
_encoded = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


def encode(span: KeptSpan) -> str:
    """The text of a span: ASCII, without line breaks."""
    events = [(event.name, event.at_ns, event.attributes) for event in span.events]
    return _encoded((SPAN, _values_of(span), events))


def decode(text: str) -> KeptSpan:
    """The span `encode` made this text of.

    Raises:
        DecodeError: it is not what this version writes: a newer one's, or damaged.
    """
    try:
        version, values, events = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        raise DecodeError("no span") from None
    if version != SPAN or not isinstance(values, list) or len(values) != len(_NAMES):
        raise DecodeError(f"a span of the kind {str(version)[:16]!r}, which this version does not know")
    said: dict[str, Any] = dict(zip(_NAMES, values, strict=True))
    return KeptSpan(**said, events=tuple(_event(event) for event in events))


def value_text(value: str) -> str:
    """How a text stands in the text of a span, if it is a value of it."""
    return _encoded(value)


def says(text: str, *, keys: Iterable[str], value: str) -> bool:
    """Whether an attribute of one of these keys has that value, in the text of a span."""
    return any(f"{_encoded(key)}:{_encoded(value)}" in text for key in keys)


def _event(said: Any) -> KeptEvent:
    if not isinstance(said, list) or len(said) != 3:
        raise DecodeError("a span with events that this version does not know")
    return KeptEvent(name=said[0], at_ns=said[1], attributes=said[2])
