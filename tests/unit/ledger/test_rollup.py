"""The arithmetic behind sessions and totals."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable

import pytest

from otel_genapp.ledger import rollup
from otel_genapp.ledger.rollup import Rollup, SessionRollup, Tokens, duration_bucket, quantile_ms
from otel_genapp.records import LLMCall, Usage, UsageRecord
from tests.builders import START_NS, amendment, call

SECOND_NS = 10**9
QUANTILES = (0.0, 0.01, 0.5, 0.9, 0.95, 0.99, 1.0)


def test_sums() -> None:
    """Durations and tokens are kept apart for successful and failed calls, the rest is counted."""
    sums = Rollup()
    sums.add(call("1", usage=Usage(input=100, output=20, cache_read=64, reasoning=5), cost_nano_usd=7))
    sums.add(call("2", duration_ms=2500.5, tool_calls=3, usage=Usage()))
    sums.add(call("3", status="fail", duration_ms=10.0, usage=Usage(input=9)))
    sums.add(call("4", status="cancelled", usage=Usage(), cost_nano_usd=1))
    early = START_NS - SECOND_NS
    sums.add(amendment("1", usage=Usage(input=10, cache_write=1), at_ns=early, cost_nano_usd=20))
    sums.add(amendment("3", status="fail", usage=Usage(output=2), at_ns=START_NS + 60 * SECOND_NS))
    sums.add(amendment("3", 2, usage=Usage(), attempts=("429",)))
    assert sums == Rollup(
        calls=4,
        successful=2,
        failed=2,
        cancelled=1,
        with_tools=1,
        tool_calls=3,
        unknown_usage=2,
        unpriced=2,
        unpriced_amendments=1,
        cost_nano_usd=28,
        duration_ms=3500.5,
        failed_duration_ms=1010.0,
        tokens=Tokens(input=110, output=20, cache_read=64, cache_write=1, reasoning=5),
        failed_tokens=Tokens(input=9, output=2),
        buckets={duration_bucket(1000): 2, duration_bucket(2500.5): 1, duration_bucket(10): 1},
        first_at_ns=START_NS - SECOND_NS,
        last_at_ns=START_NS + 60 * SECOND_NS,
    )


def random_record(seed: random.Random, number: int) -> UsageRecord:
    status = seed.choice(("success", "success", "fail", "cancelled"))
    usage = Usage(*(seed.choice((None, 0, seed.randrange(5000))) for _ in range(5)))
    at_ns = START_NS + seed.randrange(10**15)
    if seed.random() < 0.2:
        cost = seed.choice((None, seed.randrange(10**9)))
        return amendment(str(number), status=status, usage=usage, at_ns=at_ns, cost_nano_usd=cost)
    return call(
        str(number),
        status=status,
        usage=usage,
        started_at_ns=at_ns,
        duration_ms=float(seed.randrange(1_000_000)),
        tool_calls=seed.choice((0, 0, 2)),
        cost_nano_usd=seed.choice((None, seed.randrange(10**9))),
    )


@pytest.mark.parametrize("parts", [1, 2, 7])
def test_merging_parts_equals_adding_all(parts: int) -> None:
    """However 500 random records are split up, the merged parts are the whole."""
    seed = random.Random(parts)  # noqa: S311 - repeatable on purpose
    records = [random_record(seed, number) for number in range(500)]
    whole, merged = Rollup(), Rollup()
    split = [Rollup() for _ in range(parts)]
    for record in records:
        whole.add(record)
        seed.choice(split).add(record)
    for part in split:
        merged.merge(part)
    assert merged == whole


SHAPES: dict[str, Callable[[random.Random], float]] = {
    "usual": lambda seed: seed.lognormvariate(7, 1.2),
    "even": lambda seed: seed.uniform(0.5, 600_000),
    "two modes": lambda seed: seed.choice((3.0, 90_000.0)) * seed.uniform(0.9, 1.1),
    "all equal": lambda _seed: 1234.5,
    "tiny": lambda seed: seed.uniform(0.002, 0.01),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_quantiles_are_within_2_percent(shape: str) -> None:
    """Read from the buckets, every quantile of 5,000 random durations is at most 2 % off."""
    seed = random.Random(shape)  # noqa: S311 - repeatable on purpose
    durations = sorted(SHAPES[shape](seed) for _ in range(5000))
    buckets = dict(Counter(duration_bucket(duration) for duration in durations))
    for q in QUANTILES:
        true = durations[max(math.ceil(q * len(durations)), 1) - 1]
        assert quantile_ms(buckets, q) == pytest.approx(true, rel=0.02)


@pytest.mark.parametrize("duration_ms", [0.0, 0.001, 1e-9, 1e12])
def test_extreme_durations_have_a_bucket(duration_ms: float) -> None:
    """No duration is too short or too long to be counted."""
    assert quantile_ms({duration_bucket(duration_ms): 1}, 0.5) == pytest.approx(
        max(duration_ms, 0.001), rel=0.02
    )


def test_no_durations_no_quantile() -> None:
    """Without calls there is no quantile, and none is invented."""
    assert quantile_ms({}, 0.5) is None


def test_a_session_is_bounded() -> None:
    """Models, users and the newest calls are kept up to a limit; the sums cover everything."""
    session = SessionRollup("s1")
    calls: list[LLMCall] = []
    for number in range(200):
        calls.append(call(str(number), model=f"m{number}", user_id=f"u{number}"))
        session.add(calls[-1])
    session.add(amendment("0", model="agent's"))
    assert session.sums.calls == 200
    assert list(session.models) == [f"m{number}" for number in range(rollup.MODELS_KEPT)]
    assert list(session.users) == [f"u{number}" for number in range(rollup.USERS_KEPT)]
    assert list(session.newest) == calls[-rollup.CALLS_KEPT :]
