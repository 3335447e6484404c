"""A fleet: whole traces at one gateway, which counts all of them and keeps the ones worth keeping."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.trace import StatusCode, Tracer, set_span_in_context

from tests.collector.tracing import foreign_tracer, until
from tests.otelcol import TOKEN, Otelcol, running

ORDINARY = 40
QUICK = (
    "processors::tail_sampling::decision_wait: 1s",
    "connectors::span_metrics::metrics_flush_interval: 1s",
)


def trace_of(
    tracer: Tracer, name: str, *, seconds: float = 0.01, error: bool = False, inner: Mapping[str, Any] | None = None,
    **attributes: Any,
) -> None:  # fmt: skip
    """A trace of two spans; `inner` are the attributes of the second."""
    end_ns = time.time_ns()
    start_ns = end_ns - int(seconds * 1e9)
    route = {key.replace("_", "."): value for key, value in attributes.items()}
    outer = tracer.start_span(name, start_time=start_ns, attributes=route)
    span = tracer.start_span(
        f"{name} inside", set_span_in_context(outer), start_time=start_ns, attributes=inner or {}
    )
    if error:
        span.set_status(StatusCode.ERROR)
    span.end(end_ns)
    outer.end(end_ns)


def calls(collector: Otelcol) -> dict[str, int]:
    """How many spans of each name the span metrics have counted."""
    found = re.findall(
        r'^traces_span_metrics_calls_total\{.*span_name="([^"]*)".*\} (\d+)',
        collector.prometheus(),
        re.MULTILINE,
    )
    return {name: int(number) for name, number in found}


def test_a_gateway_counts_all_and_keeps_what_matters(tmp_path: Path) -> None:
    """Errors, slow and costly traces stay whole; probes and ordinary ones go; every span is counted."""
    settings = {"GENAPP_GATEWAY_KEEP_PERCENT": "0"}
    with running(
        "base", "gateway", "file", "prometheus", folder=tmp_path, settings=settings, overrides=QUICK
    ) as collector:
        with foreign_tracer(collector) as tracer:
            for _ in range(ORDINARY):
                trace_of(tracer, "ordinary", http_route="/chat")
            trace_of(tracer, "failed", error=True)
            trace_of(tracer, "slow", seconds=6)
            trace_of(tracer, "costly", inner={"genapp.llm.cost_usd": 0.25})
            trace_of(tracer, "cheap", inner={"genapp.llm.cost_usd": 0.01, "gen_ai.usage.input_tokens": 100})
            trace_of(tracer, "long", inner={"gen_ai.usage.input_tokens": 30_000})
            trace_of(tracer, "probe", http_route="/health/{check}", error=True)
            trace_of(tracer, "scrape", url_path="/prometheus", seconds=6)
            trace_of(tracer, "asks", error=True, inner={"http.route": "/health"})
        traces = ORDINARY + 8
        until(
            lambda: (
                collector.own_metric("otelcol_processor_tail_sampling_global_count_traces_sampled.*")
                >= traces
            )
        )
        kept = {"failed", "slow", "costly", "long", "asks"}
        wanted = sorted([*kept, *(f"{name} inside" for name in kept)])
        assert until(lambda: len(found := collector.file_spans()) >= len(wanted) and found)
        assert sorted(span["name"] for span in collector.file_spans()) == wanted
        counted = until(lambda: len(found := calls(collector)) == 18 and found)
        assert counted == {
            **dict.fromkeys(
                [*wanted, "probe", "probe inside", "scrape", "scrape inside", "cheap", "cheap inside"], 1
            ),
            **dict.fromkeys(["ordinary", "ordinary inside"], ORDINARY),
        }


def test_a_gateway_keeps_the_share_it_is_told(tmp_path: Path) -> None:
    """With 100 percent every trace but the probes stays."""
    settings = {"GENAPP_GATEWAY_KEEP_PERCENT": "100"}
    with running(
        "base", "gateway", "file", folder=tmp_path, settings=settings, overrides=QUICK[:1]
    ) as collector:
        with foreign_tracer(collector) as tracer:
            for _ in range(5):
                trace_of(tracer, "ordinary")
                trace_of(tracer, "probe", http_route="/health")
        assert until(lambda: len(collector.file_spans()) >= 10)
        assert {span["name"] for span in collector.file_spans()} == {"ordinary", "ordinary inside"}


@pytest.fixture
def fleet(tmp_path: Path) -> Any:
    """An agent and the two gateways behind it."""
    with ExitStack() as stack:
        gateways = [
            stack.enter_context(running("base", "file", folder=tmp_path / f"gateway{n}")) for n in (1, 2)
        ]
        addresses = ", ".join(f"127.0.0.1:{gateway.ports['grpc']}" for gateway in gateways)
        settings = {
            "GENAPP_GATEWAYS": f"[{addresses}]",
            "GENAPP_GATEWAY_TOKEN": TOKEN,
            "GENAPP_GATEWAY_INSECURE": "true",
        }
        agent = stack.enter_context(running("base", "agent", folder=tmp_path / "agent", settings=settings))
        yield agent, gateways


def test_an_agent_hands_a_trace_to_one_gateway(fleet: tuple[Otelcol, list[Otelcol]]) -> None:
    """Spans of a trace that come one by one meet again, and both gateways have work."""
    agent, gateways = fleet
    with foreign_tracer(agent) as tracer:
        for _ in range(ORDINARY):
            trace_of(tracer, "ordinary")
    until(lambda: sum(len(gateway.file_spans()) for gateway in gateways) >= 2 * ORDINARY)
    at = [{span["trace_id"] for span in gateway.file_spans()} for gateway in gateways]
    assert (len(at[0] | at[1]), at[0] & at[1]) == (ORDINARY, set())
    assert min(map(len, at)) > 0


def test_an_agent_keeps_the_share_of_a_gateway_that_is_away(fleet: tuple[Otelcol, list[Otelcol]]) -> None:
    """It is on the agent's disk, survives a crash of the agent, and arrives when the gateway is back."""
    agent, gateways = fleet
    gateways[0].kill()
    with foreign_tracer(agent) as tracer:
        for _ in range(ORDINARY):
            trace_of(tracer, "ordinary")
    agent.kill()
    gateways[0].start()
    agent.start()

    def arrived() -> set[str]:
        return {span["span_id"] for gateway in gateways for span in gateway.file_spans()}

    until(lambda: len(arrived()) == 2 * ORDINARY)
    assert len({span["trace_id"] for span in gateways[0].file_spans()}) > 0


@pytest.fixture
def certificate(require_tool: Callable[[str], str], tmp_path: Path) -> dict[str, str]:
    """The settings of a certificate for 127.0.0.1 that signed itself."""
    certificate, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    subprocess.run(
        [
            require_tool("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1",
            "-keyout", str(key), "-out", str(certificate), "-subj", "/CN=gateway",
            "-addext", "subjectAltName=IP:127.0.0.1",
        ],
        check=True,
        capture_output=True,
    )  # fmt: skip
    return {"GENAPP_COLLECTOR_CERT": str(certificate), "GENAPP_COLLECTOR_KEY": str(key)}


def send_over_tls(gateway: Otelcol, token: str, folder: Path, certificate: dict[str, str]) -> float:
    """A trace by an agent with that token; how many spans the gateway refused."""
    settings = {
        "GENAPP_GATEWAYS": f"[127.0.0.1:{gateway.ports['grpc']}]",
        "GENAPP_GATEWAY_TOKEN": token,
        "GENAPP_GATEWAY_CA": certificate["GENAPP_COLLECTOR_CERT"],
    }
    with (
        running("base", "agent", folder=folder / token, settings=settings) as agent,
        foreign_tracer(agent) as tracer,
    ):
        trace_of(tracer, token)
        until(lambda: gateway.file_spans() or agent.own_metric("otelcol_exporter_send_failed_spans.*"))
        return agent.own_metric("otelcol_exporter_send_failed_spans.*")


def test_an_agent_reaches_a_gateway_over_tls_only(certificate: dict[str, str], tmp_path: Path) -> None:
    """That is how it is unless told otherwise; a wrong token is refused for good, and counted."""
    with running("base", "tls", "file", folder=tmp_path / "gateway", settings=certificate) as gateway:
        assert send_over_tls(gateway, "wrong", tmp_path, certificate) == 2
        assert gateway.file_spans() == []
        assert send_over_tls(gateway, TOKEN, tmp_path, certificate) == 0
        until(lambda: len(gateway.file_spans()) == 2)
