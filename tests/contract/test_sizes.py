"""The house rules that can be counted."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import PurePath

import pytest

from tests.contract.source import Module, files_of_tests, package_modules

Function = ast.FunctionDef | ast.AsyncFunctionDef

MODULE_LINES, FUNCTION_LINES, PARAMETERS, POSITIONAL = 400, 60, 7, 2
FORBIDDEN_NAMES = {
    "base", "common", "core", "helper", "helpers", "manager", "misc", "util", "utils",
}  # fmt: skip
STATE_OWNERS = {"bootstrap", "hub", "quiet"}
CONTAINERS = {
    "Counter", "OrderedDict", "WeakKeyDictionary", "WeakSet", "WeakValueDictionary", "bytearray",
    "defaultdict", "deque", "dict", "list", "set",
}  # fmt: skip
FOREIGN_SHAPES = {
    ("scope", "receive", "send"): "an ASGI application",
    ("wrapped", "instance", "args", "kwargs"): "a wrapt wrapper",
    ("logger", "method_name", "event_dict"): "a structlog processor",
    ("session", "method", "str_or_url"): "aiohttp's ClientSession._request",
    ("handler", "event", "data"): "an aiogram middleware",
    ("make_request", "bot", "method"): "a middleware of aiogram's requests",
    ("value", "labels", "context"): "recording a measurement: keywords would cost on every request",
}
"""Positional parameters that are somebody else's contract, or a hot path's."""


def functions(tree: ast.AST) -> Iterator[tuple[Function, ast.ClassDef | None]]:
    """(function, its class if it is a method), the nested ones too."""
    for node in ast.walk(tree):
        owner = node if isinstance(node, ast.ClassDef) else None
        for child in ast.iter_child_nodes(node):
            if isinstance(child, Function):
                yield child, owner


def body_lines(function: Function) -> int:
    """Lines of the body without its docstring."""
    first = function.body[0]
    if ast.get_docstring(function, clean=False) is not None:
        if len(function.body) == 1:
            return 0
        first = function.body[1]
    return (function.end_lineno or first.lineno) - first.lineno + 1


def parameters(function: Function, owner: ast.ClassDef | None) -> tuple[list[str], list[str]]:
    """(positional, keyword-only) names without `self`."""
    positional = [item.arg for item in (*function.args.posonlyargs, *function.args.args)]
    static = any(isinstance(item, ast.Name) and item.id == "staticmethod" for item in function.decorator_list)
    if owner is not None and not static:
        positional = positional[1:]
    return positional, [item.arg for item in function.args.kwonlyargs]


def answers_foreign_callers(function: Function, owner: ast.ClassDef | None) -> bool:
    """Whether somebody else's protocol fixes the signature: magic methods and foreign bases."""
    if function.name.startswith("__") and function.name != "__init__":
        return True
    return owner is not None and any(ast.unparse(base) not in {"object", "Protocol"} for base in owner.bases)


def broad_excepts(tree: ast.AST) -> Iterator[int]:
    """Lines of the handlers that catch everything and keep it.

    Passing it on is a bare `raise` at the end, or throwing it into the generator it is for.
    """
    for node in ast.walk(tree):
        if not isinstance(node, ast.ExceptHandler):
            continue
        caught = re.findall(r"\w+", ast.unparse(node.type)) if node.type else ["BaseException"]
        last = node.body[-1]
        raised = isinstance(last, ast.Raise) and last.exc is None
        thrown = re.search(rf"\.a?throw\({node.name}\)", ast.unparse(last)) is not None
        if {"Exception", "BaseException"} & set(caught) and not (raised or thrown):
            yield node.lineno


def environment_reads(tree: ast.AST) -> Iterator[int]:
    """Lines that touch the process environment."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node) in {"os.environ", "os.getenv", "os.putenv"}:
            yield node.lineno
        if isinstance(node, ast.ImportFrom) and node.module == "os":
            yield from (node.lineno for alias in node.names if alias.name in {"environ", "getenv", "putenv"})


def module_state(tree: ast.Module) -> Iterator[int]:
    """Lines of `global` statements and of module-level containers that are not filled constants."""
    yield from (node.lineno for node in ast.walk(tree) if isinstance(node, ast.Global))
    for node in tree.body:
        if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
            continue
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        constant = ast.unparse(target).strip("_").isupper() or ast.unparse(target) == "__all__"
        value = node.value
        if isinstance(value, ast.Call) and ast.unparse(value.func).rpartition(".")[2] in CONTAINERS:
            yield node.lineno
        if isinstance(value, ast.List | ast.Dict | ast.Set):
            filled = value.keys if isinstance(value, ast.Dict) else value.elts
            if not filled or not constant:
                yield node.lineno


def everywhere() -> tuple[Module, ...]:
    return (*package_modules(), *files_of_tests())


def test_modules_stay_short() -> None:
    """No module of the package or the tests has more than 400 lines."""
    assert [f"{m.where}: {m.line_count}" for m in everywhere() if m.line_count > MODULE_LINES] == []


def test_functions_stay_short() -> None:
    """No function's body has more than 60 lines."""
    assert [
        f"{module.where}:{function.lineno} {function.name}: {body_lines(function)}"
        for module in everywhere()
        for function, _owner in functions(module.tree)
        if body_lines(function) > FUNCTION_LINES
    ] == []


def test_parameters_stay_few() -> None:
    """At most 7 parameters, and everything after the second by keyword, where the signature is ours."""
    found = []
    for module in package_modules():
        for function, owner in functions(module.tree):
            positional, by_keyword = parameters(function, owner)
            if answers_foreign_callers(function, owner) or tuple(positional) in FOREIGN_SHAPES:
                continue
            if len(positional) > POSITIONAL or len(positional) + len(by_keyword) > PARAMETERS:
                found.append(f"{module.where}:{function.lineno} {function.name}{tuple(positional)}")
    assert found == []


def test_only_quiet_swallows() -> None:
    """Elsewhere a broad except passes on what it caught."""
    assert [
        f"{module.where}:{line}"
        for module in package_modules()
        if module.name != "otel_genapp.quiet"
        for line in broad_excepts(module.tree)
    ] == []


def test_only_config_reads_the_environment() -> None:
    """Every variable is read in config.py, so that its table is all there is."""
    assert [
        f"{module.where}:{line}"
        for module in package_modules()
        if module.name != "otel_genapp.config"
        for line in environment_reads(module.tree)
    ] == []


def test_state_has_few_owners() -> None:
    """Module-level mutable state and `global` live in hub, quiet and bootstrap only."""
    assert [
        f"{module.where}:{line}"
        for module in package_modules()
        if module.part not in STATE_OWNERS
        for line in module_state(module.tree)
    ] == []


def test_files_are_named_after_what_they_hold() -> None:
    """No file or folder is called utils, helpers, base, core, common or manager."""
    assert [
        module.where
        for module in everywhere()
        if FORBIDDEN_NAMES & set(PurePath(module.where).with_suffix("").parts)
    ] == []


def test_every_test_says_what_it_shows() -> None:
    """Each test has a docstring of one sentence."""
    found = []
    for module in files_of_tests():
        for function, _owner in functions(module.tree):
            if function.name.startswith("test_"):
                said = ast.get_docstring(function) or ""
                if not said.endswith(".") or ". " in said or "\n\n" in said:
                    found.append(f"{module.where}:{function.lineno} {function.name}")
    assert found == []


SAMPLES = (
    pytest.param("try: f()\nexcept Exception: pass", broad_excepts, [2], id="swallowed"),
    pytest.param("try: f()\nexcept (OSError, BaseException) as e: g(e)", broad_excepts, [2], id="tuple"),
    pytest.param("try: f()\nexcept: pass", broad_excepts, [2], id="bare"),
    pytest.param("try: f()\nexcept BaseException:\n  g()\n  raise", broad_excepts, [], id="passed on"),
    pytest.param("try: f()\nexcept BaseException as e: g.athrow(e)", broad_excepts, [], id="thrown"),
    pytest.param("import os\nos.environ['A']", environment_reads, [2], id="environ"),
    pytest.param("from os import path, getenv", environment_reads, [1], id="getenv"),
    pytest.param("_seen = {}", module_state, [1], id="empty dict"),
    pytest.param("SEEN: set[int] = set()", module_state, [1], id="empty set"),
    pytest.param("CACHE = weakref.WeakKeyDictionary()", module_state, [1], id="weak"),
    pytest.param("NAMES = {'a': 1}\n__all__ = ['a']\nlog = get('x')", module_state, [], id="constants"),
    pytest.param("def f():\n  global x\n  x = 1", module_state, [2], id="global"),
)


@pytest.mark.parametrize(("source", "rule", "lines"), SAMPLES)
def test_the_rules_see_what_they_forbid(source: str, rule: object, lines: list[int]) -> None:
    """Each walk finds a planted offence and lets the allowed form pass."""
    assert callable(rule)
    assert list(rule(ast.parse(source))) == lines
