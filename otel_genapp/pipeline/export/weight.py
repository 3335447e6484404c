"""What a queued span costs in memory; text that would be cut later is cut before it is kept."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from sys import getsizeof
from typing import Any, Final

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util import BoundedList

from otel_genapp.pipeline.redact import TEXT_LIMIT_BYTES
from otel_genapp.sdk_attributes import attributes_of

KEPT_CHARS: Final = TEXT_LIMIT_BYTES + 4096
"""As far as `redact` reads a text: what follows leaves no trace in what is sent."""

_SPAN_BYTES: Final = 2700
_EVENT_BYTES: Final = 500
_ATTRIBUTE_BYTES: Final = 90
_FEW_CHARS: Final = 1000
"""Up to so many it makes no difference that a character may take four bytes."""
_FEW_ITEMS: Final = 8
_DEPTH: Final = 8
_READ_TO_THEIR_END: Final = ("http.", "url.")
"""Attributes that may be URLs: where a URL's user information ends only its end tells."""


def lightened(span: ReadableSpan) -> tuple[ReadableSpan, int]:
    """(the span, or a copy with its long texts cut; the bytes it costs, roughly)."""
    held: Any = getattr(span, "_attributes", None)
    attributes = getattr(held, "_dict", None)  # the public property copies, on every span's way
    if type(attributes) is not dict:
        attributes = attributes_of(span)
    weight = _SPAN_BYTES + weight_of(attributes)
    held = getattr(span, "_events", True)
    if getattr(held, "_dq", held):  # as above
        for event in span.events:
            weight += _EVENT_BYTES + weight_of(event.attributes or {})
    return (span, weight) if weight <= KEPT_CHARS else _cut(span)


def weight_of(attributes: Mapping[str, Any], depth: int = 0) -> int:
    """The bytes that attributes cost, roughly."""
    values = attributes.values()
    weight = sum([len(value) if value.__class__ is str else _other_weight(value, depth) for value in values])
    if weight > _FEW_CHARS:
        weight += sum([getsizeof(value) - len(value) for value in values if value.__class__ is str])
    return weight + _ATTRIBUTE_BYTES * len(attributes)


def _other_weight(value: Any, depth: int) -> int:
    kind = value.__class__
    if kind is int or kind is float or kind is bool:
        return 0
    if kind is tuple and len(value) <= _FEW_ITEMS:  # what spans have most of: a few short texts
        chars = sum([len(item) if item.__class__ is str else _FEW_CHARS + 1 for item in value])
        if chars <= _FEW_CHARS:
            return chars
    if isinstance(value, tuple | list) and depth < _DEPTH:
        return weight_of(dict(enumerate(value)), depth + 1)  # type: ignore[arg-type] # only its values count
    if isinstance(value, Mapping) and depth < _DEPTH:
        return weight_of(value, depth + 1)
    return getsizeof(value)


def _cut(span: ReadableSpan) -> tuple[ReadableSpan, int]:
    attributes, events = attributes_of(span), span.events
    shorter = _shortened(attributes)
    kept = [_cut_event(event) for event in events]
    weight = _SPAN_BYTES + weight_of(attributes if shorter is None else shorter)
    weight += sum(_EVENT_BYTES + weight_of(event.attributes or {}) for event in kept)
    if shorter is None and all(map(operator.is_, kept, events)):
        return span, weight
    copy = ReadableSpan(
        name=span.name,
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=_counted(attributes if shorter is None else shorter, span.dropped_attributes),
        events=_counted_list(kept, span.dropped_events),
        links=_counted_list(span.links, span.dropped_links),
        kind=span.kind,
        status=span.status,
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )
    return copy, weight


def _cut_event(event: Event) -> Event:
    shorter = _shortened(event.attributes or {})
    if shorter is None:
        return event
    return Event(event.name, _counted(shorter, event.dropped_attributes), event.timestamp)


def _shortened(attributes: Mapping[str, Any]) -> dict[str, Any] | None:
    """A copy with long texts cut; None where none is long."""
    shorter = None
    for key, value in attributes.items():
        if type(value) is str and len(value) > KEPT_CHARS and not key.startswith(_READ_TO_THEIR_END):
            shorter = dict(attributes) if shorter is None else shorter
            shorter[key] = value[:KEPT_CHARS]
    return shorter


def _counted(attributes: dict[str, Any], dropped: int) -> Mapping[str, Any]:
    """The attributes; in the SDK's own shape where it has dropped some, because that says so."""
    if not dropped:
        return attributes
    counted = BoundedAttributes(attributes=attributes)
    counted.dropped = dropped
    return counted


def _counted_list(items: Sequence[Any], dropped: int) -> Sequence[Any]:
    counted = BoundedList.from_seq(None, items)
    counted.dropped = dropped
    return counted
