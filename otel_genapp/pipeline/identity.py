"""The ids every span carries: correlation, and where bound session and user."""

from __future__ import annotations

from typing import Any

from opentelemetry.context import Context

from otel_genapp import semconv
from otel_genapp.context import bound_in


def add_ids(attributes: dict[str, Any], context: Context | None, *, trace_id: int) -> None:
    """Add the ids in force in `context` to the attributes of a span about to start there."""
    bound = bound_in(context)
    attributes[semconv.CORRELATION_ID] = bound.correlation_id or f"{trace_id:032x}"
    if bound.session_id is not None:
        attributes[semconv.SESSION_ID] = bound.session_id
        if semconv.OPERATION in attributes:
            attributes[semconv.CONVERSATION_ID] = bound.session_id
    if bound.user_id is not None:
        attributes[semconv.USER_ID] = bound.user_id
