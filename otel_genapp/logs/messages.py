"""The event `message_processed`: what a message of a user took, once its calls are priced."""

from __future__ import annotations

import logging

from otel_genapp.records import Message

_messages = logging.getLogger("otel_genapp.messages")


def log_message_processed(
    message: Message, *, response_time_ms: float | None, tokens: int | None, cost_usd: float | None
) -> None:
    """Write the event `message_processed` for a message of a user.

    The ids are the message's own, whatever is in force on this thread. What is unknown is None.
    """
    _messages.info(
        "message_processed",
        extra={
            "platform": message.platform,
            "intent": message.intent,
            "confidence": message.confidence,
            "response_time_ms": response_time_ms,
            "ai_tokens_used": tokens,
            "cost_usd": cost_usd,
            "user_id": message.user_id or "",
            "session_id": message.session_id or "",
            "correlation_id": message.correlation_id or "",
            "trace_id": message.trace_id,
            "span_id": message.span_id,
        },
    )
