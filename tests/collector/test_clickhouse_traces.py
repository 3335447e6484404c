"""The collector's tables in ClickHouse's real engine."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.clickhouse import PASSWORD, USER, Database, running_clickhouse
from tests.collector.tracing import foreign_tracer, until
from tests.otelcol import ROOT, running
from tests.servers import Servers

FILE = ROOT / "collector" / "clickhouse" / "traces.sql"
INSERTED = (
    "Timestamp", "TraceId", "SpanId", "ParentSpanId", "TraceState", "SpanName", "SpanKind", "ServiceName",
    "ResourceAttributes", "ScopeName", "ScopeVersion", "SpanAttributes", "Duration", "StatusCode",
    "StatusMessage", "Events.Timestamp", "Events.Name", "Events.Attributes", "Links.TraceId", "Links.SpanId",
    "Links.TraceState", "Links.Attributes",
)  # fmt: skip
"""What the exporter of the manifest's version inserts, in its order."""
QUICK = (
    "exporters::clickhouse::sending_queue::batch::flush_timeout: 200ms",
    "exporters::clickhouse::retry_on_failure::max_interval: 1s",
    "exporters::clickhouse::compress: none",  # the engine's stand-in reads it plain
)
BEGAN = datetime(2026, 11, 26, 12, tzinfo=UTC)


def statements() -> list[str]:
    """The file's statements."""
    bare = "\n".join(line for line in FILE.read_text().splitlines() if not line.startswith("--"))
    return [statement for part in bare.split(";") if (statement := part.strip())]


def documented_query() -> str:
    """The look-up the file's comment shows."""
    comment = re.search(r"^--     (SELECT Timestamp.*?;)$", FILE.read_text(), re.MULTILINE | re.DOTALL)
    assert comment is not None
    return comment[1].replace("\n--", "\n").rstrip(";")


@pytest.fixture
def database(servers: Servers) -> Iterator[Database]:
    """A database with the collector's tables; made twice, which changes nothing."""
    with servers.clickhouse().database() as database:
        for statement in (*statements(), *statements()):
            database.client.command(statement)
        yield database


def span(number: int, *, correlation_id: str, minutes: int = 0) -> list[Any]:
    """A row as the exporter makes it."""
    attributes = {"correlation.id": correlation_id, "session.id": "anna", "gen_ai.usage.input_tokens": "12"}
    return [
        BEGAN + timedelta(minutes=minutes, milliseconds=number), f"{number // 2:032x}", f"{number:016x}", "", "",
        f"chat {number % 3}", "Client", "shop", {"app": "shop"}, "otel_genapp", "1", attributes, 5_000_000,
        "Unset", "", [BEGAN], ["said"], [{}], [], [], [], [],
    ]  # fmt: skip


def test_the_columns_are_what_the_exporter_inserts(database: Database) -> None:
    """Every column it names is there, and every other one fills itself."""
    found = database.client.query("DESCRIBE TABLE otel_traces").result_rows
    plain = [name for name, _, default, *_ in found if default != "MATERIALIZED"]
    assert plain == list(INSERTED)
    assert {name for name, *_ in found} - set(plain) == {"CorrelationId", "SessionId"}


def test_the_trace_of_a_correlation_id(database: Database) -> None:
    """The documented query finds its spans in start order, each once though all came twice."""
    rows = [span(number, correlation_id=f"order-{number // 4}") for number in range(4000)]
    for _ in range(2):
        database.client.insert("otel_traces", rows, column_names=INSERTED)
    found = database.client.query(documented_query(), parameters={"id": "order-42"}).result_rows
    assert [row[2] for row in found] == [f"{number:016x}" for number in range(168, 172)]
    assert {row[1] for row in found} == {f"{84:032x}", f"{85:032x}"}
    assert database.client.query(documented_query(), parameters={"id": "unknown"}).result_rows == []


def test_a_trace_of_one_moment(database: Database) -> None:
    """A span that is alone in its part is found, wherever in its second it lies."""
    for milliseconds in range(0, 1000, 100):
        row = span(milliseconds, correlation_id=f"order-{milliseconds}")
        database.client.insert("otel_traces", [row], column_names=INSERTED)
        found = database.client.query(
            documented_query(), parameters={"id": f"order-{milliseconds}"}
        ).result_rows
        assert [of[2] for of in found] == [f"{milliseconds:016x}"]


def test_a_span_that_came_twice_becomes_one(database: Database) -> None:
    """In the table too, once its parts are merged."""
    rows = [span(number, correlation_id="order-1") for number in range(100)]
    for _ in range(2):
        database.client.insert("otel_traces", rows, column_names=INSERTED)
    database.client.command("OPTIMIZE TABLE otel_traces FINAL")
    assert database.client.query("SELECT count() FROM otel_traces").result_rows == [(100,)]


def test_a_correlation_id_is_looked_up_by_its_index(database: Database) -> None:
    """Most granules are not read: the look-up stays quick in a large table."""
    rows = [span(number, correlation_id=f"order-{number}") for number in range(40_000)]
    database.client.insert("otel_traces", rows, column_names=INSERTED)
    database.client.command("OPTIMIZE TABLE otel_traces FINAL")
    plan = database.client.query(
        "EXPLAIN indexes = 1 SELECT count() FROM otel_traces WHERE CorrelationId = 'order-77'"
    ).result_rows
    text = "\n".join(row[0] for row in plan)
    used = re.search(r"Name: idx_correlation_id.*?Granules: (\d+)/(\d+)", text, re.DOTALL)
    assert used is not None
    assert int(used[1]) == 1 < int(used[2])


def test_the_collector_writes_through_a_crash_of_the_server(tmp_path: Path) -> None:
    """Its own exporter fills the table; what came while the server was away waits, and is there once."""
    with (
        running_clickhouse("tests.programs.clickhouse_for_collector") as server,
        server.database() as database,
        running(
            "base",
            "clickhouse",
            folder=tmp_path,
            settings={
                "GENAPP_CLICKHOUSE_ENDPOINT": f"http://127.0.0.1:{server.port}",
                "GENAPP_CLICKHOUSE_USER": USER,
                "GENAPP_CLICKHOUSE_PASSWORD": PASSWORD,
                "GENAPP_CLICKHOUSE_DATABASE": database.name,
            },
            overrides=QUICK,
        ) as collector,
        foreign_tracer(collector) as tracer,
    ):
        for statement in statements():
            database.client.command(statement)

        def work(name: str) -> None:
            for number in range(100):
                tracer.start_span(name, attributes={"correlation.id": f"{name}-{number}"}).end()

        def stored() -> dict[str, int]:
            counts = "SELECT SpanName, uniqExact(TraceId, SpanId) FROM otel_traces GROUP BY SpanName"
            return dict(database.client.query(counts).result_rows)

        work("before")
        until(lambda: stored() == {"before": 100})
        server.kill()
        work("away")
        collector.kill()
        server.start()
        collector.start()
        work("after")
        until(lambda: stored() == {"before": 100, "away": 100, "after": 100})
        # The table of times is written a moment after the spans.
        found = until(
            lambda: database.client.query(documented_query(), parameters={"id": "away-42"}).result_rows
        )
        assert [(row[4], row[5]) for row in found] == [("foreign", "away")]


def test_the_readme_shows_the_same_query() -> None:
    """Whoever reads either place gets the one that is tested."""
    readme = (ROOT / "collector" / "README.md").read_text()
    assert " ".join(documented_query().split()) in " ".join(readme.split())
