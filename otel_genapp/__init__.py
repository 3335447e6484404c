"""OpenTelemetry for LLM apps in one call: traces, `genapp_` metrics, exact per-session usage.

`telemetry = init_telemetry("shop-bot", env="prod", app=app)` at start-up is all it takes.
"""

from __future__ import annotations

import typing

from otel_genapp.bootstrap import init_telemetry, shutdown
from otel_genapp.capture.actions import action_tracking, action_tracking_decorator, record_error
from otel_genapp.capture.conversation import record_feedback, record_message, record_outcome
from otel_genapp.capture.llm_call import llm_call
from otel_genapp.context import bind, current
from otel_genapp.errors import AlreadyConfiguredError, ConfigError, GenappError
from otel_genapp.pipeline.events import LLMRequestCompleted, LLMRequestFailed, LLMRequestStarted
from otel_genapp.version import __version__

if typing.TYPE_CHECKING:
    from otel_genapp.bootstrap.telemetry import Telemetry
    from otel_genapp.read.sessions import SessionSummary

__all__ = [
    "AlreadyConfiguredError",
    "ConfigError",
    "GenappError",
    "LLMRequestCompleted",
    "LLMRequestFailed",
    "LLMRequestStarted",
    "SessionSummary",
    "Telemetry",
    "__version__",
    "action_tracking",
    "action_tracking_decorator",
    "bind",
    "current",
    "init_telemetry",
    "llm_call",
    "record_error",
    "record_feedback",
    "record_message",
    "record_outcome",
    "shutdown",
]


def __getattr__(name: str) -> typing.Any:
    """The types of what `init_telemetry` gives: whoever only calls it does not pay for them at import."""
    if name == "Telemetry":
        from otel_genapp.bootstrap.telemetry import Telemetry

        return Telemetry
    if name == "SessionSummary":
        from otel_genapp.read.sessions import SessionSummary

        return SessionSummary
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
