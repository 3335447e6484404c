"""Sampling that never touches numbers: what is not exported is still recorded where it counts.

The SDK's own AlwaysRecordSampler hands on the attributes of the inner sampler's answer, which are
empty on DROP: an LLM span would lose its operation, provider and model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import Tracer, TracerProvider
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes

from otel_genapp.pipeline.counting import Tree
from otel_genapp.pipeline.dialects import classify, is_dialect_scope
from otel_genapp.pipeline.identity import add_ids
from otel_genapp.pipeline.redact import clean_attributes
from otel_genapp.quiet import quiet

_guarded = quiet("pipeline")
_PATHS = ("url.path", "http.target")
_OWN = ("/events/metrics/", "/events/traces/", "/genapp/")
"""How the paths of our endpoints begin that end in something."""


@dataclass(slots=True)
class Recording:
    """What the running telemetry wants recorded; shared by its samplers, emptied when it ends."""

    tree: Tree | None = None
    excluded: set[str] = field(default_factory=set)
    """Paths of our own endpoints, once they are mounted."""


class RecordingSampler(Sampler):
    """The user's sampler, with DROP turned into RECORD_ONLY for spans that carry numbers.

    Those are spans that show at their start that they are LLM or agent spans, everything below
    such a span (so that nests stay whole), and, with `whole_scope`, every span of a scope that
    names its kind late. On the way the start attributes are cleaned of URL secrets and get the ids
    in force, which here costs next to nothing. Requests of our own endpoints make no spans.
    """

    def __init__(self, inner: Sampler, recording: Recording, *, whole_scope: bool = False) -> None:
        self.inner = inner
        self.recording = recording
        self.whole_scope = whole_scope

    def for_scope(self) -> RecordingSampler:
        """The same sampler for the tracers of a scope that names its kind late."""
        return RecordingSampler(self.inner, self.recording, whole_scope=True)

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        if self.recording.excluded and kind is SpanKind.SERVER:
            with _guarded:
                if self._is_own_endpoint(attributes or {}):
                    return SamplingResult(Decision.DROP)
        result = self.inner.should_sample(
            parent_context, trace_id, name, kind, attributes, links, trace_state
        )
        with _guarded:
            kept: dict[str, Any] = {}
            decision = result.decision
            if decision is Decision.DROP:
                if kind is SpanKind.SERVER or not self._carries_numbers(parent_context, attributes):
                    return result
                decision = Decision.RECORD_ONLY
                kept.update(attributes or {})
            kept.update(result.attributes or {})
            kept = clean_attributes(kept) or kept
            add_ids(kept, parent_context, trace_id=trace_id)
            return SamplingResult(decision, kept, result.trace_state)
        return result

    def get_description(self) -> str:
        return f"RecordingSampler({self.inner.get_description()})"

    def _carries_numbers(self, parent_context: Context | None, attributes: Attributes) -> bool:
        tree = self.recording.tree
        if tree is None:
            return False
        if self.whole_scope or (attributes and classify(attributes) is not None):
            return True
        if not len(tree):
            return False
        parent = trace.get_current_span(parent_context).get_span_context()
        return parent.span_id in tree

    def _is_own_endpoint(self, attributes: Any) -> bool:
        excluded = self.recording.excluded
        for key in _PATHS:
            path = attributes.get(key)
            if isinstance(path, str):
                path = path.partition("?")[0]
                return path in excluded or path.startswith(_OWN)
        return False


class GenappTracerProvider(TracerProvider):
    """The SDK's provider, giving tracers of late-naming scopes the sampler that records them."""

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: Attributes = None,
    ) -> trace.Tracer:
        tracer = super().get_tracer(
            instrumenting_module_name, instrumenting_library_version, schema_url, attributes
        )
        with _guarded:
            record_late_scopes(tracer, instrumenting_module_name)
        return tracer


def record_late_scopes(tracer: trace.Tracer, scope: str) -> None:
    """Let `tracer` record all its spans if its scope names their kind late."""
    if isinstance(tracer, Tracer) and is_dialect_scope(scope):
        sampler = tracer.sampler
        if isinstance(sampler, RecordingSampler):
            tracer.sampler = sampler.for_scope()


def wrap_foreign_sampler(provider: Any, recording: Recording) -> bool:
    """Put our sampler around the one of a provider that is not ours. False where that cannot be.

    Tracers that exist already hold their own reference to the sampler; those are exchanged too.
    """
    owners: tuple[Any, ...] = (provider, getattr(provider, "provider", None))
    for owner in owners:
        inner = getattr(owner, "sampler", None)
        if inner is None or not hasattr(inner, "should_sample"):
            continue
        sampler = RecordingSampler(inner, recording)
        owner.sampler = sampler
        for scope, tracer in dict(getattr(owner, "_tracers", {})).items():
            if getattr(tracer, "sampler", None) is inner:
                tracer.sampler = sampler
                record_late_scopes(tracer, getattr(scope, "name", ""))
        owner.get_tracer = _recording_late_scopes(owner.get_tracer)
        return True
    return False


def _recording_late_scopes(original: Callable[..., trace.Tracer]) -> Callable[..., trace.Tracer]:
    def get_tracer(name: str, *args: Any, **kwargs: Any) -> trace.Tracer:
        tracer = original(name, *args, **kwargs)
        with _guarded:
            record_late_scopes(tracer, name)
        return tracer

    return get_tracer
