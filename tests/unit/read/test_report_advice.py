"""Each rule speaks about the numbers it is for, and about no others."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from otel_genapp.ledger.rollup import Rollup
from otel_genapp.read.reports.advice import RULES, Seen, advise
from otel_genapp.read.reports.figures import Figures
from otel_genapp.read.sessions import sums_dict

Figured = dict[str, Any]


def plain() -> Figured:
    """Figures nobody has anything to say about."""
    model = {
        **sums_dict(Rollup()), "provider": "openai", "model": "gpt-5", "total_requests": 200, "successful_requests": 199,
        "failed_requests": 1, "total_prompt_tokens": 100_000, "total_tokens": 120_000, "cache_hit_rate": 0.4,
        "cost_usd": 1.0, "priced_cost_usd": 1.0,
    }  # fmt: skip
    found = Figures().as_dict()
    found |= {"messages": 200, "users": 90, "llm": {**model, "by_model": [model]}}
    found["conversations"] |= {
        "begun": 100, "ended": 100, "resolved": 80, "resolved_rate": 0.8, "abandoned_rate": 0.1, "escalated_rate": 0.1,
        "repeat_rate": 0.05,
    }  # fmt: skip
    found["feedback"] |= {
        "given": 50, "csat": {"count": 50, "mean": 4.2},
        "nps": {"count": 50, "promoters": 30, "detractors": 10, "score": 40.0},
    }  # fmt: skip
    intent = {"messages": 100, "confidence": 0.9, "right": 40, "wrong": 2, "accuracy": 0.95, "share": 0.5}
    found["intents"] = [{"intent": "refund", **intent}, {"intent": "order", **intent}]
    found["response_time_ms"] = {"count": 200, "mean": 900.0, "p50": 800.0, "p95": 2000.0}
    return found


def _at(figures: Any, path: str, **values: Any) -> None:
    for name in path.split(".") if path else ():
        figures = figures[int(name)] if isinstance(figures, list) else figures[name]
    figures.update(values)


def _two_models(figures: Figured) -> None:
    (one,) = figures["llm"]["by_model"]
    figures["llm"]["by_model"] = [
        {**one, "total_requests": 40, "priced_cost_usd": 0.9},
        {**one, "model": "mini", "total_requests": 160, "priced_cost_usd": 0.1},
    ]


PLANTED: dict[str, Callable[[Figured], None]] = {
    "llm_errors": lambda f: _at(f, "llm.by_model.0", failed_requests=20),
    "critical_reviews": lambda f: _at(f, "feedback", critical=5),
    "low_resolution": lambda f: _at(f, "conversations", resolved=50, resolved_rate=0.5),
    "low_csat": lambda f: _at(f, "feedback.csat", mean=2.9),
    "slow_answers": lambda f: _at(f, "response_time_ms", p95=12_000.0),
    "slower_answers": lambda f: _at(f, "response_time_ms", p95=3_500.0),
    "many_escalations": lambda f: _at(f, "conversations", escalated=30, escalated_rate=0.3),
    "many_abandoned": lambda f: _at(f, "conversations", abandoned=30, abandoned_rate=0.3),
    "repeat_contacts": lambda f: _at(f, "conversations", repeat_contacts=20, repeat_rate=0.2),
    "negative_nps": lambda f: _at(f, "feedback.nps", score=-12.0),
    "weak_intent": lambda f: _at(f, "intents.0", right=10, wrong=10, accuracy=0.5),
    "dearer_messages": lambda f: _at(f, "llm", cost_usd=1.5),
    "longer_calls": lambda f: _at(f, "llm", total_tokens=190_000),
    "low_confidence": lambda f: _at(f, "intents.0", confidence=0.5),
    "unknown_intents": lambda f: _at(f, "intents.0", intent="unknown"),
    "one_dear_model": _two_models,
    "low_cache_hit_rate": lambda f: _at(f, "llm", total_prompt_tokens=300_000, cache_hit_rate=0.02),
    "unpriced_calls": lambda f: _at(f, "llm.by_model.0", unpriced_requests=3),
    "unknown_usage": lambda f: _at(f, "llm", unknown_usage_requests=30),
    "little_feedback": lambda f: _at(f, "feedback", given=1),
}
DROP = {"day": "2026-03-03", "measure": "messages", "value": 10, "expected": 100.0, "change_percent": -90.0}


def said(now: Figured, *anomalies: dict[str, Any]) -> set[str]:
    """The rules that speak about figures that were plain before."""
    return {one["rule"] for one in advise(Seen(now, plain(), anomalies))}


def test_plain_numbers_need_no_advice() -> None:
    """No rule speaks about numbers that are well, with a period before or without, nor about no numbers at all."""
    nothing = Figures().as_dict() | {"llm": {**sums_dict(Rollup()), "by_model": []}}
    assert said(plain()) == set()
    assert advise(Seen(plain())) == advise(Seen(nothing, nothing)) == []


def test_every_rule_is_planted() -> None:
    """There are planted numbers for every rule of the table."""
    assert {*PLANTED, "fewer_messages"} == {rule.name for rule in RULES}


@pytest.mark.parametrize("name", PLANTED)
def test_rule(name: str) -> None:
    """Each rule speaks about what it is for; the slow also became slower."""
    figures = copy.deepcopy(plain())
    PLANTED[name](figures)
    assert said(figures) == {name} | ({"slower_answers"} if name == "slow_answers" else set())


def test_fewer_messages() -> None:
    """A marked day with fewer messages is told, one with more is not."""
    assert said(plain(), DROP) == {"fewer_messages"}
    assert said(plain(), {**DROP, "value": 300}) == set()
