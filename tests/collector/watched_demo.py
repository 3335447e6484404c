"""The demo under a real Prometheus, after customers have come twice, and with some days behind it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from otel_genapp import semconv
from otel_genapp.alerting.promql import USUAL_DAYS, Pace
from otel_genapp.alerting.rule_files import rule_files
from otel_genapp.alerting.table import rule_groups
from tests.collector.expected import Prometheus
from tests.collector.promql import named
from tests.collector.tracing import export_to
from tests.otelcol import running

DEADLINE_S = 60.0
_SCRAPE = "1s"
_TIMES_FASTER = 60
"""Rules with windows this much shorter record all they do within the test."""
_ROUNDS = 2
"""A rate needs a series to grow between two scrapes."""


USUAL = 1000.0
"""What every recorded count was at all hours of the days before."""
_DAYS_OF = {"env": "dev", "app": "shop-bot", "provider": "openai", "model": "gpt-5-mini"}
_LEAFLETS = semconv.LABEL_BUDGETS["platform"] + 1


@dataclass(frozen=True, slots=True)
class Tools:
    """Debian's programs."""

    prometheus: str
    promtool: str
    alertmanager: str


@contextmanager
def watched_demo(tools: Tools, *, folder: Path) -> Iterator[Prometheus]:
    """Prometheus, with our rules, and what it has seen of the demo, the collector, Alertmanager and itself."""
    demo_port, prometheus_port, alertmanager_port, gossip_port = _free_ports(4)
    url = f"http://127.0.0.1:{demo_port}"
    with ExitStack() as stack:
        collector = stack.enter_context(running("base", "file", "prometheus", folder=folder / "otelcol"))
        demo = [sys.executable, "-m", "otel_genapp.cli", "demo", "--json", "--port", str(demo_port)]
        _run(
            stack,
            demo,
            **export_to(collector, OTEL_METRIC_EXPORT_INTERVAL="1000", OTEL_BSP_SCHEDULE_DELAY="500"),
        )
        _run(
            stack,
            _alertmanager_command(tools.alertmanager, folder, port=alertmanager_port, gossip=gossip_port),
        )
        _wait_for(f"{url}/health")
        asked = Prometheus(f"http://127.0.0.1:{prometheus_port}")
        targets = {
            "genapp": demo_port,
            "collector": collector.ports["metrics"],
            "collector-exported": collector.ports["prometheus"],
            "prometheus": prometheus_port,
            "alertmanager": alertmanager_port,
        }
        _remember_days(tools.promtool, folder)
        _run(stack, _prometheus_command(tools.prometheus, folder, targets=targets, port=prometheus_port))
        _wait_for(f"{asked.url}/-/ready")
        _wait_until_seen(asked, 1)
        for seed in range(_ROUNDS):
            _send_customers(url, seed=seed + 1)
        _answer_leaflets(url)
        with urllib.request.urlopen(f"{url}/prometheus") as answer:
            calls = sum(
                float(line.rpartition(" ")[2])
                for line in answer.read().decode().splitlines()
                if line.startswith("genapp_llm_requests_total{")
            )
        _wait_until_seen(asked, calls)
        yield asked


def _run(stack: ExitStack, command: list[str], **environment: str) -> None:
    process = subprocess.Popen(
        command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )

    def stop() -> None:
        process.terminate()
        try:
            process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    stack.callback(stop)


def _prometheus_command(program: str, folder: Path, *, targets: dict[str, int], port: int) -> list[str]:
    config = folder / "prometheus.yml"
    (folder / "rules").mkdir()
    for name, text in rule_files(Pace(shrink=_TIMES_FASTER)).items():
        (folder / "rules" / name).write_text(text, encoding="utf-8")
    told = {
        "global": {"scrape_interval": _SCRAPE, "evaluation_interval": _SCRAPE},
        "rule_files": [str(folder / "rules" / "*.yml")],
        "scrape_configs": [
            {
                "job_name": job,
                "metrics_path": "/prometheus" if job == "genapp" else "/metrics",
                "honor_labels": job.startswith(("genapp", "collector-")),
                "static_configs": [{"targets": [f"127.0.0.1:{target}"]}],
            }
            for job, target in targets.items()
        ],
    }
    config.write_text(json.dumps(told), encoding="utf-8")  # JSON is YAML
    return [
        program,
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--enable-feature=exemplar-storage",
        "--log.level=error",
    ]


def _alertmanager_command(program: str, folder: Path, *, port: int, gossip: int) -> list[str]:
    config = folder / "alertmanager.yml"
    told = {"route": {"receiver": "nobody"}, "receivers": [{"name": "nobody"}]}
    config.write_text(json.dumps(told), encoding="utf-8")
    return [
        program,
        f"--config.file={config}",
        f"--storage.path={folder / 'alertmanager'}",
        f"--web.listen-address=127.0.0.1:{port}",
        f"--cluster.listen-address=127.0.0.1:{gossip}",
        "--log.level=error",
    ]


def _send_customers(url: str, *, seed: int) -> None:
    command = [sys.executable, "-m", "otel_genapp.cli.demo.traffic", url, "--once", "--seed", str(seed)]
    # They leave when their stdin ends.
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as customers:
        assert customers.wait(DEADLINE_S) == 0


def _answer_leaflets(url: str) -> None:
    """Critical reviews from more platforms than the label has room for: a careless use of it."""
    for number in range(_LEAFLETS):
        opinion = {"session": f"leaflet-{number}", "csat": 1, "platform": f"leaflet {number}"}
        request = urllib.request.Request(
            f"{url}/feedback", json.dumps(opinion).encode(), {"content-type": "application/json"}
        )
        urllib.request.urlopen(request).close()


def _remember_days(promtool: str, folder: Path) -> None:
    """Give Prometheus the days that the `usual` rules look back on, at the pace of the rules."""
    day_s = int(Pace(shrink=_TIMES_FASTER)("1d")[:-1])
    now = int(time.time())
    past = range(now - (USUAL_DAYS + 1) * day_s, now - day_s + 2 * int(DEADLINE_S), 30)
    lines = []
    for rule in (rule for group in rule_groups() for rule in group.rules if ":usual" in rule.name):
        told = named(rule.expr)
        [record] = told.series
        by = min(told.needed, key=lambda needed: len(needed.labels)).labels
        labels = ",".join(f'{label}="{_DAYS_OF[label]}"' for label in sorted(by))
        lines += [f"# TYPE {record} gauge", *(f"{record}{{{labels}}} {USUAL:g} {at}" for at in past)]
    text = folder / "days.om"
    text.write_text("\n".join([*lines, "# EOF\n"]), encoding="utf-8")
    command = [
        promtool,
        "tsdb",
        "create-blocks-from",
        "openmetrics",
        "--quiet",
        str(text),
        str(folder / "data"),
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=DEADLINE_S)


def _wait_until_seen(prometheus: Prometheus, calls: float) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not prometheus.ask(f"sum(genapp_llm_requests_total) >= {calls}"):
        assert time.monotonic() < deadline, f"Prometheus has not seen {calls:.0f} calls"
        time.sleep(0.2)


def _wait_for(url: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while True:
        try:
            urllib.request.urlopen(url).close()
        except OSError:
            assert time.monotonic() < deadline, f"{url} does not answer"
            time.sleep(0.1)
        else:
            return


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        held = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in held]
