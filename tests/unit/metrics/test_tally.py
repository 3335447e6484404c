"""Records folded into plain sums count as they do in the instruments."""

from __future__ import annotations

import math
import random

from otel_genapp import semconv
from otel_genapp.metrics.exact import compacted
from otel_genapp.metrics.folding import fold
from otel_genapp.metrics.snapshot import Table
from otel_genapp.metrics.taken import labels_of, value_of
from otel_genapp.metrics.tally import Tally
from otel_genapp.records import Usage, UsageRecord
from tests.builders import Metering, amendment, call

STATUSES = (semconv.SUCCESS, semconv.FAIL, semconv.CANCELLED)


def some_records() -> list[UsageRecord]:
    """Calls and amendments in which everything is said, and nothing."""
    chance = random.Random(7)  # noqa: S311 - repeatable on purpose
    records: list[UsageRecord] = []
    for number in range(200):
        records.append(
            call(
                f"c{number}",
                model=f"model {number % 3}\n",
                status=chance.choice(STATUSES),
                duration_ms=chance.choice((0.0, 10.0, 10.000001, 700_000.0)),
                first_token_ms=chance.choice((None, 25.0, 26.0)),
                attempts=chance.choice(((), ("200",), ("429", "200"))),
                cost_nano_usd=chance.choice((None, 10**9, 123)),
                tool_calls=chance.randrange(3),
                error_type=chance.choice((None, "Timeout")),
                usage=chance.choice((Usage(), Usage(input=7, output=3, cache_read=2))),
            )
        )
        records.append(amendment(f"c{number}", cost_nano_usd=5, attempts=("500",)))
    return records


def test_a_tally_counts_what_instruments_count() -> None:
    """The same records give the same series with the same buckets, counts and sums."""
    metering, table = Metering(), Table()
    tally = Tally(table)
    for record in some_records():
        fold(metering.instruments, record, context=None)
        fold(tally, record, context=None)
    taken = metering.reader.take()
    for name, series in table.items():
        metric = next(known for known in semconv.METRICS if known.name == name)
        measured = {
            labels_of(metric, point.attributes): value_of(point)
            for point in taken.own.get(metric.instrument, ())
        }
        assert set(series) == set(measured), name
        for labels, value in series.items():
            one, other = compacted(value), measured[labels]
            if isinstance(one, tuple) and isinstance(other, tuple):
                assert one[0] == other[0]
                one, other = one[1], other[1]
            assert math.isclose(sums(one), sums(other), rel_tol=1e-12), (name, labels)
    assert sum(map(len, table.values())) > 40


def sums(value: object) -> float:
    return math.fsum(value) if isinstance(value, list) else float(str(value))


def test_what_instruments_drop_a_tally_drops() -> None:
    """A value below 0, far too large or not a number changes nothing."""
    table = Table()
    tally = Tally(table)
    for value in (-1, 1e16, math.nan, math.inf):
        tally.llm_cost.record(value, ("openai", "gpt-5"))
        tally.llm_duration.record(value, ("openai", "gpt-5", "chat"))
    assert not any(table.values())
