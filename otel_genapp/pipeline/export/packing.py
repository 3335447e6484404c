"""Spans become encoded requests: cleaned, small enough for any receiver, and halved when one is poisoned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

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

T = TypeVar("T")

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
    for part, data in parts_of(clean, _encoded) if clean else ():
        if data is None:
            result.lost["encoding_failed"] += 1
        elif len(data) > LARGEST_BYTES:
            result.lost["too_large"] += 1
        else:
            result.parcels.append(Parcel(data, len(part)))
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


def parts_of(
    items: Sequence[T], encode: Callable[[Sequence[T]], bytes]
) -> Iterator[tuple[Sequence[T], bytes | None]]:
    """(some of the items, their encoding), in as few parts as any receiver takes.

    What cannot be encoded is alone, with None; what is too long by itself is alone, too.
    """
    data = None
    with suppress(*_UNENCODABLE):
        data = encode(items)
    if len(items) == 1 or (data is not None and len(data) <= PARCEL_BYTES):
        yield items, data
        return
    middle = len(items) // 2
    yield from parts_of(items[:middle], encode)
    yield from parts_of(items[middle:], encode)


def _encoded(spans: Sequence[ReadableSpan]) -> bytes:
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

    data: bytes = encode_spans(spans).SerializeToString()
    return data


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
