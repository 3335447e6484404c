"""The label guard: clean values, and a budget for each label before the SDK sees it.

Past its budget a label's value, and only that label's, becomes `__other__`: sums stay exact and
the other labels keep telling. When a family as a whole is full, its open labels are folded.
"""

from __future__ import annotations

import threading

from otel_genapp import semconv
from otel_genapp.secrets import beginning_without_secrets


def clean_label(value: object) -> str:
    """A label value as text: no secret, no lone surrogate, at most 128 characters."""
    text = value if isinstance(value, str) else "unknown" if value is None else str(value)
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode("utf-8")
    return beginning_without_secrets(text, semconv.LABEL_VALUE_MAX_CHARS)


class LabelGuard:
    """The budgets of one family. `admit` is called for label sets not seen before."""

    def __init__(self, metric: semconv.Metric, *, series_limit: int = semconv.SERIES_LIMIT) -> None:
        self._metric = metric
        self._series_limit = series_limit
        self._seen: list[set[str]] = [set() for _ in metric.labels]
        self._series: set[tuple[str, ...]] = set()
        # Reentrant: a finalizer may record while this thread is in here.
        self._lock = threading.RLock()

    def admit(self, labels: tuple[object, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The label set to count under, and the names of the labels that were folded.

        Raises:
            ValueError: the number of values is not the number of the family's labels.
        """
        names = self._metric.labels
        if len(labels) != len(names):
            raise ValueError(f"{self._metric.name} has labels {names}, got {len(labels)} values")
        values = [clean_label(value) for value in labels]
        folded: list[str] = []
        with self._lock:
            for position, name in enumerate(names):
                if not self._fits(position, values[position]):
                    values[position] = semconv.OVERFLOW
                    folded.append(name)
            key = tuple(values)
            if key not in self._series and len(self._series) >= self._series_limit:
                for position, name in enumerate(names):
                    if name in semconv.OPEN_LABELS and name not in folded:
                        values[position] = semconv.OVERFLOW
                        folded.append(name)
                key = tuple(values)
            self._series.add(key)
            for position, value in enumerate(key):
                self._seen[position].add(value)
        return key, tuple(folded)

    def restart_in_child(self) -> None:
        """A lock nobody holds; the budgets are kept. For the child of a fork."""
        self._lock = threading.RLock()

    def _fits(self, position: int, value: str) -> bool:
        seen = self._seen[position]
        if value in seen or value == semconv.OVERFLOW:
            return True
        budget = semconv.LABEL_BUDGETS.get(self._metric.labels[position], semconv.SERIES_LIMIT)
        return len(seen) - (semconv.OVERFLOW in seen) < budget
