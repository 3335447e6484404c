"""OpenTelemetry for LLM apps in one call: traces, `genapp_` metrics, exact per-session usage.

`telemetry = init_telemetry("shop-bot", env="prod", app=app)` at start-up is all it takes.
"""

from __future__ import annotations

from otel_genapp.bootstrap import init_telemetry, shutdown
from otel_genapp.bootstrap.telemetry import Telemetry
from otel_genapp.capture.actions import action_tracking, action_tracking_decorator, record_error
from otel_genapp.capture.llm_call import llm_call
from otel_genapp.context import bind, current
from otel_genapp.errors import AlreadyConfiguredError, ConfigError, GenappError, MissingDependencyError
from otel_genapp.pipeline.events import LLMRequestCompleted, LLMRequestFailed, LLMRequestStarted
from otel_genapp.read.sessions import SessionSummary
from otel_genapp.version import __version__

__all__ = [
    "AlreadyConfiguredError",
    "ConfigError",
    "GenappError",
    "LLMRequestCompleted",
    "LLMRequestFailed",
    "LLMRequestStarted",
    "MissingDependencyError",
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
    "shutdown",
]
