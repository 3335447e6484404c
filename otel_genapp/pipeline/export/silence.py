"""What our own threads do makes no spans and no logs of others: telemetry about telemetry never ends.

A request that is logged by urllib3, whose record a handler of the application turns into a span,
would make the next request. So instrumentations are told to look away, the libraries below us log
nothing from these threads, and spans that end on them anyway are not taken.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY as SUPPRESS
from opentelemetry.context import attach, detach, set_value

_LOGGERS = (
    "grpc._channel", "grpc._common", "grpc._plugin_wrapping", "opentelemetry.attributes",
    "opentelemetry.exporter.otlp.common.http", "opentelemetry.exporter.otlp.proto.common._internal",
    "opentelemetry.exporter.otlp.proto.grpc.exporter", "opentelemetry.exporter.otlp.proto.http._log_exporter",
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "requests", "urllib3.connection", "urllib3.connectionpool", "urllib3.poolmanager", "urllib3.util.retry",
)  # fmt: skip


class _Here(threading.local):
    """Whether this thread is one of ours."""

    own = False


class _NotFromUs(logging.Filter):
    """Lets no record of our own threads pass."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not _here.own


_here = _Here()
_NOT_FROM_US = _NotFromUs()


def in_own_thread() -> bool:
    """Whether this runs on a thread that packs or sends."""
    return _here.own


@contextmanager
def silence() -> Iterator[None]:
    """Make this thread one of ours."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_NOT_FROM_US)  # once, however often
    token = attach(set_value(SUPPRESS, True))
    _here.own = True
    try:
        yield
    finally:
        _here.own = False
        detach(token)
