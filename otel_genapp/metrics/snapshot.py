"""The families of one worker at one moment, as they lie in a file.

A file is three frames: what it is, what is counted, and the gauges and system figures. The second is
often the same as before, byte for byte, and then it is neither written anew nor read anew.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from otel_genapp import semconv
from otel_genapp.frames import frame, read_frames
from otel_genapp.metrics.exact import Number, Value

Labels = tuple[str, ...]
Table = dict[str, dict[Labels, Value]]
"""Family -> label values -> value. System figures: metric -> (attribute, value, …) -> value."""

VERSION = 1
_TEXT, _WHOLE, _FRACTIONS = {str}, {int}, {float}
METRICS = {metric.name: metric for metric in semconv.METRICS}


class DamagedError(ValueError):
    """The file holds no snapshot, or one of another version."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a worker had counted; its LLM families hold its journal up to `position`. Never changed."""

    position: tuple[str, int] | None = None
    counted: Table = field(default_factory=dict)
    gauges: Table = field(default_factory=dict)
    system: Table = field(default_factory=dict)
    folded: tuple[str, ...] = ()
    """Of the dead: the workers in it whose files may still be there."""


NOBODY = Snapshot()
"""No other worker."""


class Writing:
    """Turns the snapshots of one file into bytes."""

    def __init__(self) -> None:
        self._counted: Table | None = None
        self._frame = b""

    def to_bytes(self, snapshot: Snapshot) -> bytes:
        """The snapshot as a file holds it.

        Raises:
            ValueError: it is longer than a frame may be.
        """
        if self._counted is None or self._counted != snapshot.counted:
            self._frame = frame(_said(_listed(snapshot.counted)))
            self._counted = snapshot.counted
        head = frame(_said([VERSION, snapshot.position, snapshot.folded]))
        return b"".join(
            (head, self._frame, frame(_said([_listed(snapshot.gauges), _listed(snapshot.system)])))
        )


class Reading:
    """Turns the bytes of one file into snapshots; what is the same as before stays the same object."""

    def __init__(self) -> None:
        self._data: bytes | None = None
        self._counted = b""
        self.last = NOBODY

    def from_bytes(self, data: bytes) -> Snapshot:
        """The snapshot in a file.

        Raises:
            DamagedError: there is none, or it is of another version.
        """
        if data == self._data:
            return self.last
        found = read_frames(data, ended=True)
        if len(found.payloads) != 3 or found.torn:
            raise DamagedError("the file is damaged")
        head, counted, rest = found.payloads
        try:
            version, position, folded = json.loads(head)
            if version != VERSION:
                raise DamagedError(f"the file is of version {version}")
            gauges, system = json.loads(rest)
            same = counted == self._counted and self._data is not None
            self.last = Snapshot(
                None if position is None else (str(position[0]), int(position[1])),
                self.last.counted if same else _table(json.loads(counted)),
                _table(gauges),
                _system(system),
                tuple(str(worker) for worker in folded),
            )
        except (ValueError, TypeError, AttributeError, KeyError, IndexError, RecursionError) as error:
            raise DamagedError(f"the file is not understood: {type(error).__name__}") from error
        self._data, self._counted = data, counted
        return self.last


def _said(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("ascii")


def _listed(table: Table) -> dict[str, Any]:
    return {name: [list(series), list(series.values())] for name, series in table.items()}


def _table(said: dict[str, Any]) -> Table:
    """The families this version knows, with the labels and buckets it knows them by."""
    found: Table = {}
    for name, (labels, values) in said.items():
        metric = METRICS.get(name)
        if metric is None:
            continue
        read: Callable[[Any, int], Value] = _histogram if metric.kind == "histogram" else _number
        size = len(metric.buckets) + 1
        series = zip(_checked(labels, len(metric.labels)), values, strict=True)
        found[name] = {each: read(value, size) for each, value in series}
    return found


def _system(said: dict[str, Any]) -> Table:
    return {
        str(name): {each: _number(value) for each, value in zip(_checked(labels, None), values, strict=True)}
        for name, (labels, values) in said.items()
    }


def _checked(said: list[Any], count: int | None) -> Iterator[Labels]:
    for labels in said:
        if (count is not None and len(labels) != count) or not set(map(type, labels)) <= _TEXT:
            raise DamagedError("labels of another version")
        yield tuple(labels)


def _histogram(said: Any, size: int) -> Value:
    counts, observed = said
    if len(counts) != size or set(map(type, counts)) != _WHOLE:
        raise DamagedError("buckets of another version")
    return counts, _number(observed)


def _number(said: Any, _size: int = 1) -> Number:
    if type(said) is int:
        return said
    if type(said) is list and set(map(type, said)) <= _FRACTIONS:
        return said
    raise DamagedError("not a number")
