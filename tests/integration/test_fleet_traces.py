"""With a ClickHouse store, traces are those the collector has put into its database."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from fastapi import FastAPI

from otel_genapp import bind, init_telemetry, llm_call
from otel_genapp.ledger.clickhouse.spans import NO_COLLECTOR
from tests.builders import kept_span
from tests.clickhouse import Database
from tests.otel_table import export, make_table
from tests.processes import ROOT
from tests.servers import Servers
from tests.serving import uvicorn_serving

CID = "order-1842"
AUTH = {"x-internal-auth": "test"}


@pytest.fixture
def database(servers: Servers) -> Iterator[Database]:
    """An empty database."""
    with servers.clickhouse().database() as database:
        yield database


def test_a_fleets_trace_is_shown_by_every_reader(database: Database) -> None:
    """The endpoint, the API and the command show the collector's spans with the ledger's calls."""
    app = FastAPI()
    with (
        init_telemetry("shop", "dev", internal_auth="test", store=database.url, app=app) as telemetry,
        uvicorn_serving(app) as client,
    ):
        with bind(correlation_id=CID), llm_call("gpt-5", "openai") as one:
            one.usage(input=100, output=20)
        [alone] = telemetry.traces.by_correlation_id(CID)
        assert (alone.summary, len(alone.llm_calls)) == (None, 1)
        assert telemetry.status()["traces"] == {"kept": False, "spans_waiting": 0, "problem": NO_COLLECTOR}
        assert json.loads(client.ask(f"/events/traces/{CID}", headers=AUTH).body)["notes"] == [NO_COLLECTOR]

        make_table(database, "plain")
        root = kept_span(
            "1" * 16, alone.trace_id, correlation_id=CID, name="POST /chat", kind="server", service="shop"
        )
        said = {"correlation.id": CID}
        inner = kept_span(alone.llm_calls[0].span_id, alone.trace_id, parent_id="1" * 16, correlation_id=CID,
                          name="chat gpt-5", kind="client", service="shop", attributes=said)  # fmt: skip
        export(database, root, inner)
        answer = json.loads(client.ask(f"/events/traces/{CID}", headers=AUTH).body)
        assert "notes" not in answer
        [trace] = answer["traces"]
        assert [(span["name"], span["parent_id"]) for span in trace["spans"]] == [
            ("POST /chat", None), ("chat gpt-5", "1" * 16),
        ]  # fmt: skip
        assert [call["span_id"] for call in trace["llm_calls"]] == [inner.span_id]
        assert telemetry.traces.recent().traces[0].name == "POST /chat"
        assert telemetry.status()["traces"]["problem"] == ""
        plain = {name: value for name, value in os.environ.items() if not name.startswith("GENAPP_")}
        command = [sys.executable, "-m", "otel_genapp", "trace", CID, "--store", database.url]
        shown = subprocess.run(
            command, cwd=ROOT, env=plain, capture_output=True, text=True, timeout=60, check=False
        )
        assert (shown.returncode, "POST /chat" in shown.stdout, "gpt-5: 100 in" in shown.stdout) == (
            0,
            True,
            True,
        ), shown
