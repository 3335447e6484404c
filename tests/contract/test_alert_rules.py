"""The alert rules: built as committed, of known names only, each alert tested by promtool."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from otel_genapp import semconv
from otel_genapp.alerting.promql import Pace, series
from otel_genapp.alerting.rule_files import rule_files
from otel_genapp.alerting.rules import Recording
from otel_genapp.alerting.table import alerts, rule_groups
from otel_genapp.cli import main
from tests.contract.source import ROOT

PROMETHEUS = ROOT / "collector" / "prometheus"
FOREIGN = {"up", "prometheus_rule_evaluation_failures_total", "alertmanager_notifications_failed_total"}
ADDED_LABELS = {"env", "app", "job", "instance", "le", "day", "sloth_slo"}
"""Labels on our series that are not of a family: of the resource, the scrape, and of recorded series."""
FOREIGN_LABELS = {"rule_group", "integration", "sloth_window", "sloth_service", "sloth_id"}
FAMILIES = {metric.name: metric for metric in semconv.METRICS}
SUFFIXES = ("_bucket", "_count", "_sum")


def expressions() -> list[str]:
    return [rule.expr for group in rule_groups() for rule in group.rules]


def family_of(name: str) -> semconv.Metric | None:
    """The family a sample's name belongs to."""
    bare = next((name.removesuffix(suffix) for suffix in SUFFIXES if name.endswith(suffix)), name)
    return FAMILIES.get(name) or FAMILIES.get(bare)


def test_committed_files_are_the_tables() -> None:
    """`rules check` finds nothing to complain about in what is committed."""
    assert main(("rules", "check", str(PROMETHEUS / "rules"))) == 0


def test_every_name_is_known() -> None:
    """Expressions name families of semconv, recorded series and a few foreign names."""
    recorded = {rule.name for group in rule_groups() for rule in group.rules if isinstance(rule, Recording)}
    text = "\n".join(re.sub(r'"[^"]*"', '""', expr) for expr in expressions())
    named = set(re.findall(r"\b[a-z][a-z0-9_:]*[_:][a-z0-9_:]+\b(?!\s*[(=])", text)) | {"up"}
    labels = (
        ADDED_LABELS | FOREIGN_LABELS | {label for metric in FAMILIES.values() for label in metric.labels}
    )
    unknown = {name for name in named - recorded - FOREIGN - labels if family_of(name) is None}
    assert unknown == set()


def test_every_label_is_known() -> None:
    """Selectors match, and sums keep, only labels that the families have."""
    wrong = []
    for expr in expressions():
        for name, matchers in re.findall(r"\b(genapp_\w+)\{([^}]*)\}", expr):
            family = family_of(name)
            assert family is not None, name
            found = set(re.findall(r"(\w+)[=!]", matchers))
            wrong += [f"{name}: {label}" for label in found - {*family.labels, *ADDED_LABELS}]
        of_families = {
            label
            for name in re.findall(r"\bgenapp_\w+", expr)
            if (family := family_of(name)) is not None
            for label in family.labels
        }
        if of_families:
            kept = set(re.findall(r"\w+", " ".join(re.findall(r"\bby \(([^)]*)\)", expr))))
            wrong += [f"{expr}: {label}" for label in kept - of_families - ADDED_LABELS - {"rule_group"}]
    assert wrong == []


def test_texts_read_labels_the_alert_has() -> None:
    """No text of an alert names a label that its expression does not keep, and none of an end names a value."""
    wrong = []
    for alert in alerts():
        recorded = {
            rule.name: rule.expr
            for group in rule_groups()
            for rule in group.rules
            if isinstance(rule, Recording)
        }
        reach = alert.expr + "".join(expr for name, expr in recorded.items() if name in alert.expr)
        kept = set(re.findall(r"\w+", " ".join(re.findall(r"\b(?:by|on) \(([^)]*)\)", reach)))) | {
            "sloth_slo"
        }
        wrong += [
            f"{alert.name}: {label}"
            for label in re.findall(r"\$labels\.(\w+)", alert.summary + alert.description)
            if label not in kept
        ]
        wrong += [alert.name for text in (alert.over,) if "$" in text or "{" in text]
    assert wrong == []


def test_alerts_are_distinct_and_bounds_are_buckets() -> None:
    """An alert is named once a severity, and every bound a rule reads is a bucket of its family."""
    names = [(alert.name, alert.severity) for alert in alerts()]
    assert len(names) == len(set(names))
    for expr in expressions():
        for name, bound in re.findall(r'(genapp_\w+)_bucket\{[^}]*le=~"([0-9.]+)\(', expr):
            assert float(bound) in FAMILIES[name].buckets or not FAMILIES[name].buckets


def test_a_wrong_label_is_refused() -> None:
    """A selector with a label its family does not have cannot be built."""
    with pytest.raises(ValueError, match="no label 'model'"):
        series(semconv.HTTP_REQUESTS, 'model="gpt-5"')


def test_promtool_accepts_the_rules(require_tool: Callable[[str], str], tmp_path: Path) -> None:
    """Rules of every pace, and the configuration of Prometheus, are valid."""
    promtool = require_tool("promtool")
    for name, text in rule_files(Pace(60)).items():
        (tmp_path / name).write_text(text)
    paths = [
        *map(str, sorted(tmp_path.glob("*.yml"))),
        *map(str, sorted((PROMETHEUS / "rules").glob("*.yml"))),
    ]
    for command in (["check", "rules", *paths], ["check", "config", str(PROMETHEUS / "prometheus.yml")]):
        checked = subprocess.run([promtool, *command], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("name", sorted(path.name for path in (PROMETHEUS / "tests").glob("*.yml")))
def test_promtool_runs_the_rules(name: str, require_tool: Callable[[str], str]) -> None:
    """Each alert fires when it should, on the first failure after a start too, and else stays silent."""
    command = [require_tool("promtool"), "test", "rules", str(PROMETHEUS / "tests" / name)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_every_alert_is_tested() -> None:
    """Each alert is seen firing and seen silent by a test of promtool."""
    fired: set[str] = set()
    silent: set[str] = set()
    for path in sorted((PROMETHEUS / "tests").glob("*.yml")):
        for test in yaml.safe_load(path.read_text(encoding="utf-8"))["tests"]:
            for asked in test["promql_expr_test"]:
                says = json.dumps(asked["exp_samples"])
                found = set(re.findall(r'alertname=\\?"(Genapp\w+)', asked["expr"] + says))
                if "alertname!=" in asked["expr"]:  # all alerts of the file at once
                    fired |= set(re.findall(r'alertname=\\"(Genapp\w+)', says))
                    silent |= {alert.name for alert in alerts()} if not asked["exp_samples"] else set()
                else:
                    (fired if asked["exp_samples"] else silent).update(found)
    table = {alert.name for alert in alerts()}
    assert (table - fired, table - silent - {"GenappWatchdog"}) == (set(), set())


def test_written_yaml_reads_back_whole() -> None:
    """A YAML reader finds in the files exactly what the table says."""
    read: list[Any] = []
    wanted: list[Any] = []
    for group in rule_groups():
        read += [
            (rule.get("alert") or rule["record"], rule["expr"], rule.get("for", ""))
            for rule in yaml.safe_load(rule_files()[f"{group.name}.yml"])["groups"][0]["rules"]
        ]
        wanted += [(rule.name, rule.expr, getattr(rule, "wait", "")) for rule in group.rules]
    assert read == wanted
