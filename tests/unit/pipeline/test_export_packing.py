"""Spans become requests and, for exporters that take nothing else, spans again."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from otel_genapp.pipeline.export.packing import LARGEST_BYTES, PARCEL_BYTES, halves, packed
from otel_genapp.pipeline.export.unpacking import unpacked
from otel_genapp.pipeline.export.weight import KEPT_CHARS, lightened
from otel_genapp.pipeline.redact import redacted

LONG = "many words " * 3000


def rich_spans() -> list[ReadableSpan]:
    """Spans with everything a span can have, of two resources and three scopes."""
    kept = InMemorySpanExporter()
    limits = SpanLimits(max_events=2, max_links=1, max_span_attributes=8, max_event_attributes=2)
    for name in ("shop", "bot"):
        provider = TracerProvider(
            resource=Resource({"service.name": name}, "https://schemas.example/1"),
            span_limits=limits,
            shutdown_on_exit=False,
        )
        provider.add_span_processor(SimpleSpanProcessor(kept))
        state = TraceState([("vendor", "value"), ("other", "1")])
        remote = SpanContext(
            2**127 + 1, 2**63 + 1, is_remote=True, trace_flags=TraceFlags(1), trace_state=state
        )
        for scope in ("one", "two", "three"):
            tracer = provider.get_tracer(scope, "1.0", "https://schemas.example/2", {"a": 1})
            links = [Link(remote, {"k": 1}), Link(remote, {"k": 2})]
            with tracer.start_as_current_span("outer", kind=SpanKind.CLIENT, links=links) as outer:
                outer.set_attributes({f"a{number}": number for number in range(10)})
                outer.set_attributes({"t": "text", "b": True, "f": 1.5, "s": ("a", "b"), "n": (1, 2)})
                for number in range(4):
                    outer.add_event(f"event {number}", {"x": 1, "y": "two", "z": 3})
                with tracer.start_as_current_span("inner", kind=SpanKind.SERVER) as inner:
                    inner.set_status(Status(StatusCode.ERROR, "broken"))
    return list(kept.get_finished_spans())


def plain_spans(number: int, /, **attributes: Any) -> list[ReadableSpan]:
    kept = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(kept))
    tracer = provider.get_tracer("app")
    for _ in range(number):
        tracer.start_span("work", attributes=attributes).end()
    return list(kept.get_finished_spans())


def ids_in(data: bytes) -> list[bytes]:
    request = ExportTraceServiceRequest.FromString(data)
    return [
        span.span_id for one in request.resource_spans for scope in one.scope_spans for span in scope.spans
    ]


def test_spans_come_out_as_they_went_in() -> None:
    """Made into spans again and encoded once more, a request is the same to the byte."""
    data = encode_spans(rich_spans()).SerializeToString()
    assert encode_spans(unpacked(data)).SerializeToString() == data


def test_halves_of_halves() -> None:
    """However often a request is halved, the parts hold each span once, with its resource and scope."""
    spans = rich_spans()
    [whole] = packed(spans).parcels
    parts = [whole]
    while any(part.spans > 1 for part in parts):
        parts = [half for part in parts for half in (halves(part) if part.spans > 1 else (part,))]
    expected = [encode_spans([span]).SerializeToString() for span in map(redacted, unpacked(whole.data))]
    assert [part.data for part in parts] == expected
    assert [part.spans for part in parts] == [1] * len(spans)


def test_requests_stay_small() -> None:
    """No request is longer than 3.5 MiB, and each span is in one."""
    spans = plain_spans(300, text=LONG)
    result = packed(spans)
    assert len(result.parcels) > 1
    assert max(len(parcel.data) for parcel in result.parcels) <= PARCEL_BYTES
    assert sum(parcel.spans for parcel in result.parcels) == 300
    assert len({one for parcel in result.parcels for one in ids_in(parcel.data)}) == 300
    assert +result.lost == Counter()


def test_a_long_span_goes_alone() -> None:
    """One that makes more than 3.5 MiB by itself is sent; one of more than 8 MiB is not."""
    spans = [*plain_spans(5), *plain_spans(1, texts=[LONG] * 150), *plain_spans(5)]
    result = packed(spans)
    assert sum(parcel.spans for parcel in result.parcels) == 11
    assert [parcel.spans for parcel in result.parcels if len(parcel.data) > PARCEL_BYTES] == [1]
    result = packed([*plain_spans(5), *plain_spans(1, texts=[LONG] * (LARGEST_BYTES // 32_000))])
    assert sum(parcel.spans for parcel in result.parcels) == 5
    assert +result.lost == Counter(too_large=1)


@pytest.mark.parametrize("places", [[0], [99], [50], [3, 4, 97], list(range(0, 100, 2)), list(range(100))])
def test_what_cannot_be_encoded_is_lost_alone(places: list[int]) -> None:
    """Its neighbours are packed, wherever it stands."""
    spans = plain_spans(100)
    for place in places:
        spans[place]._start_time = -1
    result = packed(spans)
    packed_ids = [one for parcel in result.parcels for one in ids_in(parcel.data)]
    good = [span for place, span in enumerate(spans) if place not in places]
    assert packed_ids == [
        span.context.span_id.to_bytes(8, "big") for span in good if span.context is not None
    ]
    assert result.lost["encoding_failed"] == len(places)


def test_nothing_makes_nothing() -> None:
    """No spans, no request."""
    result = packed([])
    assert (result.parcels, +result.lost) == ([], Counter())


def odd_text(rng: random.Random) -> str:
    size = rng.choice([0, 5, 100, KEPT_CHARS - 1, KEPT_CHARS, KEPT_CHARS + 1, KEPT_CHARS + 5000, 200_000])
    alphabet = rng.choice(["abc ", "жизнь ", "😀 x", "0123456789abcdef", "sk-", "https://a:b@c/?d=e "])
    return (alphabet * (size // len(alphabet) + 1))[:size]


@pytest.mark.parametrize("seed", range(10))
def test_cutting_early_changes_nothing(seed: int) -> None:
    """A span cut for the queue is sent as the same bytes as the whole one."""
    rng = random.Random(seed)  # noqa: S311 - random texts
    kept = InMemorySpanExporter()
    provider = TracerProvider(
        shutdown_on_exit=False, span_limits=SpanLimits(max_events=2, max_span_attributes=5)
    )
    provider.add_span_processor(SimpleSpanProcessor(kept))
    with provider.get_tracer("app").start_as_current_span("work") as span:
        for _ in range(7):
            span.add_event("event", {"a": odd_text(rng), "url.full": odd_text(rng)})
            span.set_attribute(rng.choice(["a", "gen_ai.prompt", "url.full", "http.url", "x"]), odd_text(rng))
            span.set_attribute("several", [odd_text(rng), odd_text(rng)])
            span.set_attribute(f"number {rng.random()}", 1)
    [whole] = kept.get_finished_spans()
    light, weight = lightened(whole)
    assert encode_spans([redacted(light)]) == encode_spans([redacted(whole)])
    assert weight >= len(encode_spans([redacted(light)]).SerializeToString())


@pytest.mark.parametrize("key", ["url.full", "http.url", "http.request.header.referer"])
def test_urls_are_not_cut(key: str) -> None:
    """Where a URL's user information ends only its end tells, and a password would be left."""
    [span] = plain_spans(1, text=LONG * 2, **{key: f"https://{'u' * 40_000}:password@host/path"})
    light, _ = lightened(span)
    assert light is not span
    assert encode_spans([redacted(light)]) == encode_spans([redacted(span)])


def test_a_light_span_is_not_copied() -> None:
    """Only long text makes a copy."""
    [span] = plain_spans(1, text="x" * 1000, several=("a", "b"), number=1)
    assert lightened(span)[0] is span
    [long] = plain_spans(1, texts=("x" * 100_000,))
    light, weight = lightened(long)
    assert light is long
    assert weight > 100_000


def test_weight_is_near_the_truth() -> None:
    """What a queue of spans is said to cost is what it costs, give or take a third."""
    import tracemalloc

    for number, length in ((0, 0), (15, 20), (40, 100), (1, 140_000)):
        tracemalloc.start()
        spans = [lightened(span) for span in made(300, number=number, length=length)]
        real, said = tracemalloc.get_traced_memory()[0], sum(weight for _, weight in spans)
        tracemalloc.stop()
        assert 0.66 <= said / real <= 1.5, (number, length, said / real)


def made(times: int, *, number: int, length: int) -> Any:
    """Spans with so many attributes of such a length, one by one."""
    for time in range(times):
        attributes = {f"key {place}": f"{time} {place}".ljust(length, "x") for place in range(number)}
        yield from plain_spans_of(attributes)


def plain_spans_of(attributes: dict[str, Any]) -> list[ReadableSpan]:
    kept = InMemorySpanExporter()
    span = PROVIDER.get_tracer("app").start_span("work", attributes=attributes)
    span.end()
    kept.export([span._readable_span()])  # type: ignore[attr-defined]
    return list(kept.get_finished_spans())


PROVIDER = TracerProvider(shutdown_on_exit=False)
