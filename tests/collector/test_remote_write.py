"""Metrics pushed to a real Prometheus."""

from __future__ import annotations

import json
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from otel_genapp import init_telemetry
from tests.collector.tracing import export_to, set_all, until
from tests.fresh import in_fresh_process
from tests.otelcol import free_port, running


class Prometheus:
    """A Prometheus that takes remote writes."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def ask(self, query: str) -> list[dict[str, Any]]:
        """The labels of the series a query finds; none while it does not answer."""
        with suppress(OSError):
            at = f"{self.url}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
            with urllib.request.urlopen(at, timeout=5) as answer:
                return [series["metric"] for series in json.load(answer)["data"]["result"]]
        return []


@pytest.fixture
def prometheus(require_tool: Callable[[str], str], tmp_path: Path) -> Iterator[Prometheus]:
    """One with nothing to scrape."""
    port = free_port()
    settings = tmp_path / "prometheus.yml"
    settings.write_text("scrape_configs: []\n")
    command = [
        require_tool("prometheus"), f"--config.file={settings}", f"--storage.tsdb.path={tmp_path / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}", "--web.enable-remote-write-receiver",
    ]  # fmt: skip
    with (tmp_path / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        found = Prometheus(port)
        until(lambda: found.ask("vector(1)"))
        yield found
    finally:
        process.terminate()
        process.wait(20)


def serve(settings: dict[str, str]) -> bool:
    from fastapi import FastAPI
    from starlette.testclient import TestClient

    set_all(settings)
    app = FastAPI()
    telemetry = init_telemetry("shop", "prod", app=app)
    TestClient(app).get("/health")
    return telemetry.shutdown()


def test_metrics_are_pushed(prometheus: Prometheus, tmp_path: Path) -> None:
    """The conventional names arrive under app and env, the genapp_ families do not."""
    settings = {"GENAPP_REMOTE_WRITE_URL": f"{prometheus.url}/api/v1/write"}
    with running("base", "file", "remote_write", folder=tmp_path / "otelcol", settings=settings) as collector:
        assert in_fresh_process(serve, export_to(collector))
        (series,) = until(lambda: prometheus.ask("http_server_request_duration_seconds_count"))
        assert (series["app"], series["env"], series["job"]) == ("shop", "prod", "shop")
        assert prometheus.ask('{__name__=~"genapp_.*"}') == []
