"""Logs that can be found by the ids of the traces, without secrets: for structlog and `logging`.

    undo = configure_logging("shop-bot", "prod")        # everything as lines of JSON, structlog too

Or piece by piece, in a configuration of the application's own:

    structlog.configure(processors=[add_context, …, redact_secrets, JSONRenderer()])
    handler.addFilter(RedactSecrets())

Put `redact_secrets` right before the renderer, so that formatted tracebacks pass it too.
`install_logging` is called by `init_telemetry`.
"""

from __future__ import annotations

from otel_genapp.logs.configuration import configure_logging
from otel_genapp.logs.fields import FIELDS, add_context, context_fields
from otel_genapp.logs.installation import install_logging
from otel_genapp.logs.lines import JsonLines
from otel_genapp.logs.messages import log_message_processed
from otel_genapp.logs.redaction import RedactSecrets, redact_secrets

__all__ = [
    "FIELDS",
    "JsonLines",
    "RedactSecrets",
    "add_context",
    "configure_logging",
    "context_fields",
    "install_logging",
    "log_message_processed",
    "redact_secrets",
]
