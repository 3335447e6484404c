"""Who else exports log records: an event must arrive once, so we step back."""

from __future__ import annotations

import logging
import sys
from typing import Any

from opentelemetry._logs import NoOpLoggerProvider, get_logger_provider
from opentelemetry._logs._internal import ProxyLoggerProvider

_FRAMES = 24
"""How far up from a handler the call of structlog that made a record may be."""


class Rivals:
    """Those of OpenTelemetry's own instrumentations that export what we would; `note` says who did last."""

    def __init__(self) -> None:
        self.note = ""

    def export(self, record: logging.LogRecord) -> bool:
        """Whether somebody else exports this record. Looked at for each: they may come and go."""
        del record
        if any(_is_rival(handler) for handler in logging.getLogger().handlers):
            self.note = "log records are exported by OpenTelemetry's logging instrumentation; we step back"
        elif self._has_structlog():
            if not _is_from_structlog():
                return False
            self.note = "structlog's events are exported by its own instrumentation; we step back there"
        else:
            self.note = ""
            return False
        return True

    def _has_structlog(self) -> bool:
        if "opentelemetry.instrumentation.structlog" not in sys.modules:
            return False
        structlog: Any = sys.modules.get("structlog")
        return structlog is not None and any(
            type(one).__module__.startswith("opentelemetry.") and _reaches_somebody(one)
            for one in structlog.get_config()["processors"]
        )


def _is_rival(handler: logging.Handler) -> bool:
    return type(handler).__module__.startswith("opentelemetry.") and _reaches_somebody(handler)


def _reaches_somebody(exporter: Any) -> bool:
    """Whether what it hands on gets anywhere: a provider that nobody has set is a placeholder."""
    provider = getattr(exporter, "_logger_provider", None) or get_logger_provider()
    if isinstance(provider, ProxyLoggerProvider):
        provider = get_logger_provider()
    return not isinstance(provider, NoOpLoggerProvider | ProxyLoggerProvider)


def _is_from_structlog() -> bool:
    frame = sys._getframe(2)  # noqa: SLF001 - of the loggers of structlog nothing else tells on every way
    for _ in range(_FRAMES):
        if str(frame.f_globals.get("__name__", "")).startswith("structlog."):
            return True
        if frame.f_back is None:
            return False
        frame = frame.f_back
    return False
