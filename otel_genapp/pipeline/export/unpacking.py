"""Spans made from an encoded request again, for exporters that take nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util import BoundedList
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

_IS_REMOTE = 0x200
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)


def unpacked(data: bytes) -> list[ReadableSpan]:
    """The spans of an encoded `ExportTraceServiceRequest`, which encoded once more are the same bytes."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    spans = []
    for resource_spans in ExportTraceServiceRequest.FromString(data).resource_spans:
        resource = Resource(_attributes(resource_spans.resource.attributes), resource_spans.schema_url)
        for scope_spans in resource_spans.scope_spans:
            told = scope_spans.scope
            scope = InstrumentationScope(
                told.name, told.version, scope_spans.schema_url, _attributes(told.attributes)
            )
            spans += [_span(span, resource, scope=scope) for span in scope_spans.spans]
    return spans


def _span(span: Any, resource: Resource, *, scope: InstrumentationScope) -> ReadableSpan:
    parent = None
    if span.parent_span_id:
        is_remote = bool(span.flags & _IS_REMOTE)
        parent = _context(span.trace_id, span.parent_span_id, is_remote=is_remote)
    context = _context(span.trace_id, span.span_id, state=span.trace_state)
    return ReadableSpan(
        name=span.name,
        context=context,
        parent=parent,
        resource=resource,
        attributes=_counted(_attributes(span.attributes), span.dropped_attributes_count),
        events=_counted_list(map(_event, span.events), span.dropped_events_count),
        links=_counted_list(map(_link, span.links), span.dropped_links_count),
        kind=SpanKind(max(span.kind - 1, 0)),
        status=Status(StatusCode(span.status.code), span.status.message or None),
        start_time=span.start_time_unix_nano,
        end_time=span.end_time_unix_nano,
        instrumentation_scope=scope,
    )


def _context(trace_id: bytes, span_id: bytes, *, is_remote: bool = False, state: str = "") -> SpanContext:
    return SpanContext(
        int.from_bytes(trace_id, "big"),
        int.from_bytes(span_id, "big"),
        is_remote,
        _SAMPLED,
        TraceState([tuple(entry.split("=", 1)) for entry in state.split(",") if "=" in entry]),  # type: ignore[misc] # always two
    )


def _event(event: Any) -> Event:
    attributes = _counted(_attributes(event.attributes), event.dropped_attributes_count)
    return Event(event.name, attributes, event.time_unix_nano)


def _link(link: Any) -> Link:
    context = _context(link.trace_id, link.span_id, is_remote=bool(link.flags & _IS_REMOTE))
    return Link(context, _counted(_attributes(link.attributes), link.dropped_attributes_count))


def _attributes(pairs: Iterable[Any]) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return tuple(_value(item) for item in value.array_value.values)
    if kind == "kvlist_value":
        return _attributes(value.kvlist_value.values)
    return getattr(value, kind)


def _counted(attributes: dict[str, Any], dropped: int) -> Any:
    """The attributes; in the SDK's own shape where it has dropped some, because that says so."""
    if not dropped:
        return attributes
    counted = BoundedAttributes(attributes=attributes)
    counted.dropped = dropped
    return counted


def _counted_list(items: Iterable[Any], dropped: int) -> Sequence[Any]:
    counted = BoundedList.from_seq(None, list(items))
    counted.dropped = dropped
    return counted
