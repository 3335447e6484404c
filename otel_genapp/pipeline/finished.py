"""A finished span as the record it makes: normalised, cleaned, timed."""

from __future__ import annotations

import re
import time
from functools import lru_cache

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode

from otel_genapp import semconv
from otel_genapp.pipeline import dialects
from otel_genapp.pipeline.dialects import Facts
from otel_genapp.pipeline.nodes import Call, Contribution, Node, ancestors
from otel_genapp.records import LLMAmendment, LLMCall
from otel_genapp.secrets import beginning_without_secrets, looks_secret

_EXPLICIT_TIME_NS = 50_000_000
"""A span that started or ended this far from when we saw it do so was given its times by its maker."""
_LAST_NS = 1 << 63
_CANCELLATIONS = ("CancelledError", "GeneratorExit", "KeyboardInterrupt")
_TEXTS_KEPT = 32
_TEXT_CHARS = 256
_REMEMBERED_CHARS = 2048
"""Longer texts are cut before they are looked at, far behind what is kept of them."""
_PROVIDERS_ID = re.compile("(?:chatcmpl-|cmpl-|resp_|msg_|gen-)[A-Za-z0-9_-]{1,128}")
"""Ids of answers whose form no secret has."""

_NOTHING = dialects.read({})


def call_record(
    span: ReadableSpan, *, node: Node, facts: Facts, found: Contribution, logical: Call
) -> LLMCall:
    """The call whose outermost span has ended; what that does not say, nested spans do."""
    inner = logical.inner or _NOTHING
    span_context = span.get_span_context()
    status, error_type = _status(span, facts)
    started_at_ns, duration_ms = _times(span, node)
    provider, model, response_model, operation, service_tier = _clean_names(
        facts.provider or inner.provider,
        facts.model or inner.model,
        facts.response_model or inner.response_model,
        facts.operation or inner.operation,
        facts.service_tier or inner.service_tier,
    )
    return LLMCall(
        call_id=logical.call_id,
        started_at_ns=started_at_ns,
        duration_ms=duration_ms,
        status=status,
        error_type=clean(error_type),
        provider=provider or "unknown",
        model=model or "unknown",
        response_model=response_model,
        operation=operation or "chat",
        usage=found.usage,
        first_token_ms=_no_later(
            facts.first_token_ms if facts.first_token_ms is not None else inner.first_token_ms,
            duration_ms,
        ),
        tool_calls=facts.tool_calls or inner.tool_calls,
        tool_names=_clean_all(facts.tool_names or inner.tool_names),
        finish_reasons=_clean_all(facts.finish_reasons or inner.finish_reasons),
        response_id=_plain_id(facts.response_id or inner.response_id),
        cost_nano_usd=facts.cost_nano_usd if facts.cost_nano_usd is not None else inner.cost_nano_usd,
        service_tier=service_tier,
        priced_parts=facts.priced_parts or inner.priced_parts,
        # Those of calls without a span were put on this one where the SDK lets us.
        attempts=_clean_all(facts.attempts if len(facts.attempts) >= len(inner.attempts) else inner.attempts),
        session_id=facts.session_id or inner.session_id or _session_above(node),
        user_id=facts.user_id or inner.user_id,
        correlation_id=facts.correlation_id,
        trace_id=f"{span_context.trace_id:032x}" if span_context else "",
        span_id=f"{span_context.span_id:016x}" if span_context else "",
    )


def amendment(span: ReadableSpan, *, facts: Facts, found: Contribution, call_id: str) -> LLMAmendment:
    """What a span adds to a call that is counted already, or an agent's span by itself."""
    status, _ = _status(span, facts)
    return LLMAmendment(
        call_id=call_id,
        seq=found.seq,
        at_ns=given_ns(span.end_time) or time.time_ns(),
        status=status,
        provider=clean(facts.provider) or "unknown",
        model=clean(facts.model) or "unknown",
        usage=found.usage,
        session_id=facts.session_id,
        user_id=facts.user_id,
        correlation_id=facts.correlation_id,
    )


def _session_above(node: Node) -> str | None:
    """The session of the nearest span above that names one: an agent's, say, whose calls do not repeat it."""
    for above in ancestors(node):
        session_id = above.ids[0] or dialects.read(above.start_attributes).session_id
        if session_id is not None:
            return session_id
    return None


def _status(span: ReadableSpan, facts: Facts) -> tuple[str, str | None]:
    if facts.status in {semconv.SUCCESS, semconv.FAIL, semconv.CANCELLED}:
        return facts.status, facts.error_type
    # `error` among the finish reasons alone is none: some write it for a reason they do not know.
    failed = facts.error_type is not None or span.status.status_code is StatusCode.ERROR
    if not failed:
        return semconv.SUCCESS, None
    error_type = facts.error_type or _raised(span) or "unknown"
    if error_type.rpartition(".")[2] in _CANCELLATIONS:
        return semconv.CANCELLED, error_type
    return semconv.FAIL, error_type


def _raised(span: ReadableSpan) -> str | None:
    """The type of the last exception the span recorded."""
    for event in reversed(span.events):
        found = (event.attributes or {}).get("exception.type")
        if isinstance(found, str):
            return found
    return None


def _times(span: ReadableSpan, node: Node) -> tuple[int, float]:
    """Start in UTC nanoseconds, and milliseconds by the monotonic clock unless times were given."""
    started = given_ns(span.start_time) or node.started_wall_ns
    ended = given_ns(span.end_time) or started
    if node.scope == semconv.SCOPE:  # its maker has measured by the monotonic clock, see `capture.llm_span`
        return started, max(ended - started, 0) / 1e6
    measured_ms = ((node.ended_s or time.perf_counter()) - node.started_s) * 1e3
    if (
        abs(started - node.started_wall_ns) > _EXPLICIT_TIME_NS
        or abs(ended - time.time_ns()) > _EXPLICIT_TIME_NS
    ):
        return started, max(ended - started, 0) / 1e6
    return started, max(measured_ms, 0.0)


def given_ns(moment_ns: object) -> int | None:
    """A span's time, or None for one no calendar knows: makers of spans hand in what they like."""
    if isinstance(moment_ns, int | float) and 0 < moment_ns < _LAST_NS:
        return int(moment_ns)
    return None


@lru_cache(maxsize=4096)
def _without_secrets(text: str) -> str:
    """Models, providers and reasons come again and again."""
    return beginning_without_secrets(text, _TEXT_CHARS)


@lru_cache(maxsize=1024)
def _clean_names(*names: str | None) -> tuple[str | None, ...]:
    """They come together again and again, too."""
    return tuple(clean(name) for name in names)


def clean(text: str | None) -> str | None:
    """A text of a span as it may be kept: bounded, without secrets."""
    return _without_secrets(text[:_REMEMBERED_CHARS]) if text else None


@lru_cache(maxsize=1024)
def _clean_all(texts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(_without_secrets(text[:_REMEMBERED_CHARS]) for text in texts[:_TEXTS_KEPT])


def _plain_id(text: str | None) -> str | None:
    if text is None or _PROVIDERS_ID.fullmatch(text) is not None:
        return text
    return None if looks_secret(text) else text[:256]


def _no_later(moment_ms: float | None, end_ms: float) -> float | None:
    """Two clocks read one after the other: the first token cannot come after the end."""
    return None if moment_ms is None else min(moment_ms, end_ms)
