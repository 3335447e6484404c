"""A finished span as it is kept: cleaned at the choke point of every sink, bounded, of plain values."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any, Final

from opentelemetry.sdk.trace import Event, ReadableSpan

from otel_genapp import semconv
from otel_genapp.pipeline.finished import given_ns
from otel_genapp.pipeline.redact import CUT_MARK, redacted
from otel_genapp.pipeline.traces.content import is_content
from otel_genapp.records import KeptEvent, KeptSpan
from otel_genapp.sdk_attributes import attributes_of

NAME_CHARS: Final = 256
TEXT_CHARS: Final = 1024
STACK_CHARS: Final = 4096
ATTRIBUTES_CHARS: Final = 8192
"""Keys and values of a span's attributes together."""
ATTRIBUTES: Final = 64
ITEMS: Final = 32
EVENTS: Final = 4

_EXCEPTION: Final = "exception"
_STACK: Final = "exception.stacktrace"
_FIRST: Final = (
    *semconv.OWN_ID_KEYS, semconv.ERROR_TYPE, "http.", "url.", "server.", "genapp.", "gen_ai.", "rpc.", "db.",
)  # fmt: skip
"""What stays where there is no room for all."""
_LARGEST_INT: Final = 2**63
_NUMBER_CHARS: Final = 8
_DAY_NS: Final = 86_400 * 10**9
_GONE: Final = object()


def kept(span: ReadableSpan, *, with_content: bool = False) -> KeptSpan:
    """The span as it is kept; prompts and answers only if asked.

    Raises:
        Exception: what a span not made by the SDK raises while it is read; such a span is not kept.
    """
    clean = redacted(span)
    context = clean.get_span_context()
    if context is None:
        raise ValueError("a span without a context")
    attributes, cut = _plain(attributes_of(clean), with_content=with_content)
    exceptions = [event for event in clean.events if event.name == _EXCEPTION]
    events = [_event(event, with_content=with_content) for event in exceptions[-EVENTS:]]
    started_ns, duration_ms = _times(clean)
    trace_id = f"{context.trace_id:032x}"
    scope = clean.instrumentation_scope
    status = clean.status
    return KeptSpan(
        trace_id=trace_id,
        span_id=f"{context.span_id:016x}",
        parent_id=f"{clean.parent.span_id:016x}" if clean.parent is not None else None,
        correlation_id=_text_in(attributes, semconv.CORRELATION_ID) or trace_id,
        name=_cut(clean.name, NAME_CHARS),
        kind=clean.kind.name.lower(),
        scope=_cut(scope.name, NAME_CHARS) if scope is not None else "",
        service=_cut(_text_in(clean.resource.attributes, semconv.SERVICE_NAME) or "", NAME_CHARS),
        started_at_ns=started_ns,
        duration_ms=duration_ms,
        status=status.status_code.name.lower(),
        status_message=_cut(status.description or "", TEXT_CHARS),
        error_type=_text_in(attributes, semconv.ERROR_TYPE) or _raised(events),
        attributes=attributes,
        events=tuple(event for event, _ in events),
        links=len(clean.links) + clean.dropped_links,
        cut=cut + clean.dropped_attributes + len(exceptions) - len(events) + sum(lost for _, lost in events),
    )


def _times(span: ReadableSpan) -> tuple[int, float]:
    """Start in UTC nanoseconds, and milliseconds; one of the future would never be old enough to go."""
    now_ns = time.time_ns()
    ended_ns = min(given_ns(span.end_time) or now_ns, now_ns + _DAY_NS)
    started_ns = min(given_ns(span.start_time) or ended_ns, ended_ns)
    return started_ns, (ended_ns - started_ns) / 1e6


def _event(event: Event, *, with_content: bool) -> tuple[KeptEvent, int]:
    attributes, cut = _plain(dict(event.attributes or {}), with_content=with_content)
    at_ns = given_ns(event.timestamp) or time.time_ns()
    return KeptEvent(name=_EXCEPTION, at_ns=at_ns, attributes=attributes), cut


def _raised(events: list[tuple[KeptEvent, int]]) -> str | None:
    """The type of the last exception of a span that does not say its error's."""
    return _text_in(events[-1][0].attributes, "exception.type") if events else None


def _plain(attributes: Mapping[str, Any], *, with_content: bool) -> tuple[dict[str, Any], int]:
    """(attributes of plain values, with room for all; how many are missing or shortened)."""
    found: list[tuple[str, Any, int]] = []
    plain: Any
    cut = used = 0
    for key, value in attributes.items():
        if value.__class__ is int and -_LARGEST_INT <= value < _LARGEST_INT:  # numbers and texts, as most are
            plain, size = value, _NUMBER_CHARS
        elif not with_content and not isinstance(value, bool | int | float) and is_content(key):
            continue  # by choice, not for want of room
        elif value.__class__ is str and len(value) <= TEXT_CHARS:
            plain, size = value, len(value)
        else:
            plain, lost = _value(value, STACK_CHARS if key == _STACK else TEXT_CHARS, from_end=key == _STACK)
            cut += lost
            if plain is _GONE:
                continue
            size = _size(plain)
        name = key
        if len(key) > NAME_CHARS:
            name = _cut(key, NAME_CHARS)
            cut += 1
        size += len(name)
        used += size
        found.append((name, plain, size))
    if len(found) <= ATTRIBUTES and used <= ATTRIBUTES_CHARS:
        return {name: plain for name, plain, _ in found}, cut
    found.sort(key=lambda item: not item[0].startswith(_FIRST))
    room = ATTRIBUTES_CHARS
    result: dict[str, Any] = {}
    for key, value, size in found:
        if len(result) >= ATTRIBUTES or size > room:
            cut += 1
            continue
        room -= size
        result[key] = value
    return result, cut


def _value(value: Any, limit: int, *, from_end: bool = False) -> tuple[Any, int]:
    """(the value as JSON has it, or `_GONE`; 1 if something of it is lost)."""
    if isinstance(value, str):
        short = _cut(value, limit, from_end=from_end)
        return short, int(short is not value)
    if isinstance(value, bool) or value is None:
        return value, 0
    if isinstance(value, int):
        return (value if -_LARGEST_INT <= value < _LARGEST_INT else str(value)[:NAME_CHARS]), 0
    if isinstance(value, float):
        return (value if math.isfinite(value) else str(value)), 0
    if isinstance(value, list | tuple):
        if len(value) <= ITEMS and all(item.__class__ is str and len(item) <= NAME_CHARS for item in value):
            return list(value), 0
        items = [_value(item, NAME_CHARS) for item in value[:ITEMS] if not isinstance(item, list | tuple)]
        lost = len(items) < len(value) or any(lost for _, lost in items)
        return [item for item, _ in items if item is not _GONE], int(lost)
    return _GONE, 1


def _size(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    return sum([_size(item) + 2 for item in value]) if isinstance(value, list) else _NUMBER_CHARS


def _cut(text: str, limit: int, *, from_end: bool = False) -> str:
    """The text, or its beginning; of a stack its end, which says where it happened."""
    if len(text) <= limit:
        return text
    room = limit - len(CUT_MARK)
    return CUT_MARK + text[-room:] if from_end else text[:room] + CUT_MARK


def _text_in(attributes: Mapping[str, Any], key: str) -> str | None:
    found = attributes.get(key)
    return found if isinstance(found, str) and found else None
