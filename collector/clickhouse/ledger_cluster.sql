-- otel-genapp's ledger on a ClickHouse cluster, sharded by session and replicated.
-- Printed by `python -m otel_genapp.ledger.clickhouse`, from `schema.py`; change it there.
--
-- On one server nothing has to be run: the store makes its tables itself. On a cluster run this once,
-- in the database the store's URL names (it has to exist on every server):
--
--     clickhouse-client --database genapp --multiquery < ledger_cluster.sql
--
-- and give every application the URL of any server, or of a balancer in front of them:
--
--     GENAPP_STORE=clickhouse://user:password@host:8123/genapp
--
-- The servers need a Keeper, the macros {cluster}, {shard} and {replica}, and in `remote_servers` shards
-- with internal_replication = true. Tables with `_local` at the end of their names are those of one
-- server; the others are spread over all shards, and are what the store uses. All copies of a record go
-- to one shard, which takes them for one.
--
-- A replica shows what another one was told a moment ago only when it has fetched it. Where an
-- application has to see at once what it wrote, let it talk to one replica of each shard, by setting
-- for its user: load_balancing = 'first_or_random'.
--
-- The user of the store needs SELECT and INSERT on these tables, and for clearing and ageing
-- ALTER DELETE and ALTER UPDATE on the `_local` ones and CLUSTER. Where an OpenTelemetry Collector fills
-- otel_traces in the same database (traces.sql), it needs SELECT on otel_traces and its tables of times too.
--
-- A cluster that has the tables of an earlier version of otel-genapp gets what they lack by running this
-- again: tables that are there stay, and the ALTERs at the end add the rest. What those change:
-- version 2 adds `correlation` with an index to genapp_records and genapp_calls (calls that were stored
-- before are not found by their correlation ids), and the two tables of conversations. Update the
-- applications after that: those of an earlier version refuse the tables from then on, and keep their
-- calls in their journals until they are updated.

-- What sums are made of, one row for each record, kept for ever: totals outlive the detail, and a record
-- that comes again years later is still known. `identity` is a hash of (call_id, seq), `session` one of
-- the session id; no text of a session is in here. A record never changes, so `identity` alone decides
-- which key it has; the rest of the key is there for speed. `hour` comes first, so that new records lie
-- close together: telling whether one is known, totals of a time, and FINAL read little. In an hour a
-- session's records lie together, so a session is read in as many pieces as it has hours.
-- `number` orders by arrival (microseconds of the server's clock); of two copies the first one stays
-- (`rank` counts down as `number` counts up). `epoch` is which life of its session a record belongs to.
-- `correlation` is a hash of the correlation id, zeros where there is none.
CREATE TABLE IF NOT EXISTS genapp_records_local ON CLUSTER '{cluster}'
(
    hour DateTime('UTC') CODEC(Delta, ZSTD),
    session FixedString(16),
    at_ns Int64 CODEC(Delta, ZSTD),
    identity FixedString(16),
    number Int64 CODEC(Delta, ZSTD),
    epoch Int64 CODEC(Delta, ZSTD),
    rank UInt64 CODEC(Delta, ZSTD),
    is_call UInt8,
    status LowCardinality(String),
    provider LowCardinality(String),
    model LowCardinality(String),
    started_at_ns Int64 CODEC(Delta, ZSTD),
    duration_ns Int64 CODEC(T64, LZ4),
    bucket Int16,
    input_tokens Int64 CODEC(T64, LZ4),
    output_tokens Int64 CODEC(T64, LZ4),
    cache_read_tokens Int64 CODEC(T64, LZ4),
    cache_write_tokens Int64 CODEC(T64, LZ4),
    reasoning_tokens Int64 CODEC(T64, LZ4),
    cost_nano_usd Int64 CODEC(T64, LZ4),
    tool_calls Int64 CODEC(T64, LZ4),
    is_unknown UInt8,
    is_unpriced UInt8,
    correlation FixedString(16),
    INDEX correlation_index correlation TYPE bloom_filter(0.0001) GRANULARITY 1
)
ENGINE = ReplicatedReplacingMergeTree(rank)
PARTITION BY toYYYYMM(hour)
ORDER BY (hour, session, at_ns, identity);

CREATE TABLE IF NOT EXISTS genapp_records ON CLUSTER '{cluster}' AS genapp_records_local
ENGINE = Distributed('{cluster}', currentDatabase(), genapp_records_local, if(session = toFixedString('', 16), reinterpretAsUInt64(identity), reinterpretAsUInt64(session)));

-- The detail of calls: the whole record as text. It goes when its session is cleared, and when it is
-- old; that is whole partitions then, so little has to be written anew.
CREATE TABLE IF NOT EXISTS genapp_calls_local ON CLUSTER '{cluster}'
(
    hour DateTime('UTC') CODEC(Delta, ZSTD),
    session FixedString(16),
    at_ns Int64 CODEC(Delta, ZSTD),
    identity FixedString(16),
    number Int64 CODEC(Delta, ZSTD),
    epoch Int64 CODEC(Delta, ZSTD),
    rank UInt64 CODEC(Delta, ZSTD),
    record String CODEC(ZSTD),
    correlation FixedString(16),
    INDEX correlation_index correlation TYPE bloom_filter(0.0001) GRANULARITY 1
)
ENGINE = ReplicatedReplacingMergeTree(rank)
PARTITION BY toYYYYMMDD(hour)
ORDER BY (hour, session, at_ns, identity);

CREATE TABLE IF NOT EXISTS genapp_calls ON CLUSTER '{cluster}' AS genapp_calls_local
ENGINE = Distributed('{cluster}', currentDatabase(), genapp_calls_local, if(session = toFixedString('', 16), reinterpretAsUInt64(identity), reinterpretAsUInt64(session)));

-- Which sessions there are, with their users and models. Only firsts and lasts are folded, which come
-- out the same however often a row is added. The highest `epoch` of a session is its present life; one
-- whose `last_number` is 0 says that the session was cleared, and the lives before it are over.
CREATE TABLE IF NOT EXISTS genapp_sessions_local ON CLUSTER '{cluster}'
(
    session FixedString(16),
    epoch Int64,
    user_id String,
    model String,
    session_id SimpleAggregateFunction(max, String),
    first_number SimpleAggregateFunction(min, Int64),
    last_number SimpleAggregateFunction(max, Int64),
    first_at_ns SimpleAggregateFunction(min, Int64),
    last_at_ns SimpleAggregateFunction(max, Int64)
)
ENGINE = ReplicatedAggregatingMergeTree
ORDER BY (session, epoch, user_id, model);

CREATE TABLE IF NOT EXISTS genapp_sessions ON CLUSTER '{cluster}' AS genapp_sessions_local
ENGINE = Distributed('{cluster}', currentDatabase(), genapp_sessions_local, reinterpretAsUInt64(session));

-- How far each journal segment is in the tables, added after what was read from it. Of segments that are
-- no more, `gone_at` says since when.
CREATE TABLE IF NOT EXISTS genapp_positions_local ON CLUSTER '{cluster}'
(
    segment String,
    bytes SimpleAggregateFunction(max, Int64),
    gone_at SimpleAggregateFunction(max, DateTime('UTC'))
)
ENGINE = ReplicatedAggregatingMergeTree
ORDER BY segment;

CREATE TABLE IF NOT EXISTS genapp_positions ON CLUSTER '{cluster}' AS genapp_positions_local
ENGINE = Distributed('{cluster}', currentDatabase(), genapp_positions_local, cityHash64(segment));

-- Messages (`kind` 0), feedback (1) and outcomes (2) as they came, each known by its id, of which `identity`
-- is a hash; `ends` is 1 where an outcome ends its conversation. A row of `kind` 3 says that its session was
-- cleared: of a session's facts only those of its highest `epoch` are seen. Those of the others are emptied,
-- and stay, so that a fact that comes again is still known.
CREATE TABLE IF NOT EXISTS genapp_conversation_facts_local ON CLUSTER '{cluster}'
(
    hour DateTime('UTC') CODEC(Delta, ZSTD),
    session FixedString(16),
    at_ns Int64 CODEC(Delta, ZSTD),
    identity FixedString(16),
    number Int64 CODEC(Delta, ZSTD),
    epoch Int64 CODEC(Delta, ZSTD),
    rank UInt64 CODEC(Delta, ZSTD),
    kind UInt8,
    ends UInt8,
    correlation FixedString(16),
    person FixedString(16),
    id String,
    fact String CODEC(ZSTD),
    INDEX correlation_index correlation TYPE bloom_filter(0.0001) GRANULARITY 1,
    INDEX person_index person TYPE bloom_filter(0.0001) GRANULARITY 1
)
ENGINE = ReplicatedReplacingMergeTree(rank)
PARTITION BY toYYYYMM(hour)
ORDER BY (session, at_ns, identity);

CREATE TABLE IF NOT EXISTS genapp_conversation_facts ON CLUSTER '{cluster}' AS genapp_conversation_facts_local
ENGINE = Distributed('{cluster}', currentDatabase(), genapp_conversation_facts_local, if(session = toFixedString('', 16), reinterpretAsUInt64(identity), reinterpretAsUInt64(session)));

-- For people to read with SQL: one row for each message, with what is known of it by now. The table holds
-- older versions of rows too, and rows that say that a message is gone, so read it with FINAL:
-- SELECT platform, avg(satisfaction_score) FROM conversation_metrics FINAL GROUP BY platform.
-- `version` is when the writer of a row began to read what it is made of, by the server's clock (UTC
-- nanoseconds): every writer adds first and reads then, so the highest version has seen all there was.
CREATE TABLE IF NOT EXISTS conversation_metrics_local ON CLUSTER '{cluster}'
(
    id String,
    timestamp DateTime64(6, 'UTC') CODEC(Delta, ZSTD),
    user_id Nullable(String),
    platform LowCardinality(String),
    intent LowCardinality(String),
    confidence Nullable(Float64),
    response_time_ms Nullable(Float64),
    tokens_used Nullable(Int64),
    cost_usd Nullable(Float64),
    satisfaction_score Nullable(Float64),
    resolved Nullable(Bool),
    session_id Nullable(String),
    correlation_id Nullable(String),
    escalated Nullable(Bool),
    converted Nullable(Bool),
    abandoned Nullable(Bool),
    intent_correct Nullable(Bool),
    nps Nullable(Float64),
    quality Nullable(Float64),
    critical Bool,
    llm_calls Int64,
    cost_nano_usd Nullable(Int64),
    at_ns Int64 CODEC(Delta, ZSTD),
    began_at_ns Int64,
    ended_at_ns Nullable(Int64),
    version UInt64,
    is_gone UInt8,
    INDEX timestamp_index timestamp TYPE minmax GRANULARITY 1
)
ENGINE = ReplicatedReplacingMergeTree(version, is_gone)
PARTITION BY toYYYYMM(timestamp)
ORDER BY (at_ns, id);

CREATE TABLE IF NOT EXISTS conversation_metrics ON CLUSTER '{cluster}' AS conversation_metrics_local
ENGINE = Distributed('{cluster}', currentDatabase(), conversation_metrics_local, cityHash64(id));

-- `version` of the tables; `made`: which ones these are, a number of theirs; `dropped_before_ns`.
CREATE TABLE IF NOT EXISTS genapp_meta_local ON CLUSTER '{cluster}'
(
    name String,
    value SimpleAggregateFunction(max, Int64)
)
ENGINE = ReplicatedAggregatingMergeTree
ORDER BY name;

CREATE TABLE IF NOT EXISTS genapp_meta ON CLUSTER '{cluster}' AS genapp_meta_local
ENGINE = Distributed('{cluster}', currentDatabase(), genapp_meta_local, cityHash64(name));

-- What tables of earlier versions lack. To new ones it changes nothing.

ALTER TABLE genapp_records_local ON CLUSTER '{cluster}'
    ADD COLUMN IF NOT EXISTS correlation FixedString(16),
    ADD INDEX IF NOT EXISTS correlation_index correlation TYPE bloom_filter(0.0001) GRANULARITY 1;

ALTER TABLE genapp_records ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS correlation FixedString(16);

ALTER TABLE genapp_calls_local ON CLUSTER '{cluster}'
    ADD COLUMN IF NOT EXISTS correlation FixedString(16),
    ADD INDEX IF NOT EXISTS correlation_index correlation TYPE bloom_filter(0.0001) GRANULARITY 1;

ALTER TABLE genapp_calls ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS correlation FixedString(16);

INSERT INTO genapp_meta (name, value) SELECT 'version', 2;
