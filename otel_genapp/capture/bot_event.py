"""What an update of a bot says, read alike from the objects of both libraries."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from otel_genapp.capture.bot_answers import reaction_quality

_WRITTEN = frozenset({"message", "business_message"})
"""Kinds of updates in which a user writes to the bot."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """What both libraries' updates say."""

    update_id: int
    kind: str
    chat_id: int | None = None
    user_id: int | None = None
    message_id: int | None = None
    sent_at_s: float | None = None
    is_text: bool = False
    data: str | None = None
    quality: float | None = None
    """What a reaction says."""


def incoming(update_id: int, kind: str, *, event: Any) -> Incoming:
    """Read an update's event (a message, a callback query, …), which both libraries name alike."""
    message = getattr(event, "message", None) if kind == "callback_query" else event
    chat = getattr(message, "chat", None) or getattr(event, "chat", None)
    user = getattr(event, "from_user", None) or getattr(event, "user", None)
    data = getattr(event, "data", None)
    quality = None
    if kind == "message_reaction":
        quality = reaction_quality(event.new_reaction, event.old_reaction)
    return Incoming(
        update_id,
        kind,
        chat_id=getattr(chat, "id", None),
        user_id=getattr(user, "id", None),
        message_id=getattr(message, "message_id", None),
        sent_at_s=_seconds(getattr(event, "edit_date", None) or getattr(event, "date", None)),
        is_text=kind in _WRITTEN and bool(getattr(event, "text", None)),
        data=data if isinstance(data, str) else None,
        quality=quality,
    )


def _seconds(moment: Any) -> float | None:
    if isinstance(moment, datetime):
        return moment.timestamp()
    return float(moment) if isinstance(moment, int) and moment > 0 else None
