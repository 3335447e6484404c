"""Makes everything that works behind the package's guards raise, now and then, by the seed.

Installed before telemetry starts, so that every reference anybody keeps is to a raising version.
What is wrapped are *collaborators*: the functions and methods of whole modules, what our modules
import from OpenTelemetry, and the SDK's objects that hang on a running telemetry.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import pkgutil
import random
import sys
import types
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import otel_genapp
from otel_genapp import Telemetry, hub

BEHIND = (
    "capture.client_resource", "capture.finalizers", "capture.llm_span", "ledger", "logs", "metrics",
    "network", "pipeline", "read", "records", "secrets",
)  # fmt: skip
"""Modules all of whose functions and methods are collaborators."""

BEFORE = ("capture", "context", "logs", "pipeline", "metrics", "serve", "read")
"""Modules whose imports from OpenTelemetry and from `context` are collaborators."""

LEFT_ALONE = frozenset({
    "__class_getitem__", "__init_subclass__", "__new__", "__del__", "__repr__", "__hash__", "__eq__",
})  # fmt: skip
"""What is called by Python itself, where no guard can stand."""

FRONT = (
    # Called by `logging` and structlog themselves: here the guards begin.
    "otel_genapp.logs.installation._ContextFactory.__call__", "otel_genapp.logs.installation._CleanUrls.filter",
    "otel_genapp.logs.redaction.RedactSecrets.filter", "otel_genapp.logs.redaction.redact_secrets",
    "otel_genapp.logs.fields.add_context", "otel_genapp.logs.lines.JsonLines.format",
    # The bodies of our own threads, and what only sets an event for them.
    "otel_genapp.pipeline.events.EventBus._deliver", "otel_genapp.pipeline.folds.Folds._run",
    "otel_genapp.pipeline.export.dispatch.Dispatch._run", "otel_genapp.pipeline.export.delivery.Delivery._run",
    "otel_genapp.pipeline.traces.keeping.TraceKeeping._run",
    "otel_genapp.pipeline.errand.Errand._serve", "otel_genapp.pipeline.errand.Answer",
    # Read at the start only: a wrong setting may refuse.
    "otel_genapp.network.HostRule.__init__", "otel_genapp.network._Rule.parse",
    # Called by the SDK and by instrumentations: here too.
    "otel_genapp.pipeline.sampler.RecordingSampler.should_sample",
    "otel_genapp.pipeline.sampler.GenappTracerProvider.get_tracer",
    # Frozen data in the application's hands: reading it asks nobody.
    "otel_genapp.read.sessions.SessionSummary",
)  # fmt: skip


class Planted(Exception):  # noqa: N818 - it is what it is
    """Raised by the raiser."""


class Raiser:
    """Raises with probability `p` from whatever it has wrapped, while `on`."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)  # noqa: S311 - a schedule of faults
        self.on = False
        self.p = 0.0
        self.raised: Counter[str] = Counter()

    def wrap(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        """`function`, raising."""

        @functools.wraps(function)
        def raising(*args: Any, **kwargs: Any) -> Any:
            if self.on and self._rng.random() < self.p:
                self.raised[name] += 1
                raise Planted(name)
            return function(*args, **kwargs)

        return raising

    def install(self) -> None:
        """Wrap the package; to be called before telemetry starts."""
        for _, name, _ in pkgutil.walk_packages(otel_genapp.__path__, "otel_genapp."):
            if not name.startswith(("otel_genapp.cli", "otel_genapp.fake_llm", "otel_genapp.testing")):
                importlib.import_module(name)
        exchanged: dict[int, Callable[..., Any]] = {}
        for module in _modules(BEHIND):
            self._wrap_classes(module)
            for name, value in tuple(vars(module).items()):
                where = f"{module.__name__}.{name}"
                if isinstance(value, types.FunctionType) and value.__module__ == module.__name__:
                    if where.startswith(FRONT):
                        continue
                    exchanged[id(value)] = self.wrap(value, where)
        for name, value in tuple(vars(sys.modules["otel_genapp.context"]).items()):
            if isinstance(value, types.FunctionType) and value.__module__ == "otel_genapp.context":
                exchanged[id(value)] = self.wrap(value, f"context.{name}")
        for module in _modules(("",)):
            for name, value in tuple(vars(module).items()):
                if id(value) in exchanged and module.__name__ not in {"otel_genapp", "otel_genapp.context"}:
                    setattr(module, name, exchanged[id(value)])
        for module in _modules(BEFORE):
            self._wrap_imports(module)

    def take_on(self, telemetry: Telemetry) -> None:
        """Wrap what hangs on a running telemetry: the SDK's storages and aggregations, and our tracer."""
        machinery = telemetry._machinery
        consumer = machinery.meters._measurement_consumer
        for owner in (consumer, *consumer._reader_storages.values()):
            self._wrap_instance(owner, "consume_measurement", "collect")
            for matches in getattr(owner, "_instrument_view_instrument_matches", {}).values():
                for match in matches:
                    self._wrap_instance(match, "consume_measurement", "collect")
                    for aggregation in match._attributes_aggregation.values():
                        self._wrap_instance(aggregation, "aggregate", "collect")
        machinery.instruments.forget()
        running = hub.active
        assert running is not None
        tracer: Any = _RaisingTracer(self, running.tracer)
        running.tracer = tracer

    def _wrap_instance(self, owner: Any, *names: str) -> None:
        for name in names:
            if hasattr(owner, name):
                setattr(owner, name, self.wrap(getattr(owner, name), f"{type(owner).__name__}.{name}"))

    def _wrap_classes(self, module: types.ModuleType) -> None:
        for kind in tuple(vars(module).values()):
            if not inspect.isclass(kind) or kind.__module__ != module.__name__:
                continue
            for name, value in tuple(vars(kind).items()):
                where = f"{module.__name__}.{kind.__qualname__}.{name}"
                if name in LEFT_ALONE or where.startswith(FRONT) or _is_generated(kind, name):
                    continue
                if isinstance(value, types.FunctionType):
                    setattr(kind, name, self.wrap(value, where))
                elif isinstance(value, staticmethod | classmethod):
                    setattr(kind, name, type(value)(self.wrap(value.__func__, where)))
                elif isinstance(value, property) and value.fget is not None:
                    setattr(kind, name, property(self.wrap(value.fget, where)))

    def _wrap_imports(self, module: types.ModuleType) -> None:
        for name, value in tuple(vars(module).items()):
            if isinstance(value, types.FunctionType) and value.__module__.startswith("opentelemetry."):
                setattr(module, name, self.wrap(value, f"{module.__name__}: {name}"))
            elif isinstance(value, types.ModuleType) and value.__name__ in {
                "opentelemetry.trace", "opentelemetry.propagate", "opentelemetry.baggage",
            }:  # fmt: skip
                setattr(module, name, _RaisingModule(self, value))


class _RaisingModule:
    """A module of OpenTelemetry whose functions raise."""

    def __init__(self, raiser: Raiser, module: types.ModuleType) -> None:
        for name, value in vars(module).items():
            function = isinstance(value, types.FunctionType)
            setattr(self, name, raiser.wrap(value, f"{module.__name__}.{name}") if function else value)


class _RaisingTracer:
    """Our tracer, whose spans raise too."""

    def __init__(self, raiser: Raiser, tracer: Any) -> None:
        self._raiser = raiser
        self._start = raiser.wrap(tracer.start_span, "Tracer.start_span")

    def start_span(self, *args: Any, **kwargs: Any) -> Any:
        span = self._start(*args, **kwargs)
        for name in ("end", "set_attributes", "set_status", "add_event", "get_span_context", "is_recording"):
            setattr(span, name, self._raiser.wrap(getattr(span, name), f"Span.{name}"))
        return span


def _is_generated(kind: type, name: str) -> bool:
    """Whether it only puts values into a dataclass."""
    return dataclasses.is_dataclass(kind) and name in {"__init__", "__getstate__", "__setstate__"}


def _modules(parts: tuple[str, ...]) -> Iterator[types.ModuleType]:
    for name, module in tuple(sys.modules.items()):
        for part in parts:
            whole = f"otel_genapp.{part}".rstrip(".")
            if name == whole or name.startswith(f"{whole}."):
                yield module
                break
