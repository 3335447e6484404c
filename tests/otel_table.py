"""The table of spans that the OpenTelemetry Collector's ClickHouse exporter fills, and spans in it as it writes them."""

from __future__ import annotations

from pathlib import Path

from otel_genapp.ledger.clickhouse.spans import TABLE
from otel_genapp.records import KeptSpan
from tests.clickhouse import Database
from tests.processes import ROOT

FILE = Path(ROOT, "collector", "clickhouse", "traces.sql")
PLAIN = f"""\
CREATE TABLE {TABLE}
(
    Timestamp DateTime64(9), TraceId String, SpanId String, ParentSpanId String, TraceState String,
    SpanName LowCardinality(String), SpanKind LowCardinality(String), ServiceName LowCardinality(String),
    ResourceAttributes Map(LowCardinality(String), String), ScopeName String, ScopeVersion String,
    SpanAttributes Map(LowCardinality(String), String), Duration UInt64, StatusCode LowCardinality(String),
    StatusMessage String,
    Events Nested (Timestamp DateTime64(9), Name LowCardinality(String), Attributes Map(LowCardinality(String), String)),
    Links Nested (TraceId String, SpanId String, TraceState String, Attributes Map(LowCardinality(String), String)),
    CorrelationId String MATERIALIZED SpanAttributes['correlation.id']
)
ENGINE = MergeTree ORDER BY (ServiceName, SpanName, toDateTime(Timestamp))"""
"""The exporter's columns, and ours."""
COLUMNS = (
    "Timestamp", "TraceId", "SpanId", "ParentSpanId", "TraceState", "SpanName", "SpanKind", "ServiceName",
    "ResourceAttributes", "ScopeName", "ScopeVersion", "SpanAttributes", "Duration", "StatusCode",
    "StatusMessage", "Events.Timestamp", "Events.Name", "Events.Attributes", "Links.TraceId", "Links.SpanId",
    "Links.TraceState", "Links.Attributes",
)  # fmt: skip


def make_table(database: Database, kind: str) -> None:
    """The collector's table."""
    text = PLAIN if kind == "plain" else FILE.read_text()
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("--"))
    for statement in lines.split(";\n"):
        if statement.strip():
            database.client.command(
                statement.strip().rstrip(";").replace("INTERVAL 30 DAY", "INTERVAL 9000 DAY")
            )


def export(database: Database, *spans: KeptSpan) -> None:
    """Add spans as the exporter does."""
    rows = []
    for span in spans:
        events, links = span.events, span.links
        said = dict(span.attributes)
        if span.correlation_id != span.trace_id:
            said["correlation.id"] = span.correlation_id
        rows.append([
            span.started_at_ns, span.trace_id, span.span_id, span.parent_id or "", "", span.name,
            span.kind.capitalize(), span.service, {"service.name": span.service}, span.scope, "",
            said, round(span.duration_ms * 1e6), span.status.capitalize(), span.status_message,
            [event.at_ns for event in events], [event.name for event in events],
            [dict(event.attributes) for event in events], ["0" * 32] * links, ["0" * 16] * links,
            [""] * links, [{}] * links,
        ])  # fmt: skip
    database.client.insert(TABLE, rows, column_names=COLUMNS)
