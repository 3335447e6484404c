"""Conversations: messages of users, what was thought of the answers, and what became of it all.

Recorded on the host's thread as facts of the ledger; what they add up to is found where they are stored.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from typing import Any

from opentelemetry import trace
from opentelemetry.context import get_current

from otel_genapp import hub
from otel_genapp.context import bound_in, clean_id, correlation_id_in, note_message, user_id_of
from otel_genapp.quiet import quiet, say
from otel_genapp.records import ConversationRecord, Feedback, Message, Outcome
from otel_genapp.secrets import beginning_without_secrets

COMMENT_CHARS = 4000
_LOWEST_CSAT, _LOWEST_NPS = 1, 2

_guarded = quiet("capture")


def record_message(
    platform: str,
    intent: str | None = None,
    *,
    confidence: float | None = None,
    response_time_ms: float | None = None,
    session_id: object = None,
    user_id: object = None,
    correlation_id: object = None,
) -> None:
    """Record a message of a user that was handled, on a platform (`telegram`, `web`, …).

    Tokens, cost and response time are those of the LLM calls with the same correlation id, which is
    the one in force here unless given; `response_time_ms` says the time instead. `intent` is what
    was recognised, with a `confidence` from 0 to 1. Counts in `genapp_messages_total`, makes a row
    of `conversation_metrics` and, once its calls are priced, the log event `message_processed`.
    """
    with _guarded:
        running = hub.active
        if running is not None:
            said: dict[str, Any] = {
                "platform": _text(platform) or "unknown",
                "intent": _text(intent) or "unknown",
                "confidence": _number(running, confidence, name="confidence", highest=1),
                "response_time_ms": _number(running, response_time_ms, name="response_time_ms", highest=1e12),
            }
            whom = _whom(running, session_id, user_id=user_id, correlation_id=correlation_id)
            _record(running, Message(**said, **_where(), **whom))
            note_message()


def record_handled(platform: str, intent: str, *, response_time_ms: float, came_at_ns: int) -> None:
    """Record a message that nobody else has, once it was handled.

    It came at `came_at_ns` (UTC), before all that its handler has said of it.
    """
    running = hub.active
    if running is not None:
        whom = _whom(running, None, user_id=None, correlation_id=None)
        said: dict[str, Any] = {"platform": platform, "intent": intent, "response_time_ms": response_time_ms}
        _record(running, Message(**said, **_where(), **{**whom, "at_ns": came_at_ns}))
        note_message()


def record_feedback(
    csat: float | None = None,
    nps: float | None = None,
    *,
    quality: float | None = None,
    comment: str | None = None,
    platform: str | None = None,
    session_id: object = None,
    correlation_id: object = None,
) -> None:
    """Record what a user thought: `csat` 1 to 5, `nps` 0 to 10, `quality` 0 to 1, in words `comment`.

    It is about the message with that correlation id, else about the last one of the session. A review
    is critical at the lowest scores (CSAT 1, NPS 0 to 2) or with one of the critical words of the
    settings. The comment itself is not kept unless the settings say so.
    """
    with _guarded:
        running = hub.active
        if running is None:
            return
        words = critical_words(comment, running.settings.critical_words)
        scores: dict[str, Any] = {
            "csat": _number(running, csat, name="csat", lowest=1, highest=5),
            "nps": _number(running, nps, name="nps", highest=10),
            "quality": _number(running, quality, name="quality", highest=1),
        }
        if not comment and all(score is None for score in scores.values()):
            return
        lowest = (scores["csat"] or 5) <= _LOWEST_CSAT
        lowest = lowest or (scores["nps"] is not None and scores["nps"] <= _LOWEST_NPS)
        kept = comment if running.settings.keep_comments else None
        feedback = Feedback(
            platform=_text(platform),
            **scores,
            critical=lowest or bool(words),
            words=words,
            comment=beginning_without_secrets(kept, COMMENT_CHARS) if kept else None,
            **_whom(running, session_id, user_id=None, correlation_id=correlation_id),
        )
        _record(running, feedback)


def record_outcome(
    *,
    resolved: bool | None = None,
    escalated: bool | None = None,
    converted: bool | None = None,
    abandoned: bool | None = None,
    intent_correct: bool | str | None = None,
    session_id: object = None,
    **more: Any,
) -> None:
    """Record what became of the conversation of a session: the one in force here, unless given.

    A conversation ends when it is `resolved` (True or False) or `abandoned`; `escalated` (to a person)
    and `converted` (into what the business wants) may be said before. `intent_correct` says whether
    the intent of a message was right; the right intent itself, as text, when it was not.

    Further arguments are `platform` (else the one of the conversation's messages) and `correlation_id`: which
    message `intent_correct` is about, else the last one.
    """
    with _guarded:
        running = hub.active
        if running is None:
            return
        unknown = more.keys() - {"platform", "correlation_id"}
        if unknown:
            raise TypeError(f"record_outcome has no argument {min(unknown)!r}")
        said: dict[str, Any] = {
            "resolved": _flag(running, resolved, name="resolved"),
            "escalated": _flag(running, escalated, name="escalated"),
            "converted": _flag(running, converted, name="converted"),
            "abandoned": _flag(running, abandoned, name="abandoned"),
        }
        right = _text(intent_correct) if isinstance(intent_correct, str) else None
        correct = False if right else _flag(running, intent_correct, name="intent_correct")
        if correct is None and all(value is None for value in said.values()):
            return
        outcome = Outcome(
            platform=_text(more.get("platform")),
            **said,
            intent_correct=correct,
            intent=right,
            **_whom(running, session_id, user_id=None, correlation_id=more.get("correlation_id")),
        )
        _record(running, outcome)


def critical_words(comment: str | None, words: Iterable[str]) -> tuple[str, ...]:
    """The words of the list that a comment holds, in any case."""
    if not comment:
        return ()
    text = comment[:COMMENT_CHARS].casefold()
    return tuple(word for word in words if word.casefold() in text)


def _record(running: hub.Hub, record: ConversationRecord) -> None:
    running.record(record, get_current())


def _whom(running: hub.Hub, session_id: object, *, user_id: object, correlation_id: object) -> dict[str, Any]:
    bound = bound_in(None)
    return {
        "id": running.new_id(),
        "at_ns": time.time_ns(),
        "session_id": clean_id(session_id) or bound.session_id,
        "user_id": user_id_of(user_id) or bound.user_id,
        "correlation_id": clean_id(correlation_id) or correlation_id_in(None),
    }


def _where() -> dict[str, Any]:
    """The span in force here."""
    span = trace.get_current_span().get_span_context()
    return {
        "trace_id": f"{span.trace_id:032x}" if span.is_valid else "",
        "span_id": f"{span.span_id:016x}" if span.is_valid else "",
    }


def _text(value: object) -> str | None:
    return None if value is None else clean_id(value)


def _flag(running: hub.Hub, value: Any, *, name: str) -> bool | None:
    """`value` if it is True or False; what is neither is left out, said and counted."""
    if value is None or isinstance(value, bool):
        return value
    _leave_out(running, value, name=name, wanted="True or False")
    return None


def _number(running: hub.Hub, value: Any, *, name: str, lowest: float = 0, highest: float) -> float | None:
    """`value` if it is a number of that range; what is none is left out, said and counted."""
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        number = float(value)
        if math.isfinite(number) and lowest <= number <= highest:
            return number
    _leave_out(running, value, name=name, wanted=f"a number from {lowest:g} to {highest:g}")
    return None


def _leave_out(running: hub.Hub, value: Any, *, name: str, wanted: str) -> None:
    running.families.telemetry_dropped.record(1, ("measurement", "invalid_value"))
    # Text may be private: of what is no number only the type is said.
    shown = repr(value) if type(value) in {int, float, bool} else type(value).__name__
    say(f"{name} must be {wanted}, got %s: it is left out", shown)
