"""Imports point down: producers never see the ledger, readers never see a span."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter

from tests.contract.source import PACKAGE, Module, package_modules, part_of

GROUND = (
    "config", "context", "errors", "foreign_json", "frames", "hub", "network", "place", "quiet", "records", "sdk_attributes", "secrets",
    "semconv", "state_directory", "version",
)  # fmt: skip
LAYERS = (
    GROUND,
    ("capture", "logs", "metrics", "pipeline", "profiling"),
    ("clients", "health"),
    ("checks", "ledger"),
    ("read",),
    ("serve",),
    ("bootstrap",),
    ("",),
    ("fake_llm", "fake_telegram", "llm_common"),
    ("testing",),
    ("alerting", "dashboards"),
    ("cli",),
    ("__main__",),
)
"""From the ground up; `""` is the package itself, the shop window."""
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}


def own_imports(modules: Iterable[Module]) -> Iterator[tuple[Module, int, str]]:
    """(module, line, imported) for the imports of our own modules."""
    known = frozenset(module.name for module in package_modules())
    for module in modules:
        for line, imported in module.imports(known):
            if imported == PACKAGE or imported.startswith(f"{PACKAGE}."):
                yield module, line, imported


def wrong_arrows(modules: Iterable[Module]) -> list[str]:
    """The imports that point up or sideways; within the ground floor sideways is allowed."""
    return [
        f"{module.where}:{line} {module.part} -> {part_of(imported)}"
        for module, line, imported in own_imports(modules)
        if module.part != part_of(imported)
        and RANK.get(part_of(imported), len(LAYERS)) >= RANK.get(module.part, -1)
        and not (part_of(imported) in GROUND and module.part in GROUND)
    ]


def module_of(source: str, name: str) -> Module:
    return Module(name, f"{name}.py", 1, ast.parse(source))


def test_every_module_has_a_layer() -> None:
    """A new top-level module must be placed in LAYERS."""
    assert {module.part for module in package_modules()} <= set(RANK)


def test_no_import_points_up() -> None:
    """No module imports one of its own height or above, in functions and type checks neither."""
    assert wrong_arrows(package_modules()) == []


def test_no_import_cycle() -> None:
    """The modules can be put in an order in which each imports only earlier ones."""
    graph: dict[str, set[str]] = {module.name: set() for module in package_modules()}
    for module, _line, imported in own_imports(package_modules()):
        if imported != module.name:
            graph[module.name].add(imported)
    try:
        TopologicalSorter(graph).prepare()
        cycle = []
    except CycleError as error:
        cycle = error.args[1]
    assert cycle == []


def test_capture_knows_the_api_only() -> None:
    """What happens in the app becomes spans and measurements without the SDK."""
    found = [
        f"{module.where}:{line} {imported}"
        for module in package_modules()
        if module.part == "capture"
        for line, imported in module.imports(frozenset())
        if imported.startswith(("opentelemetry.sdk", "opentelemetry.exporter"))
    ]
    assert found == []


def test_an_upward_import_is_seen() -> None:
    """The walk finds arrows in functions, in type checks and through the package itself."""
    source = """
from otel_genapp import semconv
if TYPE_CHECKING:
    import otel_genapp.bootstrap
def start():
    from otel_genapp.ledger import journal
    from otel_genapp import init_telemetry
"""
    assert wrong_arrows([module_of(source, "otel_genapp.capture.flask")]) == [
        "otel_genapp.capture.flask.py:4 capture -> bootstrap",
        "otel_genapp.capture.flask.py:6 capture -> ledger",
        "otel_genapp.capture.flask.py:7 capture -> ",
    ]
