"""Each dialect's spans: the class and every fact, and nothing lost to the SDK's limits."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.sdk.trace import SpanLimits
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from otel_genapp.bootstrap import providers
from otel_genapp.pipeline.dialects import classify, is_dialect_scope, read
from otel_genapp.records import LLMCall, Usage, UsageRecord
from tests.builders import Tracing, timeless
from tests.dialect_spans.span import DialectSpan
from tests.dialect_spans.table import DIALECT_SPANS

SDK_LIMIT = 128
CROWD = {f"llm.input_messages.{number}.message.content": "Hello" for number in range(300)}

each_span = pytest.mark.parametrize("span", [pytest.param(span, id=span.id) for span in DIALECT_SPANS])


@each_span
def test_facts(span: DialectSpan) -> None:
    """A span of any dialect is read whole: its class and every fact."""
    assert (classify(span.attributes), read(span.attributes)) == (span.span_class, span.facts)


@each_span
def test_late_kinds_have_a_known_scope(span: DialectSpan) -> None:
    """What does not show at the start that it is a call comes from a scope that is recorded whole."""
    if span.span_class != classify(span.start):
        assert is_dialect_scope(span.scope)


def records_of(
    span: DialectSpan, *, limit: int, early: dict[str, Any], crowd: dict[str, Any], late: dict[str, Any]
) -> list[UsageRecord]:
    """The records of one span that no exporter sees: its start, `early`, `crowd` and then `late`."""
    tracing = Tracing(ALWAYS_OFF, limits=SpanLimits(max_span_attributes=limit))
    made = tracing.tracer(span.scope).start_span("call", attributes=dict(span.start))
    for attributes in (early, crowd, late):
        made.set_attributes(attributes)
    made.end()
    tracing.close()
    assert len(made.attributes or {}) <= limit  # type: ignore[attr-defined]
    return [timeless(record) for record in tracing.records]


@each_span
def test_a_crowd_of_attributes_drops_no_start(span: DialectSpan) -> None:
    """300 attributes push out what a span started with, not out of its record."""
    late = {**span.late, **span.end}
    found = records_of(span, limit=SDK_LIMIT, early={}, crowd=CROWD, late=late)
    assert found == records_of(span, limit=SDK_LIMIT, early={}, crowd={}, late=late)
    assert_counted(span, found)


@each_span
def test_a_crowd_of_attributes_drops_nothing_on_our_provider(span: DialectSpan) -> None:
    """What is set while a call runs is kept by our own provider's limit when 300 attributes follow."""
    limit, late, end = providers._ATTRIBUTE_LIMIT, dict(span.late), dict(span.end)
    found = records_of(span, limit=limit, early=late, crowd=CROWD, late=end)
    assert found == records_of(span, limit=limit, early=late, crowd={}, late=end)
    assert_counted(span, found)


def assert_counted(span: DialectSpan, found: list[UsageRecord]) -> None:
    """One record of a call, or of an agent with tokens, with the session and tokens of its facts."""
    said = span.facts
    expected = span.span_class == "llm" or (span.span_class == "agent" and said.usage != Usage())
    assert [(isinstance(record, LLMCall), record.session_id, record.usage) for record in found] == (
        [(span.span_class == "llm", said.session_id, said.usage)] if expected else []
    )


def test_a_kind_that_is_gone_leaves_a_call() -> None:
    """On a foreign provider a kind set late may be pushed out: a model with tokens is a call all the same."""
    span = next(span for span in DIALECT_SPANS if span.id == "openinference langchain")
    found = records_of(span, limit=SDK_LIMIT, early=dict(span.late), crowd=CROWD, late=dict(span.end))
    assert_counted(span, found)
