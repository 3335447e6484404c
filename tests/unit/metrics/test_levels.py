"""Gauges with labels: those that are set, and those of the host."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import psutil
import pytest

from otel_genapp import semconv
from otel_genapp.metrics.host import disk_used, memory_used
from otel_genapp.metrics.levels import Levels


def test_the_last_value_is_shown() -> None:
    """By label values; what is no number changes nothing, and a child of a fork knows nothing."""
    levels = Levels(semconv.HEALTH_UP, semconv.HEALTH_LATENCY)
    levels.set(semconv.HEALTH_UP, ("database",), value=1)
    levels.set(semconv.HEALTH_UP, ("database",), value=0)
    levels.set(semconv.HEALTH_UP, ("llm",), value=1)
    levels.set(semconv.HEALTH_UP, ("llm",), value=float("nan"))
    up = levels.gauge(semconv.HEALTH_UP)
    assert up() == {("database",): 0, ("llm",): 1}
    assert levels.gauge(semconv.HEALTH_LATENCY)() == {}
    levels.restart()
    assert up() == {}


def test_later_values_are_worked_out_when_somebody_looks() -> None:
    """The last of each source is shown, over those of other sources before it; none is worked out twice."""
    levels = Levels(semconv.RATE_LIMIT_REMAINING)
    worked_out: list[float] = []

    def told(value: float) -> dict[tuple[str, ...], float]:
        worked_out.append(value)
        return {("openai", "tokens"): value}

    for source, value in (("a", 0.9), ("b", 0.8), ("a", 0.7)):
        levels.set_later(semconv.RATE_LIMIT_REMAINING, source, values=partial(told, value))
    assert worked_out == []
    shown = levels.gauge(semconv.RATE_LIMIT_REMAINING)
    assert (shown(), shown(), worked_out) == ({("openai", "tokens"): 0.7},) * 2 + ([0.8, 0.7],)
    for number in range(1000):
        levels.set_later(semconv.RATE_LIMIT_REMAINING, number, values=partial(told, number))
    assert len(worked_out) > 700  # what waits is bounded
    assert shown() == {("openai", "tokens"): 999}
    levels.set_later(semconv.RATE_LIMIT_REMAINING, "a", values=partial(told, 0.1))
    levels.restart()
    assert shown() == {}


def test_a_value_told_again_is_news() -> None:
    """A level that stays as it was is as old as the last time somebody said so, at once or later."""
    now_s = 0.0
    levels = Levels(semconv.RATE_LIMIT_REMAINING, clock=lambda: now_s)
    spent: dict[tuple[str, ...], float] = {("openai", "tokens"): 0.0}
    levels.set_later(semconv.RATE_LIMIT_REMAINING, "a", values=lambda: spent)
    levels.set(semconv.RATE_LIMIT_REMAINING, ("openai", "requests"), value=0.0)
    now_s = 200.0
    assert {age_s for _, age_s in levels.ages(semconv.RATE_LIMIT_REMAINING).values()} == {200.0}
    levels.set_later(semconv.RATE_LIMIT_REMAINING, "a", values=lambda: spent)
    levels.set(semconv.RATE_LIMIT_REMAINING, ("openai", "requests"), value=0.0)
    now_s = 230.0
    assert levels.ages(semconv.RATE_LIMIT_REMAINING) == {
        ("openai", "tokens"): (0.0, 30.0),
        ("openai", "requests"): (0.0, 30.0),
    }


def test_labels_are_bounded_and_clean() -> None:
    """Past its budget a label value is `__other__`, and no secret is shown."""
    levels = Levels(semconv.HEALTH_UP)
    for number in range(semconv.LABEL_BUDGETS["check"] + 5):
        levels.set(semconv.HEALTH_UP, (f"c{number}",), value=1)
    shown = levels.gauge(semconv.HEALTH_UP)()
    assert isinstance(shown, dict)
    assert len(shown) == semconv.LABEL_BUDGETS["check"] + 1
    assert (semconv.OVERFLOW,) in shown


def test_disks_are_those_of_the_paths(tmp_path: Path) -> None:
    """One for each file system, as `df` has it; a path that is gone is left out."""
    same = disk_used((str(tmp_path), str(tmp_path.parent), str(tmp_path / "gone")))()
    assert list(same) == [(str(tmp_path),)]
    assert same[str(tmp_path),] == pytest.approx(psutil.disk_usage(str(tmp_path)).percent / 100, abs=0.02)


def test_memory_is_a_ratio() -> None:
    """Between nothing and everything."""
    assert 0 < memory_used() < 1
