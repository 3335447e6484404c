"""Sessions and totals as people and machines read them: the JSON of `/events/metrics…`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from otel_genapp.context import clean_id
from otel_genapp.ledger.rollup import Rollup, SessionRollup, quantile_ms
from otel_genapp.ledger.store import RANKINGS, CallPage, RankedPage, SessionPage, Store
from otel_genapp.records import LLMCall

DEFAULT_PAGE = 100
STEPS_LIMIT = 10_000


@dataclass(frozen=True, slots=True)
class SessionSummary:
    """One session's LLM usage. `as_dict()` is the JSON of `GET /events/metrics/session/{id}`.

    Sums of tokens and duration cover the successful calls, `failed_…` the others; averages are
    total / successful, rounded to 2 places, 0 when there are none. Durations are milliseconds,
    money US dollars, times ISO 8601 in UTC; what nobody reported is None.
    """

    rollup: SessionRollup

    @property
    def session_id(self) -> str:
        """The id the calls were bound to; `no_session` for calls without one."""
        return self.rollup.session_id

    def as_dict(self) -> dict[str, Any]:
        """The summary as JSON-ready values."""
        rollup = self.rollup
        return {
            "session_id": rollup.session_id,
            **sums_dict(rollup.sums),
            "models": sorted(rollup.models),
            "users": sorted(rollup.users),
            "requests": [request_dict(call) for call in reversed(rollup.newest)],
            "requests_truncated": rollup.sums.calls > len(rollup.newest),
        }


class Sessions:
    """Per-session LLM usage, exact at the moment of asking. Methods may be called on any thread."""

    def __init__(
        self,
        store: Store,
        catch_up: Callable[[], None],
        *,
        clear_traces: Callable[[str], int] = lambda _session_id: 0,
    ) -> None:
        self._store = store
        self._catch_up = catch_up
        self._clear_traces = clear_traces

    def get(self, session_id: object) -> SessionSummary | None:
        """One session, or None when it is unknown. The id is turned into text as `bind` does."""
        self._catch_up()
        found = self._store.session(clean_id(session_id) or "")
        return SessionSummary(found) if found is not None else None

    def list(self, limit: int = DEFAULT_PAGE, cursor: str | None = None) -> SessionPage:
        """A page of session ids, most recently active first.

        Raises:
            ValueError: `limit` is below 1, or `cursor` is not one that a page gave.
        """
        if limit < 1:
            raise ValueError(f"limit must be at least 1, got {limit}")
        self._catch_up()
        return self._store.sessions(limit=limit, cursor=cursor)

    def ranked(
        self, by: str = "recent", *, search: str = "", limit: int = DEFAULT_PAGE, cursor: str | None = None
    ) -> RankedPage:
        """A page of sessions with their sums, by `recent`, `cost`, `tokens` or `failed`, the highest first.

        Raises:
            ValueError: there is no such order, or `cursor` is not one that a page gave.
        """
        if by not in RANKINGS:
            raise ValueError(f"order must be one of {', '.join(RANKINGS)}, got {by!r}")
        self._catch_up()
        return self._store.ranked(by=by, limit=limit, cursor=cursor, search=search)

    def history(
        self, session_id: object, *, limit: int = DEFAULT_PAGE, cursor: str | None = None
    ) -> CallPage:
        """A page of a session's calls, newest first.

        Raises:
            ValueError: `cursor` is not one that a page gave.
        """
        self._catch_up()
        return self._store.history(clean_id(session_id) or "", limit=limit, cursor=cursor)

    def clear(self, session_id: object) -> bool:
        """Remove a session's detail, and the traces kept here that name it; totals and counters keep it.

        False when it is unknown.
        """
        cleaned = clean_id(session_id) or ""
        self._catch_up()
        traces = self._clear_traces(cleaned)  # first: what fails here can be asked for again
        return self._store.clear(cleaned) or traces > 0


def totals_dict(
    store: Store,
    *,
    from_s: float | None,
    to_s: float | None,
    step_s: float | None,
    in_flight: int,
) -> dict[str, Any]:
    """The JSON of `GET /events/metrics`: totals over every call, by model, and over time.

    `from_s` and `to_s` are UTC seconds since the epoch, taken to the whole minutes between them;
    with `step_s` (at least 60) a series of totals is added.

    Raises:
        ValueError: the range is empty, or has more than 10,000 steps.
    """
    from_ns = None if from_s is None else int(from_s * 1e9)
    to_ns = None if to_s is None else int(to_s * 1e9)
    if from_ns is not None and to_ns is not None and from_ns >= to_ns:
        raise ValueError("from must be before to")
    found = store.totals(from_ns=from_ns, to_ns=to_ns)
    overall = found.overall
    answer: dict[str, Any] = {
        **sums_dict(overall),
        "events": {
            "started": overall.calls + (in_flight if from_ns is None and to_ns is None else 0),
            "completed": overall.successful,
            "failed": overall.failed,
        },
        "no_session": sums_dict(found.without_session),
        "by_model": _by_model(found.by_model),
    }
    if step_s is not None:
        answer["series"] = _series(store, overall, from_ns=from_ns, to_ns=to_ns, step_s=step_s)
    return answer


def _by_model(found: Mapping[tuple[str, str], Rollup]) -> dict[str, Any]:
    """Model -> its sums over all providers, and which those are."""
    sums: dict[str, Rollup] = {}
    providers: dict[str, list[str]] = {}
    for (provider, model), rollup in sorted(found.items()):
        sums.setdefault(model, Rollup()).merge(rollup)
        providers.setdefault(model, []).append(provider)
    return {model: {"providers": providers[model], **sums_dict(sums[model])} for model in sorted(sums)}


def _series(
    store: Store, overall: Rollup, *, from_ns: int | None, to_ns: int | None, step_s: float
) -> list[dict[str, Any]]:
    if step_s < 60:
        raise ValueError(f"step must be at least 60 seconds, got {step_s:g}")
    step_ns = int(step_s * 1e9)
    start = from_ns if from_ns is not None else overall.first_at_ns
    end = to_ns if to_ns is not None else (overall.last_at_ns or 0) + 1
    if start is None:
        return []
    if from_ns is None:  # one call with a wrong clock must not hide the rest
        start = max(start, end - (STEPS_LIMIT - 1) * step_ns)
    aligned = start - start % step_ns
    if (end - aligned) / step_ns > STEPS_LIMIT:
        raise ValueError(f"the range has more than {STEPS_LIMIT} steps; ask for a longer step")
    answer = []
    for moment in range(aligned, end, step_ns):
        # The first and the last step end where the range does, so that the steps add up to the totals.
        first = moment if from_ns is None else max(moment, from_ns)
        last = moment + step_ns if to_ns is None else min(moment + step_ns, to_ns)
        answer.append(
            {"time": time_text(moment), **sums_dict(store.totals(from_ns=first, to_ns=last).overall)}
        )
    return answer


def sums_dict(sums: Rollup) -> dict[str, Any]:
    """Sums as JSON-ready values."""
    successful = sums.successful
    total_tokens = sums.tokens.input + sums.tokens.output
    all_input = sums.tokens.input + sums.failed_tokens.input
    cached = sums.tokens.cache_read + sums.failed_tokens.cache_read
    priced = sums.cost_nano_usd / 1e9
    duration_ms = round(sums.duration_ms, 3)
    return {
        "total_requests": sums.calls,
        "successful_requests": successful,
        "failed_requests": sums.failed,
        "cancelled_requests": sums.cancelled,
        "total_duration_ms": duration_ms,
        "average_duration_ms": round(duration_ms / successful, 2) if successful else 0,
        "failed_duration_ms": _round(sums.failed_duration_ms),
        "total_prompt_tokens": sums.tokens.input,
        "total_completion_tokens": sums.tokens.output,
        "total_tokens": total_tokens,
        "average_tokens_per_request": round(total_tokens / successful, 2) if successful else 0,
        "failed_prompt_tokens": sums.failed_tokens.input,
        "failed_completion_tokens": sums.failed_tokens.output,
        "cached_tokens": cached,
        "cache_hit_rate": round(cached / all_input, 4) if all_input else None,
        "reasoning_tokens": sums.tokens.reasoning + sums.failed_tokens.reasoning,
        "requests_with_tools": sums.with_tools,
        "tool_calls": sums.tool_calls,
        "cost_usd": priced if not sums.unpriced and not sums.unpriced_amendments else None,
        "priced_cost_usd": priced,
        "unpriced_requests": sums.unpriced,
        "unpriced_amendments": sums.unpriced_amendments,
        "unknown_usage_requests": sums.unknown_usage,
        "first_request_at": time_text(sums.first_at_ns),
        "last_request_at": time_text(sums.last_at_ns),
        "p50_duration_ms": _round(quantile_ms(sums.buckets, 0.5)),
        "p95_duration_ms": _round(quantile_ms(sums.buckets, 0.95)),
    }


def request_dict(call: LLMCall) -> dict[str, Any]:
    """One LLM call as JSON-ready values."""
    return {
        "call_id": call.call_id,
        "at": time_text(call.started_at_ns),
        "status": call.status,
        "error_type": call.error_type,
        "provider": call.provider,
        "model": call.model,
        "response_model": call.response_model,
        "operation": call.operation,
        "duration_ms": _round(call.duration_ms),
        "first_token_ms": _round(call.first_token_ms),
        "prompt_tokens": call.usage.input,
        "completion_tokens": call.usage.output,
        "cached_tokens": call.usage.cache_read,
        "reasoning_tokens": call.usage.reasoning,
        "tools": list(call.tool_names),
        "tool_calls": call.tool_calls,
        "finish_reasons": list(call.finish_reasons),
        "cost_usd": None if call.cost_nano_usd is None else call.cost_nano_usd / 1e9,
        "price_version": call.price_version,
        "service_tier": call.service_tier,
        "user_id": call.user_id,
        "correlation_id": call.correlation_id,
        "trace_id": call.trace_id,
    }


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def time_text(moment_ns: int | None) -> str | None:
    """A time in nanoseconds as ISO 8601 in UTC."""
    if moment_ns is None:
        return None
    moment = datetime.fromtimestamp(moment_ns / 1e9, tz=UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
