"""Telling FastAPI from Flask, and handing an app to the modules that know it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from typing import Any

from otel_genapp.config import Settings
from otel_genapp.errors import ConfigError
from otel_genapp.serve.auth import Gate
from otel_genapp.serve.reading import Reading


def framework_of(app: Any) -> str:
    """`fastapi` or `flask`.

    Raises:
        ConfigError: the app is neither.
    """
    for name, attribute in (("fastapi", "FastAPI"), ("flask", "Flask")):
        kind = getattr(sys.modules.get(name), attribute, None)
        if isinstance(kind, type) and isinstance(app, kind):
            return name
    if isinstance(app, str):
        raise ConfigError(f"app must be an application, got {app!r}; the name is the first argument")
    raise ConfigError(
        f"app must be a FastAPI or Flask application, got {type(app).__module__}.{type(app).__qualname__}"
    )


def prepare(app: Any, framework: str) -> None:
    """Make the app's requests spans before the first of them."""
    capture: Any = importlib.import_module(f"otel_genapp.capture.{framework}")
    capture.prepare(app)


def mount(app: Any, reading: Reading, *, gate: Gate, settings: Settings) -> dict[str, str]:
    """Add our endpoints to the app; returns what became of each, for `status()`."""
    serve: Any = importlib.import_module(f"otel_genapp.serve.{framework_of(app)}")
    outcome: dict[str, str] = serve.mount(app, reading, gate=gate, settings=settings)
    return outcome


def own_paths(outcome: Mapping[str, str]) -> set[str]:
    """The paths of ours that were mounted, whose requests make no spans."""
    paths = {route.partition(" ")[2] for route, state in outcome.items() if state == "mounted"}
    return {path for path in paths if "{" not in path}
