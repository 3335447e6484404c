"""Deciding on a request's root span before an instrumentation spends its time on it.

Most requests of a busy service are not sampled, and preparing a span only to hear that costs more
than the rest of telemetry together. Where the sampler is one of the SDK's and so looks at nothing
but the trace id, the decision is made first. A sampled request keeps the id it was decided for.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.trace.sampling import (
    Decision,
    ParentBased,
    Sampler,
    StaticSampler,
    TraceIdRatioBased,
)
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags

DropRoot = Callable[[], NonRecordingSpan | None]

_reserved: ContextVar[int] = ContextVar("otel_genapp.reserved_trace_id", default=0)
_NO_PARENT = Context()


class ReservingIds(IdGenerator):
    """Random ids; the next trace id of a context is the one a decision was made for."""

    def __init__(self) -> None:
        self._random = RandomIdGenerator()

    def generate_span_id(self) -> int:
        return self._random.generate_span_id()

    def generate_trace_id(self) -> int:
        reserved = _reserved.get()
        if reserved:
            _reserved.set(0)
            return reserved
        return self._random.generate_trace_id()

    def is_trace_id_random(self) -> bool:
        return True


def drop_root_of(provider: Any, sampler: Sampler) -> DropRoot | None:
    """A function that decides on a new root span: the span of a dropped one, None for a sampled one.

    None where deciding early gains nothing (everything is sampled) or cannot be exact (a sampler
    that may look at names and attributes, a provider with other ids).
    """
    ids = getattr(provider, "id_generator", None)
    root = getattr(sampler, "_root", None) if isinstance(sampler, ParentBased) else sampler
    if not isinstance(ids, ReservingIds) or type(root).__module__ != Sampler.__module__:
        return None
    if isinstance(root, StaticSampler):
        if root.should_sample(_NO_PARENT, 1, "", SpanKind.SERVER).decision is not Decision.DROP:
            return None
    elif not isinstance(root, TraceIdRatioBased):
        return None

    def drop_root() -> NonRecordingSpan | None:
        trace_id = ids.generate_trace_id()
        result = sampler.should_sample(_NO_PARENT, trace_id, "", SpanKind.SERVER)
        if result.decision is not Decision.DROP:
            _reserved.set(trace_id)
            return None
        return NonRecordingSpan(
            SpanContext(
                trace_id,
                ids.generate_span_id(),
                is_remote=False,
                trace_flags=TraceFlags(TraceFlags.RANDOM_TRACE_ID),
                trace_state=result.trace_state,
            )
        )

    return drop_root
