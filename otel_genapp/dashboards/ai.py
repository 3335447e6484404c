"""For those who build with models: how they perform, what they cost, what runs short."""

from __future__ import annotations

from otel_genapp import semconv
from otel_genapp.dashboards.boards import (
    COUNT,
    PER_SECOND,
    RATIO,
    SECONDS,
    TOKENS,
    TOKENS_PER_SECOND,
    USD,
    Board,
    Panel,
    Row,
    Variable,
)
from otel_genapp.dashboards.queries import Query, gauge, increase, quantile, rate, share
from otel_genapp.semconv import Metric

_MODEL = {"model": "=~$model"}
_FAILED = {**_MODEL, "status": "=fail"}
_HOUR_S, _MONTH_H = 3600, 730


def make_board() -> Board:
    """The board of models."""
    models = f'label_values({semconv.LLM_REQUESTS.name}{{env=~"$env", app=~"$app"}}, model)'
    return Board(
        "ai",
        "Gen apps: AI performance",
        "LLM calls by model: rate, errors, time, tokens, cost, tools, and what the numbers cannot know.",
        rows=(_at_a_glance(), _performance(), _tokens(), _money(), _unknown(), _limits()),
        variables=(Variable("model", "Model", models),),
    )


def _at_a_glance() -> Row:
    return Row(
        "At a glance",
        (
            Panel(
                "LLM calls", "Calls finished in the time shown, whatever their end and whether their trace was "
                "sampled or not.",
                (Query(increase(semconv.LLM_REQUESTS, where=_MODEL)),),
                "number", COUNT, 4, 4, decimals=0, seen_after_demo=True,
            ),
            Panel(
                "Failed calls", "Share of calls that failed after all attempts. Above 2 %: the attempts below say "
                "whether the provider refuses (429), is down (5xx) or is not reached (error).",
                (Query(share(rate(semconv.LLM_REQUESTS, where=_FAILED), rate(semconv.LLM_REQUESTS, where=_MODEL))),),
                "number", RATIO, 4, 4, limits=(0.02, 0.1), seen_after_demo=True,
            ),
            Panel(
                "p95 of calls", "95 of 100 calls are faster, streams counted to their end.",
                (Query(quantile(0.95, semconv.LLM_DURATION, where=_MODEL)),),
                "number", SECONDS, 4, 4, seen_after_demo=True,
            ),
            Panel(
                "Cost", "US dollars of the calls with a price, in the time shown. What has no price is counted "
                "below and not in here.",
                (Query(increase(semconv.LLM_COST, where=_MODEL)),),
                "number", USD, 4, 4, decimals=4, seen_after_demo=True,
            ),
            Panel(
                "In flight", "Calls started and not finished, all workers together. Rising while the rate does "
                "not: the provider slows down, and people wait.",
                (Query(gauge(semconv.LLM_IN_FLIGHT)),),
                "number", COUNT, 4, 4, decimals=0, seen_after_demo=True,
            ),
            Panel(
                "Active sessions", "Distinct sessions with a call in the last 5 minutes.",
                (Query(gauge(semconv.ACTIVE_SESSIONS)),),
                "number", COUNT, 4, 4, decimals=0, seen_after_demo=True,
            ),
        ),
    )  # fmt: skip


def _performance() -> Row:
    return Row(
        "Performance",
        (
            Panel(
                "Calls by model", "Calls a second by provider and requested model.",
                (Query(rate(semconv.LLM_REQUESTS, "provider", "model", where=_MODEL), "{{provider}} {{model}}"),),
                "stacked", PER_SECOND, seen_after_demo=True,
            ),
            Panel(
                "Error rate by model", "Share of each model's calls that failed after all attempts. One model "
                "only: route around it.",
                (Query(share(rate(semconv.LLM_REQUESTS, "model", where=_FAILED),
                             rate(semconv.LLM_REQUESTS, "model", where=_MODEL)), "{{model}}"),),
                unit=RATIO, limits=(0.02, 0.1), seen_after_demo=True,
            ),
            Panel(
                "How calls end", "Calls a second by status. `cancelled` is closed before the end: people who left, "
                "or a time limit that is too short.",
                (Query(rate(semconv.LLM_REQUESTS, "status", where=_MODEL), "{{status}}"),),
                "stacked", PER_SECOND, seen_after_demo=True,
            ),
            Panel(
                "p95 by model", "95 of 100 calls of the model are faster. Points are exemplars: they open a trace.",
                (Query(quantile(0.95, semconv.LLM_DURATION, "model", where=_MODEL), "{{model}}"),),
                unit=SECONDS, seen_after_demo=True,
            ),
            Panel(
                "Time to first token (p95)", "What people feel of a streamed answer. High with a normal duration: "
                "long prompts or a queue at the provider.",
                (Query(quantile(0.95, semconv.LLM_FIRST_TOKEN, "model", where=_MODEL), "{{model}}"),),
                unit=SECONDS, seen_after_demo=True,
            ),
            Panel(
                "Tool calls by model", "Tools the models asked for, a second. A jump without more requests is a "
                "loop: look at one session in the explorer.",
                (Query(rate(semconv.LLM_TOOL_CALLS, "model", where=_MODEL), "{{model}}"),),
                unit="ops", seen_after_demo=True,
            ),
        ),
    )  # fmt: skip


def _tokens() -> Row:
    return Row(
        "Tokens",
        (
            Panel(
                "Tokens by type", "Tokens a second as providers reported them. cache_read and cache_write are "
                "parts of input, reasoning is part of output: do not add them up.",
                (Query(rate(semconv.LLM_TOKENS, "type", where=_MODEL), "{{type}}"),),
                unit=TOKENS_PER_SECOND, seen_after_demo=True,
            ),
            Panel(
                "Tokens by model", "Input and output in the time shown.",
                (
                    Query(_tokens_of("input", "model"), "input"),
                    Query(_tokens_of("output", "model"), "output"),
                    Query(_tokens_of("cache_read", "model"), "of input: cache read"),
                    Query(_tokens_of("cache_write", "model"), "of input: cache write"),
                    Query(_tokens_of("reasoning", "model"), "of output: reasoning"),
                ),
                "table", TOKENS, decimals=0, seen_after_demo=True,
            ),
            Panel(
                "Cache hit rate by model", "Part of the input that came from the provider's cache, at a fraction "
                "of the price. Low with long prompts: put what changes last.",
                (Query(share(_tokens_rate("cache_read", "model"), _tokens_rate("input", "model")), "{{model}}"),),
                unit=RATIO, seen_after_demo=True,
            ),
        ),
    )  # fmt: skip


def _money() -> Row:
    per_hour = f"{_HOUR_S} * {rate(semconv.LLM_COST, 'model', where=_MODEL)}"
    by_app = f"{_MONTH_H * _HOUR_S} * {rate(semconv.LLM_COST, 'app', 'env', where=_MODEL, window='1h')}"
    return Row(
        "Cost",
        (
            Panel(
                "Cost an hour by model", "US dollars an hour at the present rate. A step without more calls: "
                "another model, longer prompts or a cold cache.",
                (Query(per_hour, "{{model}}"),), "stacked", USD, seen_after_demo=True,
            ),
            Panel(
                "Projection for a month", "US dollars in 730 hours if it goes on as in the last hour, by app. At "
                "night it says too little, at noon too much: compare with the same hour.",
                (Query(by_app, "{{app}} {{env}}"),), "bars", USD, decimals=2, seen_after_demo=True,
            ),
            Panel(
                "Cost of a call by model", "Mean cost of the model's calls in the time shown, those without a "
                "price left out. The expensive ones stand under sessions of the app's own pages.",
                (Query(_cost_of_a_call(), "{{model}}"),), "bars", USD, decimals=5, seen_after_demo=True,
            ),
        ),
    )  # fmt: skip


def _unknown() -> Row:
    return Row(
        "What the numbers cannot know",
        (
            Panel(
                "Unknown usage", "Answered calls for which nobody reported tokens: their tokens are in no sum. "
                "For streams of OpenAI's dialect ask for usage with `stream_options`.",
                (Query(_grown(semconv.LLM_UNKNOWN_USAGE), "{{provider}} {{model}}"),),
                "bars", COUNT, decimals=0, limits=(1, 100), seen_after_demo=True,
            ),
            Panel(
                "Unpriced calls", "Calls without a known price: their cost is in no sum. `otel-genapp prices "
                "check MODEL` says why; a line in the price file helps.",
                (Query(_grown(semconv.LLM_UNPRICED), "{{provider}} {{model}}"),),
                "bars", COUNT, decimals=0, limits=(1, 100), seen_after_demo=True,
            ),
            Panel(
                "Errors by type", "Unhandled errors by type and service, in the time shown.",
                (Query(increase(semconv.ERRORS, "error_type", "service"), "{{service}} {{error_type}}"),),
                "bars", COUNT, decimals=0, seen_after_demo=True,
            ),
        ),
    )  # fmt: skip


def _limits() -> Row:
    attempts = increase(semconv.LLM_ATTEMPTS, "model", where=_MODEL)
    retries = f"{attempts}\n  /\n{increase(semconv.LLM_REQUESTS, 'model', where=_MODEL)}"
    return Row(
        "Attempts and limits",
        (
            Panel(
                "Attempts by status", "HTTP attempts a second, retries included, by status code. 429: at the rate "
                "limit; 5xx: the provider; error: not reached.",
                (Query(rate(semconv.LLM_ATTEMPTS, "status", where=_MODEL), "{{status}}"),),
                "stacked", PER_SECOND, seen_after_demo=True,
            ),
            Panel(
                "Attempts for a call", "Attempts a call needs in the mean, 1 is best. Above 1.2 people wait for "
                "retries, and each one is paid for where it reached the model.",
                (Query(retries, "{{model}}"),),
                "bars", COUNT, decimals=2, limits=(1.2, 2), seen_after_demo=True,
            ),
            Panel(
                "Rate-limit headroom", "What the provider's last answer left of each limit, the lowest of the "
                "workers. Below 10 %: spread the load or ask for a higher limit before it refuses.",
                (Query(gauge(semconv.RATE_LIMIT_REMAINING, "provider", "kind", of="min"),
                       "{{provider}} {{kind}}"),),
                unit=RATIO, limits=(0.2, 0.1), low_is_bad=True, seen_after_demo=True,
            ),
        ),
    )  # fmt: skip


def _tokens_of(kind: str, *by: str) -> str:
    return increase(semconv.LLM_TOKENS, *by, where={**_MODEL, "type": f"={kind}"})


def _tokens_rate(kind: str, *by: str) -> str:
    return rate(semconv.LLM_TOKENS, *by, where={**_MODEL, "type": f"={kind}"})


def _grown(metric: Metric) -> str:
    return increase(metric, "provider", "model", where=_MODEL)


def _cost_of_a_call() -> str:
    calls = increase(semconv.LLM_REQUESTS, "model", where=_MODEL)
    unpriced = increase(semconv.LLM_UNPRICED, "model", where=_MODEL)
    priced = f"(\n  {calls}\n    -\n  (\n    {unpriced}\n      or\n    0 * {calls}\n  )\n)"
    return f"{increase(semconv.LLM_COST, 'model', where=_MODEL)}\n/\n{priced}"
