"""The label guard: values are clean, and only the label that explodes is folded."""

from __future__ import annotations

import threading
from collections import Counter

import pytest

from otel_genapp import semconv
from otel_genapp.metrics.labels import LabelGuard, clean_label
from otel_genapp.semconv import OVERFLOW

# Put together, so that no scanner finds a secret in this file.
KEY = "sk-" + "proj-" + "a1B2c3D4" * 6


class Odd:
    def __str__(self) -> str:
        return "odd"


@pytest.mark.parametrize(
    ("value", "label"),
    [
        ("/chat/{id}", "/chat/{id}"),
        ("", ""),
        (None, "unknown"),
        (404, "404"),
        (True, "True"),
        (1.5, "1.5"),
        (Odd(), "odd"),
        (b"raw", "b'raw'"),
        ("модель", "модель"),
        ("half \ud800 pair", "half ? pair"),
        ("x" * 1_000_000, "x" * 128),
        (f"model {KEY}", "model [REDACTED]"),
        (f"{'y' * 120} {KEY}", f"{'y' * 120} [REDACT"),
    ],
)
def test_clean_labels(value: object, label: str) -> None:
    """A label is text of at most 128 characters without secrets and lone surrogates."""
    assert clean_label(value) == label


def test_a_known_label_set_is_admitted_again() -> None:
    """What was admitted keeps being admitted, budgets spent or not."""
    guard = LabelGuard(semconv.ACTION_COUNT)
    budget = semconv.LABEL_BUDGETS["name"]
    names = [f"action {number}" for number in range(budget + 5)]
    for _ in range(2):
        admitted = [guard.admit((name, "success")) for name in names]
        assert admitted[:budget] == [((name, "success"), ()) for name in names[:budget]]
        assert admitted[budget:] == [((OVERFLOW, "success"), ("name",))] * 5


def test_only_the_exploding_label_is_folded() -> None:
    """100,000 paths fold the resource; method, status and kind of app keep telling."""
    guard = LabelGuard(semconv.HTTP_REQUESTS)
    counted: Counter[tuple[str, ...]] = Counter()
    folded: Counter[str] = Counter()
    for number in range(100_000):
        labels = ("GET", ("200", "404")[number % 2], f"/{number}", "fastapi")
        admitted, names = guard.admit(labels)
        counted[admitted] += 1
        folded.update(names)
    assert len(counted) <= semconv.LABEL_BUDGETS["resource"] + 2
    assert {labels[::3] for labels in counted} == {("GET", "fastapi")}
    assert folded == {"resource": 100_000 - semconv.LABEL_BUDGETS["resource"]}
    by_status = Counter({"200": 0, "404": 0})
    for admitted, count in counted.items():
        by_status[admitted[1]] += count
    assert by_status == {"200": 50_000, "404": 50_000}


def test_a_full_family_folds_its_open_labels() -> None:
    """Past the series limit the open labels of new sets are folded, even those within their budgets."""
    guard = LabelGuard(semconv.LLM_REQUESTS, series_limit=50)
    seen = Counter(
        guard.admit((f"provider {number % 7}", f"model {number % 31}", "chat", "success"))[0]
        for number in range(217)
    )
    assert len(seen) == 51
    assert seen[OVERFLOW, OVERFLOW, "chat", "success"] == 217 - 50


def test_series_stay_bounded_whatever_explodes() -> None:
    """With every label hostile a family keeps its limit and a folded set for each closed combination."""
    guard = LabelGuard(semconv.HTTP_REQUESTS, series_limit=100)
    sets = {
        guard.admit((f"M{number}", f"{number}", f"/{number}", f"app {number}"))[0] for number in range(20_000)
    }
    closed = {labels[:2] + labels[3:] for labels in sets}
    assert len(sets) <= 100 + len(closed)
    assert len(sets) <= semconv.SERIES_LIMIT


def test_wrong_arity_is_an_error() -> None:
    """A number of values that is not the family's is refused, with both named."""
    guard = LabelGuard(semconv.ACTION_COUNT)
    with pytest.raises(ValueError, match=r"genapp_action_count_total has labels .* got 1 values"):
        guard.admit(("only a name",))


def test_every_label_has_a_budget() -> None:
    """No label of the vocabulary goes without a budget."""
    labels = {label for metric in semconv.METRICS for label in metric.labels}
    assert labels - set(semconv.LABEL_BUDGETS) == set()


def test_threads_share_the_budget() -> None:
    """8 threads with 2,000 names each admit no more names than the budget."""
    guard = LabelGuard(semconv.ACTION_DURATION)
    admitted: set[str] = set()

    def work(worker: int) -> None:
        for number in range(2000):
            admitted.add(guard.admit((f"{worker} {number}",))[0][0])

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(admitted) == semconv.LABEL_BUDGETS["name"] + 1


def test_restart_in_a_child() -> None:
    """A child with the parent's lock held gets one of its own and keeps the budgets."""
    guard = LabelGuard(semconv.ACTION_DURATION)
    for number in range(300):
        guard.admit((f"parent's {number}",))
    guard._lock.acquire()
    guard.restart_in_child()
    assert guard.admit(("parent's 0",)) == (("parent's 0",), ())
    assert guard.admit(("child's",)) == ((OVERFLOW,), ("name",))
