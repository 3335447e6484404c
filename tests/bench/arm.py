"""What every arm is made of.

Imports sit in the functions: an arm runs in an environment that has only its own libraries.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


def nothing() -> None:
    """What an arm does that has nothing to do."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """`run(count)` is what is measured; `refresh` goes before it, `check(total so far)` after it.

    What it gives, if anything, is its own measurement of one piece of work, in µs.
    """

    run: Callable[[int], float | None]
    refresh: Callable[[], None] = nothing
    check: Callable[[int], None] = lambda _total: None
    end: Callable[[], None] = nothing
    """Ends what the arm started."""


def expect(what: str, found: object, wanted: object) -> None:
    """Stop an arm that did not do what it is paid for.

    Raises:
        RuntimeError: the two differ.
    """
    if found != wanted:
        raise RuntimeError(f"{what}: {found}, wanted {wanted}")


def counting_exporter() -> Any:
    """An exporter that keeps the number of spans, `exported`, and nothing else."""
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

    class CountingExporter(SpanExporter):
        exported = 0

        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            self.exported += len(spans)
            return SpanExportResult.SUCCESS

    return CountingExporter()


def count_spans(provider: Any) -> Any:
    """A counting exporter behind a batch processor of the provider."""
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    exporter = counting_exporter()
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return exporter
