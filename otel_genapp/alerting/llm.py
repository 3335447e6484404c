"""LLM calls: errors, slowness, what they burn, and numbers that are missing."""

from __future__ import annotations

from otel_genapp.alerting.promql import Pace, held, one_of, raised, series, under, usual
from otel_genapp.alerting.rules import Alert, Group, Recording
from otel_genapp.alerting.service import share_over, slow_share_over
from otel_genapp.semconv import (
    FAIL,
    LLM_COST,
    LLM_FIRST_TOKEN,
    LLM_REQUESTS,
    LLM_TOKENS,
    LLM_UNKNOWN_USAGE,
    LLM_UNPRICED,
    RATE_LIMIT_REMAINING,
)

CALLS = "genapp:llm_requests:increase5m"
FAILED = "genapp:llm_failed:increase5m"
STREAMS = "genapp:llm_first_token:increase5m"
STREAMS_FAST = "genapp:llm_first_token_fast:increase5m"
TOKENS, TOKENS_USUAL = "genapp:llm_tokens:increase1h", "genapp:llm_tokens:usual1h"
COST, COST_USUAL = "genapp:llm_cost_usd:increase1h", "genapp:llm_cost_usd:usual1h"
INPUT, INPUT_USUAL = "genapp:llm_input_tokens:increase1h", "genapp:llm_input_tokens:usual1h"
CACHED, CACHED_USUAL = "genapp:llm_cached_tokens:increase1h", "genapp:llm_cached_tokens:usual1h"

ERROR_SHARE, SLOW_SHARE = 0.10, 0.05
FIRST_TOKEN_S = 5.0
BURN = 2
TOKENS_FLOOR, COST_FLOOR_USD, INPUT_FLOOR = 100_000, 1, 10_000
"""An hour with less is not worth a message, whatever the other days had."""
CACHE_SHARE, CACHE_FALL = 0.10, 0.5
HEADROOM = 0.10

_WHICH = ("provider", "model")


def _counts(pace: Pace) -> tuple[Recording, ...]:
    """What was counted in the last 5 minutes and in the last hour."""
    tokens = series(LLM_TOKENS, one_of("type", ("input", "output")))
    return (
        Recording(CALLS, raised(series(LLM_REQUESTS), *_WHICH, window="5m", pace=pace)),
        Recording(FAILED, raised(series(LLM_REQUESTS, f'status="{FAIL}"'), *_WHICH, window="5m", pace=pace)),
        Recording(STREAMS, raised(series(LLM_FIRST_TOKEN, suffix="_count"), *_WHICH, window="5m", pace=pace)),
        Recording(
            STREAMS_FAST,
            raised(series(LLM_FIRST_TOKEN, under(FIRST_TOKEN_S), suffix="_bucket"), *_WHICH, window="5m", pace=pace),
        ),
        Recording(TOKENS, raised(tokens, window="1h", pace=pace)),
        Recording(TOKENS_USUAL, usual(TOKENS, pace=pace)),
        Recording(COST, raised(series(LLM_COST), window="1h", pace=pace)),
        Recording(COST_USUAL, usual(COST, pace=pace)),
        Recording(INPUT, raised(series(LLM_TOKENS, 'type="input"'), *_WHICH, window="1h", pace=pace)),
        Recording(INPUT_USUAL, usual(INPUT, *_WHICH, pace=pace)),
        Recording(CACHED, raised(series(LLM_TOKENS, 'type="cache_read"'), *_WHICH, window="1h", pace=pace)),
        Recording(CACHED_USUAL, usual(CACHED, *_WHICH, pace=pace)),
    )  # fmt: skip


def llm(pace: Pace) -> Group:
    """Alerts about LLM calls."""
    return Group("llm", (*_counts(pace), *_calls(pace), *_burn(), *_unknown(pace)))


def _calls(pace: Pace) -> tuple[Alert, ...]:
    left = held(series(RATE_LIMIT_REMAINING), pace=pace)
    return (
        Alert(
            "GenappLlmErrors", "critical", share_over(FAILED, CALLS, limit=ERROR_SHARE), "",
            "{{ $labels.app }} ({{ $labels.env }}): {{ $value | humanizePercentage }} of the calls of {{ $labels.model }} fail",
            "Over 10 % of the calls of {{ $labels.model }} at {{ $labels.provider }} in the last 5 minutes failed.",
            "At most 10 % of its calls of the last 5 minutes failed, or there were too few to tell.",
        ),
        Alert(
            "GenappLlmFirstTokenSlow", "warning", slow_share_over(STREAMS_FAST, STREAMS, limit=SLOW_SHARE), "",
            "{{ $labels.app }} ({{ $labels.env }}): {{ $labels.model }} is slow to begin its answers",
            "{{ $value | humanizePercentage }} of the streams of the last 5 minutes had no token within 5 s.",
            "The p95 time to the first token of the last 5 minutes is under 5 s, or there were too few streams to tell.",
        ),
        Alert(
            "GenappLlmRateLimitNear", "warning",
            f"min by (env, app, provider, kind) ({left}) < {HEADROOM:.2f}", pace("2m"),
            "{{ $labels.app }} ({{ $labels.env }}): {{ $labels.provider }} has {{ $value | humanizePercentage }} of the limit of {{ $labels.kind }} left",
            "Under 10 % of the rate limit has been left for over 2 minutes; calls will be refused.",
            "At least 10 % of the rate limit was left at the last answer.",
        ),
    )  # fmt: skip


def _burn() -> tuple[Alert, ...]:
    fallen = f"{CACHED} / {INPUT} < {CACHE_FALL} * ({CACHED_USUAL} / {INPUT_USUAL} > {CACHE_SHARE})"
    return (
        Alert(
            "GenappLlmTokenBurn", "warning",
            f"{TOKENS} > {BURN} * {TOKENS_USUAL}\nand {TOKENS} > {TOKENS_FLOOR}", "",
            "{{ $labels.app }} ({{ $labels.env }}): {{ $value | humanize }} tokens in an hour, over twice the usual",
            "Compared with the same hour of the last days.",
            "The last hour took at most twice the tokens of the same hour of the last days.",
        ),
        Alert(
            "GenappLlmCostBurn", "warning",
            f"{COST} > {BURN} * {COST_USUAL}\nand {COST} > {COST_FLOOR_USD}", "",
            '{{ $labels.app }} ({{ $labels.env }}): ${{ $value | printf "%.2f" }} in an hour, over twice the usual',
            "Compared with the same hour of the last days. Calls without a price are not in it.",
            "The priced calls of the last hour cost at most twice those of the same hour of the last days.",
        ),
        Alert(
            "GenappLlmCacheFallen", "warning", f"{fallen}\nand {INPUT} > {INPUT_FLOOR}", "",
            "{{ $labels.app }} ({{ $labels.env }}): only {{ $value | humanizePercentage }} of the input of {{ $labels.model }} comes from the cache",
            "Under half of the cache hit rate of the same hour of the last days: was the beginning of a prompt changed?",
            "The cache hit rate of the last hour is at least half the usual, or there was too little input to tell.",
        ),
    )  # fmt: skip


def _unknown(pace: Pace) -> tuple[Alert, ...]:
    return (
        Alert(
            "GenappLlmUsageUnknown", "warning",
            raised(series(LLM_UNKNOWN_USAGE), *_WHICH, window="15m", pace=pace) + " > 0", "",
            "{{ $labels.app }} ({{ $labels.env }}): answers of {{ $labels.model }} without usage",
            "Nobody reported their tokens: tokens and costs are too low by these calls.",
            "No answer of the last 15 minutes was without usage; those before stay unknown.",
        ),
        Alert(
            "GenappLlmUnpriced", "warning",
            raised(series(LLM_UNPRICED), *_WHICH, window="15m", pace=pace) + " > 0", "",
            "{{ $labels.app }} ({{ $labels.env }}): no price for {{ $labels.model }} of {{ $labels.provider }}",
            "Its calls are not in the costs. Add it to the price file, see `otel-genapp prices check`.",
            "No call of the last 15 minutes was without a price; those before stay unpriced.",
        ),
    )  # fmt: skip
