"""The families of one worker at one moment, as they lie in a file and as they add up.

A counter's value is a number, a histogram's is its bucket counts and then its sum.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from otel_genapp import semconv
from otel_genapp.frames import frame, read_frames

Labels = tuple[str, ...]
Value = float | list[float]
Table = dict[str, dict[Labels, Value]]
"""Family -> label values -> value. System figures: metric -> (attribute, value, …) -> value."""

_VERSION = 1
_SCALE, SUM_SCALE = 1e9, 1e6
"""Counters that are no whole numbers (dollars) add up in billionths, what histograms observe in millionths."""
_KINDS = {metric.name: metric for metric in semconv.METRICS}


@dataclass(slots=True)
class Snapshot:
    """What a worker had counted; its LLM families hold its journal up to `position`."""

    position: tuple[str, int] | None = None
    own: Table = field(default_factory=dict)
    system: Table = field(default_factory=dict)
    folded: tuple[str, ...] = ()
    """Of the dead: the workers in it whose files may still be there."""

    def to_bytes(self) -> bytes:
        """The snapshot as a file holds it, checksummed."""
        said = [_VERSION, self.position, _listed(self.own), _listed(self.system), self.folded]
        return frame(json.dumps(said, separators=(",", ":")).encode("ascii"))

    @classmethod
    def from_bytes(cls, data: bytes) -> Snapshot:
        """The snapshot in a file.

        Raises:
            ValueError: it is damaged, or of another version.
        """
        found = read_frames(data, ended=True)
        if len(found.payloads) != 1 or found.torn:
            raise ValueError("the file is damaged")
        said = json.loads(found.payloads[0])
        if not isinstance(said, list) or len(said) != 5 or said[0] != _VERSION:
            raise ValueError("the file is of another version")
        position = None if said[1] is None else (str(said[1][0]), int(said[1][1]))
        return cls(position, _table(said[2]), _table(said[3]), tuple(said[4]))

    def add(self, other: Snapshot, *, gauges: bool) -> None:
        """Add another worker's; gauges only of the living."""
        for name, series in other.own.items():
            metric = _KINDS.get(name)
            if metric is None or (metric.kind == "gauge" and not gauges):
                continue
            add_to(self.own.setdefault(name, {}), series, merge=metric.merge)
        for name, series in other.system.items():
            if name.startswith("gauge ") and not gauges:
                continue
            add_to(self.system.setdefault(name, {}), series, merge="sum")


NOBODY = Snapshot()
"""No other worker; never changed."""


def add_to(table: dict[Labels, Value], series: Mapping[Labels, Value], *, merge: semconv.Merge) -> None:
    """Add series to those of the same family, by the family's rule."""
    for labels, value in series.items():
        before = table.get(labels)
        if before is None:
            table[labels] = list(value) if isinstance(value, list) else value
        else:
            table[labels] = merged(before, value, merge=merge)


def merged(one: Value, other: Value, *, merge: semconv.Merge) -> Value:
    """The two values of a series as one. What is read from a store is the same for everybody."""
    if isinstance(one, list) or isinstance(other, list):
        if not isinstance(one, list) or not isinstance(other, list) or len(one) != len(other):
            return one  # of a version with other buckets
        counts = [a + b for a, b in zip(one[:-1], other[:-1], strict=True)]
        return [*counts, plus(one[-1], other[-1], scale=SUM_SCALE)]
    if merge == "sum":
        return plus(one, other)
    return min(one, other) if merge == "min" else max(one, other) if merge == "max" else one


def plus(one: float, other: float, *, scale: float = _SCALE) -> float:
    """Their sum in whole parts of `1 / scale`: the same in whatever order many are added.

    Rounded at each addition, floats would give another last digit when workers die and are added up
    in another order, and Prometheus takes the smallest step back for a restart.
    """
    if isinstance(one, int) and isinstance(other, int):
        return one + other
    return (round(one * scale) + round(other * scale)) / scale


def _listed(table: Table) -> dict[str, Any]:
    return {name: [[labels, value] for labels, value in series.items()] for name, series in table.items()}


def _table(said: Any) -> Table:
    return {
        str(name): {tuple(labels): value for labels, value in series if _is_value(value)}
        for name, series in said.items()
    }


def _is_value(value: object) -> bool:
    if isinstance(value, list):
        return all(isinstance(part, int | float) for part in value)
    return isinstance(value, int | float)
