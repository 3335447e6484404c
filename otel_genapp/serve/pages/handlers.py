"""What each page shows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from otel_genapp.context import clean_id
from otel_genapp.ledger.store import RANKINGS
from otel_genapp.read.sessions import request_dict, sums_dict
from otel_genapp.read.traces import Trace, is_id, summary_dict
from otel_genapp.records import LLMCall
from otel_genapp.serve.exchange import BadRequestError, Reply, Request
from otel_genapp.serve.pages.rendering import ROOT, Links, page, redirect
from otel_genapp.serve.pages.timeline import timeline_of
from otel_genapp.serve.pages.waterfall import waterfall_of
from otel_genapp.serve.reading import Reading

RANGES: Mapping[str, tuple[int, int]] = {
    "1h": (3600, 60),
    "24h": (86_400, 1800),
    "7d": (7 * 86_400, 3 * 3600),
    "30d": (30 * 86_400, 12 * 3600),
}
"""Name -> seconds, and seconds of a step."""
ORDERS = {"recent": "last activity", "cost": "cost", "tokens": "tokens", "failed": "failed calls"}
PAGE = 50


def home(request: Request, _reading: Reading) -> Reply:
    """For whoever leaves the last slash out."""
    return redirect(request, "")


def overview(request: Request, reading: Reading) -> Reply:
    """Requests, errors, latency, tokens, cost, sessions, and the health of telemetry itself."""
    chosen = request.query.get("range", "1h")
    if chosen not in RANGES:
        raise BadRequestError(f"range must be one of {', '.join(RANGES)}, got {chosen[:40]!r}")
    seconds, step_s = RANGES[chosen]
    found = reading.overview(seconds=seconds, step_s=step_s)
    return page(
        "overview.html", request, found=found, llm=found["llm"], http=found["http"],
        charts=_charts(found["llm"]["series"]), chosen=chosen, ranges=tuple(RANGES), live=chosen == "1h",
    )  # fmt: skip


def sessions(request: Request, reading: Reading) -> Reply:
    """The list, by recency, cost, tokens or failures, and searched."""
    by, search = request.query.get("by", "recent"), request.query.get("search", "").strip()[:256]
    if by not in RANKINGS:
        raise BadRequestError(f"by must be one of {', '.join(RANKINGS)}, got {by[:40]!r}")
    cursor = request.query.get("cursor") or None
    try:
        found = reading.sessions.ranked(by, search=search, limit=PAGE, cursor=cursor)
    except ValueError:
        if cursor is None:
            raise
        raise BadRequestError(f"cursor must be the next of an earlier page, got {cursor[:40]!r}") from None
    rows = [
        {
            "session_id": one.session_id,
            "models": sorted(one.models),
            "users": sorted(one.users),
            **sums_dict(one.sums),
        }
        for one in found.sessions
    ]
    return page(
        "sessions.html", request, rows=rows, by=by, orders=ORDERS, search=search,
        is_first=cursor is None, next=found.next, live=cursor is None,
    )  # fmt: skip


def session(request: Request, reading: Reading) -> Reply:
    """One session: its sums, its calls on a line of time, by model, and its history."""
    session_id = clean_id(request.path["id"]) or ""
    found = reading.sessions.get(session_id)
    if found is None:
        return _nothing(request, request.path["id"])
    cursor = request.query.get("cursor") or None
    try:
        history = reading.sessions.history(session_id, limit=PAGE, cursor=cursor)
    except ValueError:
        raise BadRequestError(
            f"cursor must be the next of an earlier page, got {(cursor or '')[:40]!r}"
        ) from None
    return page(
        "session.html", request, found=found.as_dict(), calls=[request_dict(one) for one in history.calls],
        timeline=timeline_of(history.calls), models=_by_model(history.calls), is_first=cursor is None,
        next=history.next, live=cursor is None,
    )  # fmt: skip


def traces(request: Request, reading: Reading) -> Reply:
    """The kept traces, newest first, or those with errors only."""
    only_errors = request.query.get("errors") == "1"
    cursor = request.query.get("cursor") or None
    try:
        found = reading.traces.recent(PAGE, cursor, only_errors=only_errors)
    except ValueError:
        raise BadRequestError(
            f"cursor must be the next of an earlier page, got {(cursor or '')[:40]!r}"
        ) from None
    return page(
        "traces.html", request, traces=[summary_dict(one) for one in found.traces], next=found.next,
        only_errors=only_errors, is_first=cursor is None, notes=reading.traces.notes, live=cursor is None,
    )  # fmt: skip


def trace(request: Request, reading: Reading) -> Reply:
    """What happened under a correlation id, or in a trace."""
    wanted = request.path["id"]
    found = reading.traces.by_correlation_id(wanted) if is_id(wanted) else ()
    by_correlation = bool(found)
    if not found:
        one = reading.traces.by_trace_id(wanted)
        found = (one,) if one is not None else ()
    if not found:
        return _nothing(request, wanted)
    return page(
        "trace.html", request, wanted=wanted, by_correlation=by_correlation, live=False,
        notes=reading.traces.notes, traces=[_shown(one) for one in found],
    )  # fmt: skip


def find(request: Request, reading: Reading) -> Reply:
    """What an id belongs to: a correlation id or trace before a session of the same name."""
    wanted = request.query.get("id", "").strip()
    source, link = reading.traces, Links("")
    if is_id(wanted) and (source.by_correlation_id(wanted) or source.by_trace_id(wanted) is not None):
        return redirect(request, link.trace(wanted).removeprefix(ROOT))
    if reading.sessions.get(clean_id(wanted) or "") is not None:
        return redirect(request, link.session(wanted).removeprefix(ROOT))
    return _nothing(request, wanted)


def _nothing(request: Request, wanted: str) -> Reply:
    return page("nothing.html", request, status=404, wanted=wanted[:256], live=False)


def _shown(trace: Trace) -> dict[str, Any]:
    calls = trace.llm_calls
    priced = [call.cost_nano_usd for call in calls if call.cost_nano_usd is not None]
    return {
        "trace": trace,
        "fall": waterfall_of(trace),
        "started": trace.started_at_ns,
        "tokens": sum((call.usage.input or 0) + (call.usage.output or 0) for call in calls),
        "cost": sum(priced) / 1e9 if priced else None,
    }


def _lines(series: Sequence[Mapping[str, Any]], **fields: tuple[str, ...]) -> list[dict[str, Any]]:
    """A line for each name: its colour in the style sheet, and of each step the sum of some fields."""
    return [
        {"name": name, "colour": colour, "values": [sum(step[field] or 0 for field in of) for step in series]}
        for name, (colour, *of) in fields.items()
    ]


def _charts(series: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Charts as the script draws them: seconds since the epoch, and a line for each name."""
    times = [int(datetime.fromisoformat(step["time"]).timestamp()) for step in series]

    charts = {
        "Calls": (
            "calls",
            _lines(
                series, successful=("--accent", "successful_requests"), failed=("--bad", "failed_requests")
            ),
        ),
        "Tokens": (
            "tokens",
            _lines(
                series,
                input=("--accent", "total_prompt_tokens", "failed_prompt_tokens"),
                output=("--hint", "total_completion_tokens", "failed_completion_tokens"),
            ),
        ),
        "Cost": ("$", _lines(series, cost=("--good", "priced_cost_usd"))),
        "Latency p95": ("ms", _lines(series, p95=("--warn", "p95_duration_ms"))),
    }
    return [
        {"title": title, "unit": unit, "json": json.dumps({"unit": unit, "times": times, "lines": drawn})}
        for title, (unit, drawn) in charts.items()
    ]


def _by_model(calls: Sequence[LLMCall]) -> list[dict[str, Any]]:
    """Model -> calls, failures, tokens and cost of the calls that are shown."""
    found: dict[str, dict[str, Any]] = {}
    for call in calls:
        row = found.setdefault(
            call.model, {"calls": 0, "failed": 0, "input": 0, "output": 0, "cost": 0.0, "unpriced": 0}
        )
        row["calls"] += 1
        row["failed"] += call.status != "success"
        row["input"] += call.usage.input or 0
        row["output"] += call.usage.output or 0
        row["cost"] += (call.cost_nano_usd or 0) / 1e9
        row["unpriced"] += call.unpriced
    return [
        {"model": model, **row} for model, row in sorted(found.items(), key=lambda item: -item[1]["calls"])
    ]
