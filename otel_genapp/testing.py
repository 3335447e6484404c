"""For tests of applications: capture what they would report, and a fake LLM server to call.

No test framework is imported; `capture_telemetry` is a plain context manager.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Unpack

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from prometheus_client.parser import text_string_to_metric_families

from otel_genapp import bootstrap, hub
from otel_genapp.bootstrap import Given
from otel_genapp.bootstrap.telemetry import Telemetry
from otel_genapp.config import MEMORY_STORE, read_settings
from otel_genapp.fake_llm import Answer, FakeLLMServer
from otel_genapp.pipeline.redact import redacted
from otel_genapp.state_directory import StateDirectory

__all__ = ["Answer", "Captured", "FakeLLMServer", "capture_telemetry"]


class _Keeper(SpanProcessor):
    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Only finished spans are kept."""

    def on_end(self, span: ReadableSpan) -> None:
        self.spans.append(redacted(span))


class Captured:
    """What was reported inside a `capture_telemetry` block; readable during and after it."""

    def __init__(self, telemetry: Telemetry, keeper: _Keeper) -> None:
        self.telemetry = telemetry
        self.sessions = telemetry.sessions
        self._keeper = keeper

    @property
    def spans(self) -> list[ReadableSpan]:
        """Every finished span that was recorded, sampled or not, in the order they ended."""
        return list(self._keeper.spans)

    def value(self, name: str, /, **labels: str) -> float:
        """The sum over the series of a `/prometheus` sample that have these labels; 0.0 for none."""
        self.telemetry.totals()  # stores what was recorded: only then is it known what conversations came to
        body, _ = self.telemetry.exposition()
        return float(
            sum(
                sample.value
                for family in text_string_to_metric_families(body.decode())
                for sample in family.samples
                if sample.name == name and labels.items() <= sample.labels.items()
            )
        )

    def session(self, session_id: str) -> dict[str, Any] | None:
        """One session's JSON, or None when nothing was counted for it."""
        found = self.sessions.get(session_id)
        return found.as_dict() if found is not None else None


@contextmanager
def capture_telemetry(name: str = "test", **settings: Unpack[Given]) -> Iterator[Captured]:
    """Run the block with a fresh telemetry that keeps everything in memory and exports nothing.

    The process environment is not read and nothing is written to disk; the endpoints' token is
    `test` unless given. A telemetry that runs already pauses meanwhile. The
    OpenTelemetry providers are global to a process, so blocks do not run side by side.
    """
    outer, outer_hub = bootstrap.running(), hub.active
    keeper = _Keeper()
    settings.setdefault("internal_auth", "test")
    settings.setdefault("store", MEMORY_STORE)
    telemetry = Telemetry(read_settings({}, app=name, env="dev", **settings), StateDirectory(None))
    telemetry.start(keeper)
    try:
        yield Captured(telemetry, keeper)
    finally:
        telemetry.shutdown()
        if outer is not None:
            outer.resume()
        else:
            hub.set_active(outer_hub)
