"""What a dead collector adds to an LLM call on the thread that makes it."""

from __future__ import annotations

from pathlib import Path
from statistics import median

import pytest

from tests.bench.__main__ import COMPARISONS
from tests.bench.comparison import interval_of_median
from tests.faults.conftest import Found


@pytest.mark.soak
def test_a_dead_collector_adds_nothing_to_a_call(tmp_path: Path, found: Found) -> None:
    """The 95 % confidence interval of the difference, round by round in turn, reaches down to 0."""
    rounds = COMPARISONS["outage"].measure(3, 6, folder=tmp_path)
    added = [measured["dead"] - measured["healthy"] for measured in rounds]
    lowest, highest = interval_of_median(added)
    found("black hole", "an LLM call", added=f"{median(added):.1f} us [{lowest:.1f}, {highest:.1f}]")
    assert lowest <= 0
