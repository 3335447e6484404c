from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

from otel_genapp.capture.client_patches import Installation, MethodPatch, Spans, installed
from otel_genapp.errors import GenappError, MissingDependencyError

PACKAGE = "tests_stand_in_instrumentation"


class Library:
    """What is instrumented."""

    def send(self) -> str:
        return "send"


def put_on(send: Any) -> None:
    Library.send = send  # type: ignore[method-assign]


class Instrumentor:
    """One of OpenTelemetry's, as far as we use it: wraps `Library.send` for all instances."""

    running = False
    conflict: str | None = None
    original: Any = None
    options: dict[str, Any]

    @property
    def is_instrumented_by_opentelemetry(self) -> bool:
        return Instrumentor.running

    def _check_dependency_conflicts(self) -> str | None:
        return Instrumentor.conflict

    def instrument(self, **options: Any) -> None:
        Instrumentor.running, Instrumentor.options = True, options
        Instrumentor.original = original = Library.send
        put_on(lambda library: f"span({original(library)})")

    def uninstrument(self) -> None:
        Instrumentor.running = False
        put_on(Instrumentor.original)


@pytest.fixture(autouse=True)
def package() -> Iterator[ModuleType]:
    original = Library.send
    module = ModuleType(PACKAGE)
    module.__spec__ = type("Spec", (), {"_initializing": False})()
    vars(module)["Instrumentor"] = Instrumentor
    sys.modules[PACKAGE] = module
    yield module
    del sys.modules[PACKAGE]
    put_on(original)
    Instrumentor.running, Instrumentor.conflict = False, None


def spans(package: str = PACKAGE) -> Spans:
    return Spans(package, "Instrumentor", library="stand-in", extra="all", providers={"a": 1, "b": None})


def ours(patch: MethodPatch) -> Callable[..., Any]:
    def send(library: Library) -> str:
        return f"ours({patch.bound(library)()})"

    return send


def installation_in_library() -> Installation:
    installation = Installation(spans())
    installation.patch(Library, "send", wrap=ours)
    installation.start_spans()
    return installation


def test_spans_are_made_under_our_wrapper() -> None:
    """Ours is outermost, so that it can decide on headers before they are injected."""
    library = Library()
    installation = installation_in_library()
    inside = library.send()
    undo = installed(Library, "send")
    installation.undo()
    installation.undo()
    assert (
        inside,
        undo,
        library.send(),
        Instrumentor.running,
        Instrumentor.options,
        installed(Library, "send"),
    ) == (
        "ours(span(send))",
        installation.undo,
        "send",
        False,
        {"a": 1, "skip_dep_check": True},
        None,
    )


def test_an_instrumentor_that_runs_already_is_left_running() -> None:
    """What somebody else started is neither started twice nor stopped."""
    Instrumentor().instrument()
    installation = installation_in_library()
    inside = Library().send()
    installation.undo()
    assert (inside, Library().send(), Instrumentor.running) == ("ours(span(send))", "span(send)", True)


def test_an_instrumentation_that_is_being_imported_is_started_later(package: ModuleType) -> None:
    """Importing the instrumentation imports the library, whose import brings us here too early."""
    vars(package).pop("Instrumentor")
    package.__spec__ = type("Spec", (), {"_initializing": True})()
    installation = installation_in_library()
    early = (installation.spans_pending, Library().send())
    vars(package)["Instrumentor"] = Instrumentor
    installation.settle_spans()
    late = (installation.spans_pending, Library().send())
    installation.undo()
    assert (early, late, Library().send()) == ((True, "ours(send)"), (False, "ours(span(send))"), "send")


def test_a_missing_instrumentation_names_the_command() -> None:
    """The error says what to install."""
    with pytest.raises(MissingDependencyError, match=r"pip install 'otel-genapp\[all\]'"):
        spans("tests_no_such_package").start()


def test_an_instrumentation_too_old_to_know_the_library_counts_as_missing(package: ModuleType) -> None:
    """Without the instrumentor there is nothing to start."""
    vars(package).pop("Instrumentor")
    with pytest.raises(MissingDependencyError):
        spans().start()


def test_a_refusal_says_why() -> None:
    """A version conflict is told, not logged and forgotten."""
    Instrumentor.conflict = "wants library >= 9"
    with pytest.raises(GenappError, match="Instrumentor refuses to start: wants library >= 9"):
        spans().start()


def test_a_wrapper_under_somebody_elses_stays_and_does_nothing() -> None:
    """The undo cannot take out what is covered, and does not break what covers it."""
    Instrumentor().instrument()
    installation = installation_in_library()
    covered = Library.send
    put_on(lambda library: f"theirs({covered(library)})")
    installation.undo()
    assert (installation.live, installed(Library, "send"), Library().send()) == (
        False,
        None,
        "theirs(ours(span(send)))",
    )
