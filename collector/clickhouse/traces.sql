-- The traces of the collector's layer `clickhouse.yaml`, beside the ledger's tables. Run once, in the database
-- the layer writes to:
--
--     clickhouse-client --database genapp --multiquery < traces.sql
--
-- The columns are those the ClickHouse exporter 0.159.0 inserts; the names are the ones Grafana's ClickHouse
-- data source looks for. What is ours, and the reason to run this instead of letting the exporter make its own:
-- `CorrelationId` and `SessionId`, indexed, which no insert names; an order that ends in the span, so that a
-- span that was sent twice (after a crash, after a lost answer) becomes one; and a table that leads from a
-- correlation id to its traces and their time, so that the look-up does not grow with the table.
--
-- The trace of a correlation id:
--
--     SELECT Timestamp, TraceId, SpanId, ParentSpanId, ServiceName, SpanName, Duration / 1e6 AS ms, StatusCode
--     FROM otel_traces
--     WHERE CorrelationId = {id:String}
--       AND Timestamp >= (SELECT min(Start) FROM otel_traces_correlation_id_ts WHERE CorrelationId = {id:String})
--       AND Timestamp <= (SELECT max(End) FROM otel_traces_correlation_id_ts WHERE CorrelationId = {id:String})
--     ORDER BY Timestamp LIMIT 1 BY TraceId, SpanId;
--
-- `LIMIT 1 BY TraceId, SpanId` leaves out copies that have not been merged yet. Numbers of LLM usage belong to
-- the ledger and not to this table: spans may be sampled. On a cluster make the tables there, Replicated and
-- with Distributed ones in front, as ledger_cluster.sql does.
--
-- The collector's user needs INSERT on otel_traces and nothing else; days past the TTL go as whole parts.

CREATE TABLE IF NOT EXISTS otel_traces
(
    Timestamp DateTime64(9) CODEC(Delta, ZSTD(1)),
    TraceId String CODEC(ZSTD(1)),
    SpanId String CODEC(ZSTD(1)),
    ParentSpanId String CODEC(ZSTD(1)),
    TraceState String CODEC(ZSTD(1)),
    SpanName LowCardinality(String) CODEC(ZSTD(1)),
    SpanKind LowCardinality(String) CODEC(ZSTD(1)),
    ServiceName LowCardinality(String) CODEC(ZSTD(1)),
    ResourceAttributes Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    ScopeName String CODEC(ZSTD(1)),
    ScopeVersion String CODEC(ZSTD(1)),
    SpanAttributes Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    Duration UInt64 CODEC(ZSTD(1)),
    StatusCode LowCardinality(String) CODEC(ZSTD(1)),
    StatusMessage String CODEC(ZSTD(1)),
    Events Nested
    (
        Timestamp DateTime64(9),
        Name LowCardinality(String),
        Attributes Map(LowCardinality(String), String)
    ) CODEC(ZSTD(1)),
    Links Nested
    (
        TraceId String,
        SpanId String,
        TraceState String,
        Attributes Map(LowCardinality(String), String)
    ) CODEC(ZSTD(1)),
    CorrelationId String MATERIALIZED SpanAttributes['correlation.id'] CODEC(ZSTD(1)),
    SessionId String MATERIALIZED SpanAttributes['session.id'] CODEC(ZSTD(1)),

    INDEX idx_correlation_id CorrelationId TYPE bloom_filter(0.001) GRANULARITY 1,
    INDEX idx_session_id SessionId TYPE bloom_filter(0.001) GRANULARITY 1,
    INDEX idx_trace_id TraceId TYPE bloom_filter(0.001) GRANULARITY 1,
    INDEX idx_span_attr_key mapKeys(SpanAttributes) TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX idx_span_attr_value mapValues(SpanAttributes) TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX idx_duration Duration TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree
PARTITION BY toDate(Timestamp)
ORDER BY (ServiceName, SpanName, toDateTime(Timestamp), TraceId, SpanId)
TTL toDateTime(Timestamp) + INTERVAL 30 DAY
SETTINGS ttl_only_drop_parts = 1;

-- From a correlation id to its traces, and from a trace to its time. A batch that comes twice adds the same rows
-- again, of which only the first and the last time are read. `Start` and `End` are of the type of `Timestamp`:
-- compared with a DateTime it is rounded (ClickHouse 26.9), and parts that hold the spans are left out.
CREATE TABLE IF NOT EXISTS otel_traces_correlation_id_ts
(
    CorrelationId String CODEC(ZSTD(1)),
    TraceId String CODEC(ZSTD(1)),
    Start DateTime64(9) CODEC(Delta, ZSTD(1)),
    End DateTime64(9) CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY toDate(Start)
ORDER BY (CorrelationId, TraceId, Start, End)
TTL toDateTime(Start) + INTERVAL 30 DAY
SETTINGS ttl_only_drop_parts = 1;

CREATE MATERIALIZED VIEW IF NOT EXISTS otel_traces_correlation_id_ts_mv TO otel_traces_correlation_id_ts AS
SELECT
    SpanAttributes['correlation.id'] AS CorrelationId,
    TraceId,
    min(Timestamp) AS Start,
    max(Timestamp) AS End
FROM otel_traces
WHERE SpanAttributes['correlation.id'] != ''
GROUP BY CorrelationId, TraceId;

CREATE TABLE IF NOT EXISTS otel_traces_trace_id_ts
(
    TraceId String CODEC(ZSTD(1)),
    Start DateTime64(9) CODEC(Delta, ZSTD(1)),
    End DateTime64(9) CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY toDate(Start)
ORDER BY (TraceId, Start, End)
TTL toDateTime(Start) + INTERVAL 30 DAY
SETTINGS ttl_only_drop_parts = 1;

CREATE MATERIALIZED VIEW IF NOT EXISTS otel_traces_trace_id_ts_mv TO otel_traces_trace_id_ts AS
SELECT
    TraceId,
    min(Timestamp) AS Start,
    max(Timestamp) AS End
FROM otel_traces
WHERE TraceId != ''
GROUP BY TraceId;
