"""Which libraries are watched, since when, and why not the others.

A library is prepared when it is imported, before or after `init_telemetry`: nothing is imported
that the application does not use. Instrumentation stays in place after `shutdown`, passing
through, and serves the next telemetry.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import wrapt

from otel_genapp.capture import llm_call
from otel_genapp.errors import GenappError
from otel_genapp.quiet import quiet

ON, WAITING, OFF = "on", "waiting for its import", "off"


@dataclass(frozen=True, slots=True)
class Library:
    """A library to watch: its module, our module that does it, and the extra that installs it all."""

    module: str
    capture: str
    extra: str = ""


LIBRARIES = (
    Library("fastapi", "otel_genapp.capture.fastapi", "fastapi"),
    Library("flask", "otel_genapp.capture.flask", "flask"),
    Library("httpx", "otel_genapp.capture.http_client"),
    Library("httpx2", "otel_genapp.capture.http_client"),
    Library("aiohttp", "otel_genapp.capture.aiohttp_client", "aiohttp"),
)

_states: dict[str, str] = {}


def watch_libraries() -> None:
    """Instrument what is imported, and the rest when it is. Done once a process."""
    for library in LIBRARIES:
        if library.module in _states:
            continue
        if library.module not in sys.modules and importlib.util.find_spec(library.module) is None:
            _states[library.module] = f"{OFF}: {library.module} is not installed"
            continue
        _states[library.module] = WAITING
        wrapt.register_post_import_hook(_hook(library), library.module)
    _carry_context_into_threads()
    with quiet("capture"):
        llm_call.load()


def instrumented() -> dict[str, str]:
    """Library -> `on`, `waiting for its import` or `off: why`."""
    return dict(_states)


def span_problems(fastapi_spans: str) -> list[str]:
    """Why requests of a framework that is on make no spans, or not those that were asked for."""
    found = []
    for name, arguments in (("fastapi", (fastapi_spans,)), ("flask", ())):
        if _states.get(name) == ON:
            with quiet("capture"):
                capture: Any = importlib.import_module(f"otel_genapp.capture.{name}")
                _, why = capture.span_source(*arguments)
                found += [f"{name} spans: {why}"] if why else []
    return found


def _hook(library: Library) -> Callable[[ModuleType], None]:
    def imported(module: ModuleType) -> None:
        _states[library.module] = f"{OFF}: failed, see the log"
        with quiet("capture"):
            try:
                capture: Any = importlib.import_module(library.capture)
                capture.instrument(module)
            except GenappError as why:  # not installed, or not a version that fits
                _states[library.module] = f"{OFF}: {why}"
            else:
                _states[library.module] = ON

    return imported


def _carry_context_into_threads() -> None:
    """Threads and executors see the context they were started in."""
    if "threading" in _states:
        return
    _states["threading"] = f"{OFF}: failed, see the log"
    with quiet("capture"):
        from opentelemetry.instrumentation.threading import ThreadingInstrumentor

        instrumentor = ThreadingInstrumentor()
        if not instrumentor.is_instrumented_by_opentelemetry:
            instrumentor.instrument()
        _states["threading"] = ON
