"""One vocabulary: README's tables and the public names are what the code says."""

from __future__ import annotations

import re
from types import ModuleType

import pytest

import otel_genapp
from otel_genapp import config, semconv
from otel_genapp.cli import main
from otel_genapp.serve.routes import ROUTES
from tests.contract.source import ROOT

PUBLIC_NAMES_MAX = 20


def table(name: str) -> list[tuple[str, ...]]:
    """The rows of README's table between `<!-- name:begin -->` and `<!-- name:end -->`, as plain text."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(rf"<!-- {name}:begin -->\n(.*?)<!-- {name}:end -->", readme, re.DOTALL)
    assert found is not None, f"README.md has no table marked {name}"
    lines = [line.strip() for line in found[1].splitlines() if line.strip().startswith("|")]
    return [tuple(cell.strip().replace("`", "") for cell in line.strip("|").split("|")) for line in lines[2:]]


def test_readme_lists_the_metrics() -> None:
    """README's metric table names every family, its type and its labels, in the order of semconv."""
    assert table("metrics") == [
        (metric.name, metric.kind, ", ".join(metric.labels) or "none") for metric in semconv.METRICS
    ]


def test_readme_lists_the_settings() -> None:
    """README's settings table names every setting and its variable."""
    assert [row[:2] for row in table("settings")] == list(config.ENVIRONMENT.items())


WISHES = (
    "AI performance", "business", "technical", "logging", "health", "alerts", "dashboards", "reports", "export",
    "integrations", "SLA", "profiling", "caching and scaling",
)  # fmt: skip


def test_every_wish_has_its_row() -> None:
    """README says for each wish what shows it, and the endpoints, boards and commands it names are there."""
    rows = table("wishes")
    assert [wish for wish, _ in rows] == list(WISHES)
    text = " ".join(shown for _, shown in rows)
    mounted = {route.path for route in ROUTES}
    named = {path.partition("?")[0] for path in re.findall(r"GET (/[^\s;,]+)", text)}
    assert named <= mounted
    boards = {path.name for path in (ROOT / "collector" / "grafana" / "dashboards").iterdir()}
    assert set(re.findall(r"\b\w+\.json\b", text)) <= boards
    for command in set(re.findall(r"otel-genapp (\w+)", text)):
        with pytest.raises(SystemExit) as ended:
            main([command, "--help"])
        assert ended.value.code == 0


def test_families_have_one_name_each() -> None:
    """No family is listed twice, and each label has a budget."""
    names = [metric.name for metric in semconv.METRICS]
    assert len(names) == len(set(names))
    assert {label for metric in semconv.METRICS for label in metric.labels} <= set(semconv.LABEL_BUDGETS)


def test_public_names_are_counted_and_proven() -> None:
    """`__all__` is sorted, has at most 20 names and lists exactly what the package exports."""
    exported = sorted(
        name
        for name, value in vars(otel_genapp).items()
        if not name.startswith("_") and name != "annotations" and not isinstance(value, ModuleType)
    )
    loaded_later = ["SessionSummary", "Telemetry"]
    assert sorted({*otel_genapp.__all__, *loaded_later} - {"__version__"}) == sorted(exported + loaded_later)
    assert list(otel_genapp.__all__) == sorted(otel_genapp.__all__)
    assert len(otel_genapp.__all__) <= PUBLIC_NAMES_MAX
