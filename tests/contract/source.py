"""The source files as the contract tests read them: modules, their trees, what they import."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "otel_genapp"


@dataclass(frozen=True)
class Module:
    """One source file: `name` is dotted, `where` its path from the project's root."""

    name: str
    where: str
    line_count: int
    tree: ast.Module

    @classmethod
    def read(cls, path: Path) -> Module:
        where = path.relative_to(ROOT)
        parts = where.with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        text = path.read_text(encoding="utf-8")
        return cls(name, where.as_posix(), len(text.splitlines()), ast.parse(text))

    @property
    def part(self) -> str:
        """`otel_genapp.capture.flask` belongs to `capture`, the package itself to `""`."""
        return part_of(self.name)

    def imports(self, known: frozenset[str]) -> Iterator[tuple[int, str]]:
        """(line, module) of every import, those in functions and under TYPE_CHECKING included.

        `from package import name` names the submodule where `known` has one, else the package.
        """
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from ((node.lineno, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module is not None:
                for alias in node.names:
                    deeper = f"{node.module}.{alias.name}"
                    yield node.lineno, deeper if deeper in known else node.module


def part_of(module: str) -> str:
    """The name below the package in a dotted module name; `""` for the package itself."""
    return [*module.split("."), ""][1]


@cache
def package_modules() -> tuple[Module, ...]:
    """Every module of the package."""
    return tuple(Module.read(path) for path in sorted((ROOT / PACKAGE).rglob("*.py")))


@cache
def files_of_tests() -> tuple[Module, ...]:
    """Every module of the tests."""
    return tuple(Module.read(path) for path in sorted((ROOT / "tests").rglob("*.py")))
