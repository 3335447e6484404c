"""Prices, redaction, a running service, and how checks are run."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_genapp.cli.doctor import money, privacy, serving
from otel_genapp.cli.doctor.checks import CHECKS, examine
from otel_genapp.cli.doctor.finding import Finding, Inspection, ok, problem
from otel_genapp.cli.service import Service, ServiceError
from otel_genapp.pipeline.pricing import Prices
from otel_genapp.semconv import LABEL_BUDGETS
from tests.unit.doctor.looks import found, inspection, levels, only, told

EXPOSITION = """\
# TYPE genapp_telemetry_labels_folded_total counter
genapp_telemetry_labels_folded_total{metric="genapp_action_count",label="name",env="dev",app="shop"} 12.0
# TYPE genapp_telemetry_dropped_total counter
genapp_telemetry_dropped_total{what="span",reason="queue_full",env="dev",app="shop"} 3.0
genapp_telemetry_dropped_total{what="journal",reason="disk_full",env="dev",app="shop"} 0.0
# TYPE genapp_telemetry_errors_total counter
genapp_telemetry_errors_total{where="export",env="dev",app="shop"} 1.0
# TYPE genapp_llm_unknown_usage_total counter
genapp_llm_unknown_usage_total{provider="openai",model="gpt-5",env="dev",app="shop"} 4.0
# TYPE genapp_llm_unpriced_requests_total counter
genapp_llm_unpriced_requests_total{provider="ollama",model="llama",env="dev",app="shop"} 1234.0
"""


def test_prices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken file is a problem, no table and an old one are warnings."""
    assert levels(found("prices")) == ["ok"]
    file = tmp_path / "prices.toml"
    file.write_text("[[price]]\nprovider = 'x'\n")
    single = only(found("prices", GENAPP_PRICES=str(file)), "problem")
    assert (
        str(file) in single.finding or "prices.toml" in single.finding,
        "prices check" in single.remedy,
    ) == (
        True,
        True,
    )
    monkeypatch.setattr(money, "_days_installed", lambda: 400)
    assert "400 days ago" in told(found("prices"), "warning")[0][0]
    monkeypatch.setattr(Prices, "tables", lambda _self: [])
    assert "pip install 'otel-genapp[cost]'" in only(found("prices"), "warning").remedy


def test_redaction(monkeypatch: pytest.MonkeyPatch) -> None:
    """No planted secret survives; one that would is named by its kind only."""
    for _ in range(20):
        assert levels(found("redaction")) == ["ok"]
    monkeypatch.setattr(privacy, "redacted", lambda span: span)
    single = only(found("redaction"), "problem")
    assert single.finding.count(",") == len(privacy.plant()) - 1
    assert "sk-proj" not in single.finding


def test_what_a_service_says_of_itself() -> None:
    """Folded labels, lost telemetry, own errors, unknown usage and missing prices are findings with numbers."""
    findings = list(serving._metrics("http://shop", EXPOSITION))
    assert told(findings, "problem") == [
        ("telemetry was lost: span queue_full 3", "the reason says where: see Nothing is lost in the README, and the log"),
        ("own errors of the telemetry: export 1", "look for 'telemetry error' in the log, and report it"),
    ]  # fmt: skip
    assert [text for text, _ in told(findings, "warning")] == [
        "labels past their budget count under __other__: genapp_action_count name 12",
        "calls whose tokens nobody reported: openai gpt-5 4",
        "calls without a price: ollama llama 1,234",
    ]
    quiet_one = '# TYPE genapp_llm_in_flight gauge\ngenapp_llm_in_flight{env="dev",app="shop"} 0.0\n'
    assert levels(serving._metrics("http://shop", quiet_one)) == ["ok"]
    for other in ("# TYPE up gauge\nup 1.0\n", "<html>", "genapp_x{ 1"):
        assert levels(serving._metrics("http://shop", other)) == ["problem"]


def test_labels_close_to_their_budget() -> None:
    """From four fifths of its values on a label is a warning, before anything is folded."""
    for number, expected in ((LABEL_BUDGETS["model"] * 4 // 5, ["warning"]), (10, ["ok"])):
        lines = (
            f'genapp_llm_requests_total{{provider="x",model="m{each}",operation="chat",status="success"}} 1.0\n'
            for each in range(number)
        )
        text = "# TYPE genapp_llm_requests_total counter\n" + "".join(lines)
        assert levels(serving._metrics("http://shop", text)) == expected


@pytest.mark.parametrize(
    ("status", "token", "level"),
    [(401, "x", "problem"), (401, "", "warning"), (404, "x", "problem"), (500, "", "problem")],
)
def test_a_service_that_refuses(status: int, token: str, level: str) -> None:
    """Each way to be refused has a level and a remedy."""
    refusal = serving._refused(
        ServiceError("status", status), "/events/metrics", service=Service("http://shop", token)
    )
    assert (refusal.level, bool(refusal.remedy)) == (level, True)


def test_no_service_is_asked() -> None:
    """Without an address there is nothing to say of a service."""
    assert found("service") == []


def test_every_check_is_run_in_order() -> None:
    """The findings stand in the order of the checks, and each check says something but that of a service."""
    names = [report.check for report in examine(inspection())]
    assert list(dict.fromkeys(names)) == [name for name in CHECKS if name != "service"]


def test_a_check_that_hangs_is_left_behind() -> None:
    """It becomes a problem after the deadline, beside what it had found."""
    done = threading.Event()

    def hangs(_: Inspection) -> Iterator[Finding]:
        yield ok("so far")
        done.wait()

    seen = Inspection(timeout_s=0.1)
    reports = examine(seen, {"slow": hangs, "fast": lambda _: [ok("fine")]})
    done.set()
    assert [(report.check, report.found.finding) for report in reports] == [
        ("slow", "so far"), ("slow", "no answer within 0.1 s"), ("fast", "fine"),
    ]  # fmt: skip


@pytest.mark.expected_own_errors
def test_a_check_that_raises_is_a_finding() -> None:
    """It becomes a problem that asks for a report, and the others go on."""

    def raises(_: Inspection) -> list[Finding]:
        raise RuntimeError("a bug")

    reports = examine(Inspection(timeout_s=5), {"bad": raises, "good": lambda _: [ok("fine")]})
    assert [report.found.level for report in reports] == ["problem", "ok"]
    assert "a bug" not in reports[0].found.finding


def test_findings_hold_no_secrets() -> None:
    """What a finding quotes goes through the redaction."""
    leaky = {
        "leaky": lambda _: [problem("see postgresql://anna:hunter2secret@db/shop", "password=hunter2secret")]
    }
    assert "hunter2secret" not in str(examine(Inspection(timeout_s=5), leaky))
