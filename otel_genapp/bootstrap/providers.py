"""The OpenTelemetry providers: ours where there are none, attached to where there are.

Global providers can be set once in a process. So ours stay, and what changes with every
`init_telemetry` (processors, sampler, resource) hangs on switches inside them. The `genapp_`
families live in a MeterProvider of their own: their Views, labels and fork rules must hold
whoever owns the global one, and a scrape costs only what it serves.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentelemetry import metrics, propagate, trace
from opentelemetry.context import Context
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import (
    ReadableSpan,
    Span,
    SpanLimits,
    SpanProcessor,
    SynchronousMultiSpanProcessor,
    TracerProvider,
)

from otel_genapp import semconv
from otel_genapp.config import Settings
from otel_genapp.context import GenappPropagator
from otel_genapp.errors import MissingDependencyError
from otel_genapp.pipeline.sampler import (
    GenappTracerProvider,
    Recording,
    RecordingSampler,
    wrap_foreign_sampler,
)
from otel_genapp.quiet import quiet

_guarded = quiet("pipeline")
_ATTRIBUTE_LIMIT = 1024
_DEFERRED = frozenset({
    ("opentelemetry.trace", "ProxyTracerProvider"),
    ("opentelemetry.metrics._internal", "_ProxyMeterProvider"),
})  # fmt: skip


class Switch(SpanProcessor):
    """The one processor a provider gets from us; what it feeds is exchanged with the telemetry."""

    def __init__(self) -> None:
        self.targets: tuple[SpanProcessor, ...] = ()
        self.forked_at_ns = 0
        """In the child of a fork: spans that began before are the parent's, which ends them too."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        for target in self.targets:
            with _guarded:
                target.on_start(span, parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        if self.forked_at_ns and (span.start_time or 0) < self.forked_at_ns:
            return
        for target in self.targets:
            with _guarded:
                target.on_end(span)

    def shutdown(self) -> None:
        """The telemetry ends its targets itself, with a deadline."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return True


def build_resource(settings: Settings) -> Resource:
    """`service.name`, version and environment, plus `app` and `env` as the old dashboards know them."""
    attributes = {
        semconv.SERVICE_NAME: settings.app,
        semconv.ENVIRONMENT_NAME: settings.env,
        "app": settings.app,
        "env": settings.env,
    }
    if settings.version:
        attributes[semconv.SERVICE_VERSION] = settings.version
    return Resource.create(attributes)


def is_unset(provider: object) -> bool:
    """Whether a global provider is only the API's placeholder."""
    kind = type(provider)
    return (kind.__module__, kind.__name__) in _DEFERRED


class Tracing:
    """The global tracer provider with our switch in it, and how it came to be there."""

    def __init__(self, settings: Settings, recording: Recording) -> None:
        self.notes: list[str] = []
        provider = trace.get_tracer_provider()
        if is_unset(provider):
            limits = SpanLimits() if settings.otel.attribute_limit_set else SpanLimits(
                max_span_attributes=_ATTRIBUTE_LIMIT
            )  # fmt: skip
            provider = GenappTracerProvider(
                resource=build_resource(settings),
                shutdown_on_exit=False,
                span_limits=limits,
            )
            trace.set_tracer_provider(provider)
        self.provider: Any = provider
        self.owned = isinstance(provider, GenappTracerProvider)
        self.sampler_wrapped = False
        self.recording = recording
        self.switch = self._find_switch()
        if self.owned:
            self._renew(settings, recording)
        else:
            self._join(recording)

    def describe(self) -> str:
        """One line for `status()`."""
        if self.owned:
            return "ours"
        kind = type(self.provider)
        name = f"{kind.__module__}.{kind.__qualname__}"
        if self.switch is None:
            return f"{name}: cannot take span processors, so LLM spans are not counted"
        return f"{name}: attached, export is left to its owner"

    def _find_switch(self) -> Switch | None:
        known = getattr(self.provider, "_otel_genapp_switch", None)
        if isinstance(known, Switch):
            return known
        add = getattr(self.provider, "add_span_processor", None)
        if add is None:
            return None
        with _guarded:
            switch = Switch()
            add(switch)
            self.provider._otel_genapp_switch = switch  # noqa: SLF001 - ours, set two lines up
            _put_first(self.provider, switch)
            return switch
        return None

    def _renew(self, settings: Settings, recording: Recording) -> None:
        # A throwaway provider reads OTEL_TRACES_SAMPLER the way the SDK does.
        sampler = RecordingSampler(TracerProvider(shutdown_on_exit=False).sampler, recording)
        provider = self.provider
        provider.sampler = sampler
        with _guarded:
            provider._resource = build_resource(settings)  # noqa: SLF001 - no public way to change it
            for tracer in tuple(provider._tracers.values()):  # noqa: SLF001
                late = getattr(tracer.sampler, "whole_scope", False)
                tracer.sampler = sampler.for_scope() if late else sampler
                tracer.resource = provider.resource
        self.sampler_wrapped = True

    def _join(self, recording: Recording) -> None:
        known = getattr(self.provider, "_otel_genapp_recording", None)
        if isinstance(known, Recording):
            self.recording = known  # the one its sampler reads
            self.sampler_wrapped = True
            return
        with _guarded:
            self.sampler_wrapped = wrap_foreign_sampler(self.provider, recording)
            if self.sampler_wrapped:
                self.provider._otel_genapp_recording = recording  # noqa: SLF001
        if not self.sampler_wrapped:
            self.notes.append(
                "the tracer provider's sampler cannot be wrapped: numbers fed by spans are sampled with them"
            )


def _put_first(provider: Any, switch: Switch) -> None:
    """Let no processor that raises keep a span from ours; the SDK calls them in order."""
    for owner in (provider, getattr(provider, "provider", None)):
        processors: Any = getattr(owner, "_active_span_processor", None)
        if isinstance(processors, SynchronousMultiSpanProcessor):
            with processors._lock:  # noqa: SLF001 - no public way to change the order
                known = processors._span_processors  # noqa: SLF001
                if switch in known:
                    others = (one for one in known if one is not switch)
                    processors._span_processors = (switch, *others)  # noqa: SLF001


def global_meter_provider(settings: Settings) -> tuple[Any, bool]:
    """(provider, ours): the global MeterProvider, set by us unless somebody did before."""
    provider: Any = metrics.get_meter_provider()
    if is_unset(provider):
        provider = MeterProvider(resource=build_resource(settings), shutdown_on_exit=False)
        provider._otel_genapp = True  # noqa: SLF001 - our mark on our own object
        metrics.set_meter_provider(provider)
    ours = getattr(provider, "_otel_genapp", False)
    if ours:
        with _guarded:
            provider._sdk_config.resource = build_resource(settings)  # noqa: SLF001 - no public way to change it
    return provider, ours


def install_propagator() -> GenappPropagator:
    """Put our propagator around the one configured; done once however often it is called."""
    known = propagate.get_global_textmap()
    if isinstance(known, GenappPropagator):
        return known
    ours = GenappPropagator(known)
    propagate.set_global_textmap(ours)
    return ours


def span_exporter(settings: Settings) -> Any:
    """A new OTLP span exporter for the configured protocol; endpoint and headers come from `OTEL_*`.

    Raises:
        MissingDependencyError: the protocol is grpc and its exporter is not installed.
    """
    if settings.otel.traces_protocol == "grpc":
        try:
            from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import (
                OTLPSpanExporter as GrpcExporter,
            )
        except ImportError:
            raise MissingDependencyError("opentelemetry-exporter-otlp-proto-grpc", "otlp-grpc") from None
        return GrpcExporter()
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter()


def metric_exporter(settings: Settings) -> Any:
    """A new OTLP metric exporter, as `span_exporter`."""
    if settings.otel.metrics_protocol == "grpc":
        try:
            from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import (
                OTLPMetricExporter as GrpcExporter,
            )
        except ImportError:
            raise MissingDependencyError("opentelemetry-exporter-otlp-proto-grpc", "otlp-grpc") from None
        return GrpcExporter()
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

    return OTLPMetricExporter()


def log_exporter(settings: Settings) -> Any:
    """A new OTLP log exporter, as `span_exporter`."""
    if settings.otel.logs_protocol == "grpc":
        try:
            from opentelemetry.exporter.otlp.proto.grpc._log_exporter import (
                OTLPLogExporter as GrpcExporter,
            )
        except ImportError:
            raise MissingDependencyError("opentelemetry-exporter-otlp-proto-grpc", "otlp-grpc") from None
        return GrpcExporter()
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter

    return OTLPLogExporter()


def constant_labels(settings: Settings) -> Mapping[str, str]:
    """The labels every series of `/prometheus` carries."""
    return {"env": settings.env, "app": settings.app}
