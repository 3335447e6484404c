"""`/prometheus` after real traffic: exactly the families and labels of semconv, and readable."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import flask
import httpx
import httpx2
import pytest
from fastapi import FastAPI
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from otel_genapp import (
    action_tracking,
    bind,
    hub,
    llm_call,
    record_error,
    record_feedback,
    record_message,
    record_outcome,
    semconv,
)
from otel_genapp.fake_llm import FakeLLMServer
from otel_genapp.testing import Captured, capture_telemetry
from tests.serving import Client, uvicorn_serving, werkzeug_serving

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
SYSTEM_PREFIXES = ("process_", "system_", "cpython_")


def shop(upstream: Callable[[], str]) -> FastAPI:
    """A service that does everything that is counted."""
    app = FastAPI()

    @app.get("/orders/{order_id}")
    async def order(order_id: int) -> dict[str, int]:
        with action_tracking("order_handler") as tracker:
            tracker.size(3)
            with llm_call("gpt-5", provider="openai", session_id="anna") as call:
                call.usage(input=10, output=5, cache_read=4, cache_write=1, reasoning=2)
                call.tools("search")
                call.first_token()
                call.cost(0.001)
            with llm_call("gpt-5", provider="openai", session_id="anna"):
                pass
            async with httpx.AsyncClient() as client:
                await client.get(upstream())
            async with httpx2.AsyncClient() as client2:
                await client2.get(upstream())
        record_error("Stale", "catalogue")
        return {"order": order_id}

    return app


def catalogue() -> flask.Flask:
    """The service behind it."""
    app = flask.Flask("catalogue")

    @app.get("/stock")
    def stock() -> str:
        return "12"

    return app


@pytest.fixture
def traffic() -> Iterator[tuple[Captured, Client]]:
    """Ten requests through FastAPI, Flask, httpx and httpx2, served from real servers."""
    with capture_telemetry(client_paths=("/stock",)) as got, werkzeug_serving(catalogue()) as behind:
        app = shop(lambda: f"http://127.0.0.1:{behind.port}/stock")
        got.telemetry.mount(app)
        with uvicorn_serving(app) as server:
            for number in range(10):
                assert server.ask(f"/orders/{number}").status == 200
            yield got, server


def label_sets(text: str) -> dict[str, set[tuple[str, ...]]]:
    """Family -> the label sets its samples carry, `le` aside."""
    found: dict[str, set[tuple[str, ...]]] = {}
    for family in parse_text(text):
        for sample in family.samples:
            name = sample.name
            if family.type == "histogram":
                name = family.name
            found.setdefault(name, set()).add(tuple(sorted(set(sample.labels) - {"le"})))
    return found


def talk() -> None:
    """A conversation in which everything happens, and an update of a bot."""
    running = hub.active
    assert running is not None
    running.families.bot_update_lag.record(1, ("shop_bot",))
    running.families.bot_throttled.announce(("shop_bot",))
    with bind(session_id="anna", user_id="u1"):
        record_message("web", "order")
        record_feedback(csat=1)
        record_outcome(resolved=True, intent_correct=True)
        record_message("web", "order")


def test_families_and_labels_are_the_contract(traffic: tuple[Captured, Client]) -> None:
    """Every family of semconv is there with its label set on every series, and nothing else."""
    with FakeLLMServer() as llm:
        asked = {"model": "gpt-5", "messages": [{"role": "user", "content": "hi"}]}
        assert httpx.post(f"{llm.base_url}/chat/completions", json=asked).status_code == 200
    got, server = traffic
    talk()
    got.telemetry.health.add("database", lambda: True)
    got.telemetry.flush()
    until(lambda: got.value("genapp_health_up") == 1)
    found = label_sets(server.ask("/prometheus").body.decode())
    own = {name: sets for name, sets in found.items() if not name.startswith(SYSTEM_PREFIXES)}
    expected = {metric.name: {tuple(sorted({*metric.labels, "env", "app"}))} for metric in semconv.METRICS}
    del expected["genapp_telemetry_labels_folded_total"]  # nothing was folded
    assert own == expected


def test_values_are_exact(traffic: tuple[Captured, Client]) -> None:
    """Counts, sums and sizes are those of the traffic."""
    got, _ = traffic
    value = got.value
    # The last request counts when its last byte has left, which its client may see a moment before.
    until(lambda: value("genapp_http_requests_total", app_type="fastapi") == 10)
    assert {
        "in": value("genapp_http_requests_total", app_type="fastapi", resource="/orders/{order_id}"),
        "flask": value("genapp_http_requests_total", app_type="flask", resource="/stock"),
        "httpx": value("genapp_http_requests_total", app_type="httpx", status="200"),
        "httpx2": value("genapp_http_requests_total", app_type="httpx2", status="200"),
        "sent": value("genapp_http_request_size_bytes_sum", app_type="flask", direction="response"),
        "size": value("genapp_action_size_total", name="order_handler"),
        "calls": value("genapp_llm_requests_total", status="success", operation="chat"),
        "unknown": value("genapp_llm_unknown_usage_total"),
        "unpriced": value("genapp_llm_unpriced_requests_total"),
        "cost": round(value("genapp_llm_cost_usd_total"), 9),
        "first": value("genapp_llm_time_to_first_token_sec_count"),
        "tools": value("genapp_llm_tool_calls_total"),
        "tokens": {kind: value("genapp_llm_tokens_total", type=kind) for kind in semconv.TOKEN_TYPES},
        "errors": value("genapp_errors_total", error_type="Stale", service="catalogue"),
        "own_errors": value("genapp_telemetry_errors_total"),
    } == {
        "in": 10, "flask": 20, "httpx": 10, "httpx2": 10, "sent": 40, "size": 30, "calls": 20,
        "unknown": 10, "unpriced": 10, "cost": 0.01, "first": 10, "tools": 10,
        "tokens": {"input": 100, "output": 50, "cache_read": 40, "cache_write": 10, "reasoning": 20},
        "errors": 10, "own_errors": 0,
    }  # fmt: skip


def test_openmetrics_links_to_traces(traffic: tuple[Captured, Client]) -> None:
    """Asked for, OpenMetrics parses strictly and its exemplars are trace ids of the spans made."""
    got, server = traffic
    answer = server.ask("/prometheus", headers={"accept": OPENMETRICS})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    exemplars = {
        (family.name, sample.exemplar.labels["trace_id"])
        for family in parse_openmetrics(answer.body.decode())
        for sample in family.samples
        if sample.exemplar
    }
    assert {name for name, _ in exemplars} >= {
        "genapp_http_request_duration_sec", "genapp_llm_request_duration_sec",
        "genapp_action_duration_sec",
    }  # fmt: skip
    made = {f"{span.get_span_context().trace_id:032x}" for span in got.spans}  # type: ignore[union-attr]
    assert {trace_id for _, trace_id in exemplars} <= made


def free_port() -> int:
    """A port nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


def ask_json(url: str) -> Any:
    """The JSON of a GET, or None while nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return json.load(answer)
    except OSError:
        return None


def until(condition: Callable[[], Any], timeout_s: float = 40.0) -> Any:
    """The first true value of the condition."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError("the condition did not come true in time")


def test_a_real_prometheus_scrapes_it(
    traffic: tuple[Captured, Client], tmp_path: Path, require_tool: Callable[[str], str]
) -> None:
    """Prometheus reads the endpoint without an error and answers the exact counts."""
    _, server = traffic
    config = tmp_path / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 1s}\n"
        "scrape_configs:\n"
        "  - job_name: app\n"
        "    metrics_path: /prometheus\n"
        f"    static_configs: [{{targets: ['127.0.0.1:{server.port}']}}]\n"
    )
    port = free_port()
    process = subprocess.Popen(
        [
            require_tool("prometheus"),
            f"--config.file={config}",
            f"--storage.tsdb.path={tmp_path / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--enable-feature=exemplar-storage",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    base = f"http://127.0.0.1:{port}/api/v1"
    try:
        target = until(
            lambda: (
                (found := ask_json(f"{base}/targets"))
                and found["data"]["activeTargets"]
                and found["data"]["activeTargets"][0]["lastScrape"][:4] != "0001"
                and found["data"]["activeTargets"][0]
            )
        )
        assert (target["health"], target["lastError"]) == ("up", "")
        query = "sum(genapp_llm_tokens_total{type=%22input%22})"
        result = until(lambda: ask_json(f"{base}/query?query={query}")["data"]["result"])
        assert result[0]["value"][1] == "100"
    finally:
        process.terminate()
        process.wait(20)


def test_promtool_finds_no_fault(
    traffic: tuple[Captured, Client], require_tool: Callable[[str], str]
) -> None:
    """`promtool check metrics` accepts the exposition; the house's own names are its only remarks."""
    _, server = traffic
    checked = subprocess.run(
        [require_tool("promtool"), "check", "metrics"],
        input=server.ask("/prometheus").body,
        capture_output=True,
        check=False,
    )
    remarks = [
        line
        for line in checked.stderr.decode().splitlines()
        # The `_sec` suffix and counters of bytes are the contract the dashboards are built on.
        if "genapp_" in line and "abbreviated unit" not in line and "base unit" not in line
    ]
    assert remarks == []


def test_every_scrape_under_load_is_whole(traffic: tuple[Captured, Client]) -> None:
    """Scrapes beside each other all answer every family."""
    _, server = traffic

    async def scrape() -> set[int]:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as client:
            answers = await asyncio.gather(*(client.get("/prometheus") for _ in range(20)))
        return {len(label_sets(answer.text)) for answer in answers}

    assert len(asyncio.run(scrape())) == 1
