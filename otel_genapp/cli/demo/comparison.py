"""What the telemetry counted beside what the LLM's ledger says, session by session."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from otel_genapp import semconv
from otel_genapp.fake_llm import Served

COMPARED = (
    "total_requests",
    "successful_requests",
    "failed_requests",
    "cancelled_requests",
    "prompt_tokens",
    "completion_tokens",
    "cached_tokens",
    "reasoning_tokens",
    "requests_with_tools",
    "unknown_usage_requests",
)
"""The numbers both sides know; tokens are those of successful and failed calls together."""

_EXPOSED = {
    (semconv.LLM_REQUESTS.name, "status", semconv.SUCCESS): "successful_requests",
    (semconv.LLM_REQUESTS.name, "status", semconv.FAIL): "failed_requests",
    (semconv.LLM_REQUESTS.name, "status", semconv.CANCELLED): "cancelled_requests",
    (semconv.LLM_TOKENS.name, "type", "input"): "prompt_tokens",
    (semconv.LLM_TOKENS.name, "type", "output"): "completion_tokens",
    (semconv.LLM_TOKENS.name, "type", "cache_read"): "cached_tokens",
    (semconv.LLM_TOKENS.name, "type", "reasoning"): "reasoning_tokens",
    (semconv.LLM_UNKNOWN_USAGE.name, "", ""): "unknown_usage_requests",
}
"""(family, label, value) -> the number its series add up to."""

Numbers = dict[str, int]


class Truth:
    """The sums of the ledger in terms of calls: however often the SDK tries, it is one call."""

    def __init__(self) -> None:
        self.sessions: dict[str, Numbers] = {}

    def add(self, ledger: Iterable[Served]) -> None:
        """Add entries that were not added before, in any order."""
        for served in ledger:
            numbers = self.sessions.setdefault(
                served.session or semconv.NO_SESSION, dict.fromkeys(COMPARED, 0)
            )
            if served.attempt > 1:  # the attempt before it was the same call, and had failed
                numbers["total_requests"] -= 1
                numbers["failed_requests"] -= 1
            numbers["total_requests"] += 1
            numbers["successful_requests" if served.succeeded else "failed_requests"] += 1
            left = served.outcome == "gone"
            numbers["cancelled_requests"] += left
            numbers["prompt_tokens"] += served.input_tokens or 0
            numbers["completion_tokens"] += served.output_tokens or 0
            numbers["cached_tokens"] += served.cached_tokens or 0
            numbers["reasoning_tokens"] += served.reasoning_tokens or 0
            numbers["requests_with_tools"] += served.succeeded and bool(served.tool_calls)
            numbers["unknown_usage_requests"] += served.input_tokens is None and (served.succeeded or left)

    def total(self) -> Numbers:
        """The sums over all sessions."""
        return {name: sum(numbers[name] for numbers in self.sessions.values()) for name in COMPARED}


def counted(sums: Mapping[str, Any]) -> Numbers:
    """The compared numbers of a session's JSON, or of that over all sessions."""
    return {
        **{name: sums[name] for name in COMPARED if name in sums},
        "prompt_tokens": sums["total_prompt_tokens"] + sums["failed_prompt_tokens"],
        "completion_tokens": sums["total_completion_tokens"] + sums["failed_completion_tokens"],
    }


def exposed(exposition: str) -> Numbers:
    """Those of the compared numbers that `/prometheus` has, summed over its series."""
    told = dict.fromkeys(("total_requests", *_EXPOSED.values()), 0)
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            for (metric, label, value), name in _EXPOSED.items():
                if sample.name == metric and sample.labels.get(label, "") == value:
                    told[name] += int(sample.value)
    cancelled = told["cancelled_requests"]
    told["failed_requests"] += cancelled
    told["total_requests"] = told["successful_requests"] + told["failed_requests"]
    return told


def differences(sessions: Iterable[Mapping[str, Any]], truth: Truth, *, forgetful: bool) -> list[str]:
    """A line for each number that differs, and for each session that one side does not know.

    `forgetful` says that the telemetry has had more sessions than it keeps.
    """
    told = {session["session_id"]: counted(session) for session in sessions}
    found = [
        line
        for name, expected in sorted(truth.sessions.items())
        if name in told
        for line in _unlike(name, told[name], expected=expected)
    ]
    if not forgetful:
        unknown = sorted(truth.sessions.keys() - told.keys())
        found.extend(f"{name}: unknown to the telemetry" for name in unknown)
    found.extend(f"{name}: unknown to the ledger" for name in sorted(told.keys() - truth.sessions.keys()))
    return found


def differences_in_total(totals: Mapping[str, Any], exposition: str, *, truth: Truth) -> list[str]:
    """A line for each number over all sessions that differs, in the JSON and in `/prometheus`."""
    expected = truth.total()
    return [
        *_unlike("/events/metrics", counted(totals), expected=expected),
        *_unlike("/prometheus", exposed(exposition), expected=expected),
    ]


def _unlike(where: str, told: Numbers, *, expected: Numbers) -> list[str]:
    return [
        f"{where}: {name} is {number:,} in the telemetry, {expected[name]:,} in the ledger"
        for name, number in told.items()
        if number != expected[name]
    ]
