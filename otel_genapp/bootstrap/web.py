"""Telling FastAPI from Flask, and handing an app to the modules that know it."""

from __future__ import annotations

import importlib
import sys
from typing import Any

from otel_genapp.config import Settings
from otel_genapp.errors import ConfigError
from otel_genapp.serve.auth import Gate
from otel_genapp.serve.handlers import Reading

OWN_PATHS = ("/prometheus", "/events/metrics")
"""Requests to these make no spans once they are mounted."""


def framework_of(app: Any) -> str:
    """`fastapi` or `flask`.

    Raises:
        ConfigError: the app is neither.
    """
    for name, attribute in (("fastapi", "FastAPI"), ("flask", "Flask")):
        kind = getattr(sys.modules.get(name), attribute, None)
        if isinstance(kind, type) and isinstance(app, kind):
            return name
    raise ConfigError(
        f"app must be a FastAPI or Flask application, got {type(app).__module__}.{type(app).__qualname__}"
    )


def prepare(app: Any) -> None:
    """Make the app's requests spans before the first of them."""
    capture: Any = importlib.import_module(f"otel_genapp.capture.{framework_of(app)}")
    capture.prepare(app)


def mount(app: Any, reading: Reading, *, gate: Gate, settings: Settings) -> dict[str, str]:
    """Add our endpoints to the app; returns what became of each, for `status()`."""
    serve: Any = importlib.import_module(f"otel_genapp.serve.{framework_of(app)}")
    outcome: dict[str, str] = serve.mount(app, reading, gate=gate, settings=settings)
    return outcome
