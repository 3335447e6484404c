"""Numbers that add up exactly: the same sum in any order and grouping, and it never falls."""

from __future__ import annotations

import math
import random
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from otel_genapp.metrics.exact import Number, added, compact, compacted, nothing_of, number, plus, total

values = st.one_of(
    st.integers(0, 10**15),
    st.floats(0, 1e15, allow_subnormal=False),
    st.floats(0, 1e-3, allow_subnormal=False),
)


def exactly(value: Number) -> Fraction:
    return Fraction(value) if isinstance(value, int) else sum(map(Fraction, value), Fraction())


@given(st.lists(values, min_size=1, max_size=30), st.randoms(use_true_random=False))
def test_any_order_and_grouping_is_the_same(parts: list[float], chance: random.Random) -> None:
    """Summed one by one, shuffled, in groups and compacted in between, it is the true sum, rounded once."""
    expected = sum(map(Fraction, parts), Fraction())
    numbers = [number(part) for part in parts]
    while len(numbers) > 1:
        chance.shuffle(numbers)
        both = plus(numbers.pop(), numbers.pop())
        numbers.append(compact(both) if chance.random() < 0.5 else both)
    assert exactly(numbers[0]) == expected
    assert total(numbers[0]) == (expected if isinstance(numbers[0], int) else float(expected))


def test_what_is_kept_stays_small() -> None:
    """The exact sum of 10,000 floats takes a few of them."""
    chance = random.Random(1)  # noqa: S311 - repeatable on purpose
    kept: Number = 0
    for _ in range(10_000):
        kept = compact(plus(kept, [chance.random() * 10 ** chance.randrange(-6, 9)]))
    assert isinstance(kept, list)
    assert len(kept) <= 5


def test_whole_numbers_stay_whole() -> None:
    """Counts are integers however large, and become floats only beside one, without loss."""
    assert plus(2**60, 1) == 2**60 + 1
    assert exactly(plus(2**60 + 1, [0.5])) == 2**60 + 1 + Fraction(1, 2)
    assert math.fsum(plus(0, [0.1])) == 0.1  # type: ignore[arg-type]


def test_histograms_add_up_by_bucket() -> None:
    """Counts by bucket, sums exactly; others buckets than the first's are left out."""
    one, other = ([1, 2, 0], [0.1]), ([0, 1, 1], [0.2])
    assert added(one, other) == ([1, 3, 1], [0.1, 0.2])
    assert compacted(([1], [0.5, 0.25])) == ([1], [0.75])
    assert added(one, ([1], [5.0])) == one
    assert added(one, 5) == one
    assert (nothing_of(one), nothing_of([0.5])) == (([0, 0, 0], 0), 0)
