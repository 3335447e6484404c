"""Spans become encoded requests: cleaned, small enough for any receiver, and halved when one is poisoned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from opentelemetry.sdk.trace import ReadableSpan

from otel_genapp.pipeline.redact import redacted
from otel_genapp.quiet import quiet

if TYPE_CHECKING:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

PARCEL_SPANS: Final = 256
PARCEL_BYTES: Final = 3_670_016
"""3.5 MiB: a collector takes 4 MiB over gRPC unless told otherwise, 20 over HTTP."""
LARGEST_BYTES: Final = 8 * 1024 * 1024
"""A single span that makes more than this is not sent."""

_guarded = quiet("export")
_UNENCODABLE = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True, slots=True)
class Parcel:
    """An encoded `ExportTraceServiceRequest` and how many spans are in it."""

    data: bytes = field(repr=False)
    spans: int
    adopted: bool = False
    """Left behind by a process that died."""


class Packed(NamedTuple):
    """What became of some spans: what can be sent, and how many were lost for which reason."""

    parcels: list[Parcel]
    lost: Counter[str]


def packed(spans: Sequence[ReadableSpan]) -> Packed:
    """The spans without secrets, in as few parcels as they fit in."""
    result = Packed([], Counter())
    clean: list[ReadableSpan] = []
    for span in spans:
        with _guarded:
            clean.append(redacted(span))
    # A span that could not be cleaned does not leave.
    result.lost["redaction_failed"] = len(spans) - len(clean)
    _encode(clean, result)
    return result


def halves(parcel: Parcel) -> tuple[Parcel, Parcel]:
    """The parcel's spans in two parcels; it must have more than one."""
    request = _request_type().FromString(parcel.data)
    middle = parcel.spans // 2
    first = _part(request, start=0, end=middle)
    second = _part(request, start=middle, end=parcel.spans)
    return (
        Parcel(first.SerializeToString(), middle, parcel.adopted),
        Parcel(second.SerializeToString(), parcel.spans - middle, parcel.adopted),
    )


def _encode(spans: Sequence[ReadableSpan], result: Packed) -> None:
    """Add the spans to the result; of those that cannot be encoded only they are lost."""
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

    if not spans:
        return
    try:
        data = encode_spans(spans).SerializeToString()
    except _UNENCODABLE:
        if len(spans) == 1:
            result.lost["encoding_failed"] += 1
            return
        middle = len(spans) // 2
        _encode(spans[:middle], result)
        _encode(spans[middle:], result)
        return
    _fit(Parcel(data, len(spans)), result)


def _fit(parcel: Parcel, result: Packed) -> None:
    if len(parcel.data) <= PARCEL_BYTES or (parcel.spans == 1 and len(parcel.data) <= LARGEST_BYTES):
        result.parcels.append(parcel)
    elif parcel.spans == 1:
        result.lost["too_large"] += 1
    else:
        for half in halves(parcel):
            _fit(half, result)


def _part(request: ExportTraceServiceRequest, *, start: int, end: int) -> ExportTraceServiceRequest:
    """The spans from `start` to before `end`, under their resources and scopes."""
    part = _request_type()()
    place = 0
    for resource_spans in request.resource_spans:
        resource_part = None
        for scope_spans in resource_spans.scope_spans:
            number = len(scope_spans.spans)
            first, last = max(start - place, 0), min(end - place, number)
            place += number
            if first >= last:
                continue
            if resource_part is None:
                resource_part = part.resource_spans.add()
                resource_part.resource.CopyFrom(resource_spans.resource)
                resource_part.schema_url = resource_spans.schema_url
            scope_part = resource_part.scope_spans.add()
            scope_part.scope.CopyFrom(scope_spans.scope)
            scope_part.schema_url = scope_spans.schema_url
            scope_part.spans.extend(scope_spans.spans[first:last])
    return part


def _request_type() -> type[ExportTraceServiceRequest]:
    from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

    return trace_service_pb2.ExportTraceServiceRequest
