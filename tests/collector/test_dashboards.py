"""Grafana's boards: what is committed is what the code builds, and every panel works on a real Prometheus."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from otel_genapp import dashboards, semconv
from otel_genapp.alerting.table import rule_groups
from otel_genapp.cli import main
from otel_genapp.dashboards import slo
from otel_genapp.dashboards.boards import Panel
from otel_genapp.semconv import Metric
from tests.collector.expected import Prometheus, PromQLError, Statement, statements, untrue
from tests.collector.promql import named
from tests.collector.watched_demo import USUAL, Tools, watched_demo
from tests.contract.source import ROOT

FOLDER = ROOT / "collector" / "grafana"
FAMILIES: dict[str, Metric] = {metric.name: metric for metric in semconv.METRICS}
OTHERS = {
    "up": {"job", "instance"},
    "process_cpu_time_seconds_total": {"type"},
    "process_memory_usage_bytes": set(),
    "process_open_file_descriptor_count": set(),
    "process_thread_count": set(),
    **{name: {"sloth_service", "sloth_slo", "sloth_id", "sloth_window"} for name in slo.RECORDED},
}
"""Series that are not families of ours: Prometheus', the system metrics', and those the rules record."""
TARGET_LABELS = {"env", "app", "instance", "job"}
FUNCTIONS = frozenset(
    {"sum", "min", "max", "count", "topk", "rate", "increase", "histogram_quantile", "vector"}
)
PANELS = [panel for board in dashboards.boards() for panel in board.panels]
EXPRESSIONS = sorted(
    {query.expr for panel in PANELS for query in panel.queries}
    | {rule.expr for group in rule_groups() for rule in group.rules}
)
CASES = [
    pytest.param(panel, id=f"{board.audience}: {panel.title}")
    for board in dashboards.boards()
    for panel in board.panels
]


@pytest.fixture(scope="module")
def prometheus(
    require_tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    """A Prometheus that has watched the demo."""
    tools = Tools(*map(require_tool, ("prometheus", "promtool", "prometheus-alertmanager")))
    with watched_demo(tools, folder=tmp_path_factory.mktemp("prometheus")) as watched:
        yield watched


def filled(expr: str) -> str:
    """The expression as Grafana sends it, with everything chosen."""
    expr = expr.replace("$__rate_interval", "1m").replace("$__range", "5m")
    return re.sub(r"\$\{?\w+\}?", ".*", expr)


def test_the_files_are_what_the_code_builds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`dashboards check` finds no difference in the repository, and one with a diff after a change."""
    assert main(["dashboards", "check", str(FOLDER / "dashboards")]) == 0
    assert main(["dashboards", "build", str(tmp_path), "--json"]) == 0
    changed = tmp_path / "ai.json"
    changed.write_text(changed.read_text().replace("Gen apps: AI performance", "Mine"))
    (tmp_path / "business.json").unlink()
    (tmp_path / "own.json").write_text("{}")
    capsys.readouterr()
    assert main(["dashboards", "check", str(tmp_path), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)["differences"]
    assert [(one["file"], one["problem"]) for one in found] == [
        ("business.json", "missing"), ("ai.json", "differs"), ("own.json", "not built from code"),
    ]  # fmt: skip
    assert '-  "title": "Mine",' in found[1]["diff"]


def test_building_twice_gives_the_same_bytes() -> None:
    """The JSON does not depend on the run, and its keys are sorted."""
    first = dashboards.rendered()
    assert first == dashboards.rendered()
    for text in first.values():
        assert json.dumps(json.loads(text), sort_keys=True, indent=2, ensure_ascii=False) + "\n" == text


def test_the_json_is_of_the_classic_schema() -> None:
    """Every board is classic, has a uid of its own, its variables, and panels with ids and places of their own."""
    told: list[dict[str, Any]] = [json.loads(text) for text in dashboards.rendered().values()]
    assert len({board["uid"] for board in told}) == len(told) == 6
    for board in told:
        assert board["schemaVersion"] == 42
        names = [variable["name"] for variable in board["templating"]["list"]]
        assert names[:3] == ["datasource", "env", "app"]
        assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
        places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in board["panels"]]
        assert len(set(places)) == len(places)
        assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in board["panels"])
        used = set(re.findall(r"\$\{?([a-z]\w*)", json.dumps(board["panels"])))
        assert used <= set(names)
    assert "model" in [variable["name"] for variable in told[2]["templating"]["list"]]


@pytest.mark.parametrize("panel", CASES)
def test_panels_speak_the_vocabulary(panel: Panel) -> None:
    """Every series and label of a panel is in the vocabulary, and the panel says what it means."""
    assert len(panel.description) > 20 or panel.text
    for query in panel.queries:
        told = named(filled(query.expr))
        names, labels = told.series, told.labels
        assert names
        allowed = set(TARGET_LABELS)
        for name in names:
            if name in OTHERS:
                allowed |= OTHERS[name]
                continue
            family = next(
                (
                    FAMILIES[base]
                    for base in (name, re.sub("_(bucket|sum|count)$", "", name))
                    if base in FAMILIES
                ),
                None,
            )
            assert family is not None, f"{name} is no family"
            allowed |= set(family.labels) | ({"le"} if name.endswith("_bucket") else set())
        assert labels <= allowed, f"{labels - allowed} in {query.expr}"
        shown = set(re.findall(r"\{\{(\w+)\}\}", query.legend))
        assert shown <= allowed, f"{shown - allowed} in the legend {query.legend}"
        assert told.functions <= FUNCTIONS


@pytest.mark.parametrize("panel", CASES)
def test_panels_have_data_after_the_demo(panel: Panel, prometheus: Prometheus) -> None:
    """Prometheus takes every query of the panel, and those that must have an answer after the demo have one."""
    answers = [prometheus.ask(filled(query.expr)) for query in panel.queries]
    if panel.seen_after_demo:
        # A table has columns that may be empty.
        assert (any if panel.kind == "table" else all)(answers), "no data"


def test_every_name_is_in_the_scrape(prometheus: Prometheus) -> None:
    """Each series and each label that a rule or a panel names is there now: no name is excused."""
    wanted: dict[str, set[str]] = {}
    for expr in EXPRESSIONS:
        told = named(filled(expr))
        for selector in told.selectors:
            wanted.setdefault(selector.name, set()).update(selector.labels)
        for needed in told.needed:
            for name in needed.series:
                wanted[name] |= needed.labels
    assert len(wanted) > 90
    queries = [
        Statement(f"{name} {label}", f'{name}{{{label}!=""}}' if label else name)
        for name, labels in sorted(wanted.items())
        for label in ("", *sorted(labels))
    ]
    assert [one.says for one in untrue(prometheus, queries, wait_s=20)] == []


def test_every_label_shown_is_in_the_scrape(prometheus: Prometheus) -> None:
    """Each label in the legend of a panel or in the text of an alert is on a series of its expression."""
    shown = [
        *((query.expr, query.legend) for panel in PANELS for query in panel.queries),
        *(
            (alert.expr, f"{alert.summary} {alert.description} {alert.over}")
            for group in rule_groups()
            for alert in group.alerts
        ),
    ]
    queries = [
        Statement(
            f"{label} of {expr}",
            " or ".join(f'{name}{{{label}!=""}}' for name in sorted(named(filled(expr)).series)),
        )
        for expr, text in shown
        for label in re.findall(r"\{\{\s*(?:\$labels\.)?([a-z]\w*)\s*\}\}", text)
    ]
    assert len(queries) > 100
    assert [one.says for one in untrue(prometheus, queries, wait_s=20)] == []


def test_every_variable_has_something_to_choose(prometheus: Prometheus) -> None:
    """What a variable of a board asks for has values in the scrape."""
    asked = {
        variable["definition"]
        for text in dashboards.rendered().values()
        for variable in json.loads(text)["templating"]["list"]
        if variable["type"] == "query"
    }
    lists = [re.fullmatch(r"label_values\((.+), (\w+)\)", definition) for definition in sorted(asked)]
    queries = [
        Statement(
            found.string, f"group by ({found[2]}) ({filled(found[1])}) unless group ({filled(found[1])})"
        )
        for found in lists
        if found
    ]
    assert len(queries) == len(asked) >= 6
    assert [one.says for one in untrue(prometheus, queries, wait_s=20)] == []


def test_usual_is_the_mean_of_the_days_before(prometheus: Prometheus) -> None:
    """What is usual at this hour comes from the same hours of the last days, as the rules recorded them."""
    usual = [name for expr in EXPRESSIONS for name in named(expr).series if ":usual" in name]
    assert len(set(usual)) == 6
    wrong = [
        Statement(name, f"({name} == {USUAL}) and on () (count({name}) == count({name} == {USUAL}))")
        for name in sorted(set(usual))
    ]
    assert [one.says for one in untrue(prometheus, wrong, wait_s=20)] == []


def test_most_panels_must_have_data() -> None:
    """No more panels are excused than those of families the demo does not have, and of recorded series."""
    panels = [panel for board in dashboards.boards() for panel in board.panels if panel.queries]
    assert sum(panel.seen_after_demo for panel in panels) > 0.7 * len(panels)


def test_what_is_expected_is_true(prometheus: Prometheus) -> None:
    """Every statement of expected.yaml is true after the demo."""
    assert untrue(prometheus, statements(), wait_s=20) == []


def test_a_wrong_query_is_an_error(prometheus: Prometheus) -> None:
    """A query that is no PromQL raises with Prometheus' own words, so that no broken panel passes as empty."""
    with pytest.raises(PromQLError, match="parse error"):
        prometheus.ask("sum(rate(genapp_llm_requests_total)")


def test_provisioning_names_what_is_there() -> None:
    """Grafana is told of Prometheus with exemplars that lead to Jaeger, of Jaeger, and of the folder of boards."""
    sources: Callable[[str], Any] = lambda kind: yaml.safe_load(  # noqa: E731
        next((FOLDER / "provisioning" / kind).glob("*.yaml")).read_text()
    )
    by_type = {source["type"]: source for source in sources("datasources")["datasources"]}
    [destination] = by_type["prometheus"]["jsonData"]["exemplarTraceIdDestinations"]
    assert (destination["name"], destination["datasourceUid"]) == ("trace_id", by_type["jaeger"]["uid"])
    [provider] = sources("dashboards")["providers"]
    assert provider["options"]["path"] == "/var/lib/grafana/dashboards"
