"""Several workers added up: counters exactly, gauges by their rule, labels within their budgets."""

from __future__ import annotations

from otel_genapp import semconv
from otel_genapp.metrics.exact import Value, added, compacted, nothing_of, number, total
from otel_genapp.metrics.labels import LabelGuard
from otel_genapp.metrics.snapshot import METRICS, Labels, Snapshot, Table

_COUNTER = "counter "
"""How the names of system figures begin that only grow; see `metrics.taken`."""
_REMEMBERED = 20_000

Folded = dict[tuple[str, Labels], Labels]
"""What a label set of a family counts under. A budget that is used up stays used up."""


class Totals:
    """The counted families of the dead and of the living, added up.

    Each worker keeps to the label budgets, and several together would not: a label set that is not
    among the `registered` ones must fit beside them, or counts under `__other__`.
    """

    def __init__(self, registered: Table, folded: Folded) -> None:
        self.table: Table = {name: dict(series) for name, series in registered.items()}
        self.has_new = False
        """Whether there were label sets that are not registered, and fit."""
        self._folded = folded
        self._guards: dict[str, LabelGuard] = {}

    def add(self, counted: Table) -> None:
        """Add what a worker counted."""
        for name, series in counted.items():
            sums = self.table.setdefault(name, {})
            for labels, value in series.items():
                before = sums.get(labels)
                if before is not None:
                    sums[labels] = added(before, value)
                    continue
                key = self._admitted(METRICS[name], labels)
                before = sums.get(key)
                sums[key] = value if before is None else added(before, value)

    def admit(self, counted: Table) -> set[str]:
        """Make room for these label sets without adding them; the families in which one did not fit."""
        overfull = set()
        for name, series in counted.items():
            sums = self.table.setdefault(name, {})
            for labels in series.keys() - sums.keys():
                key = self._admitted(METRICS[name], labels)
                sums.setdefault(key, nothing_of(series[labels]))
                if key != labels:
                    overfull.add(name)
        return overfull

    def registered(self, before: Table) -> Table:
        """`before`, and with 0 the label sets that have come."""
        return {
            name: {**{labels: nothing_of(value) for labels, value in sums.items()}, **before.get(name, {})}
            for name, sums in self.table.items()
        }

    def compacted(self) -> Table:
        """The sums as they are kept."""
        return {
            name: {labels: compacted(value) for labels, value in sums.items()}
            for name, sums in self.table.items()
        }

    def _admitted(self, metric: semconv.Metric, labels: Labels) -> Labels:
        known = self._folded.get((metric.name, labels))
        if known is not None:
            return known
        guard = self._guards.get(metric.name)
        if guard is None:
            guard = self._guards[metric.name] = LabelGuard(metric)
            for present in self.table[metric.name]:
                guard.admit(present)
        key, _ = guard.admit(labels)
        if key not in self.table[metric.name]:
            self.has_new = True
        if key != labels:
            if len(self._folded) >= _REMEMBERED:
                self._folded.clear()
            self._folded[metric.name, labels] = key
        return key


class AddingUp:
    """Adds workers up, and keeps the sum as long as none of them has counted anything."""

    def __init__(self) -> None:
        self._folded: Folded = {}
        self._parts: list[Table] = []
        self._totals: Totals | None = None

    def begin(self, dead: Table) -> Totals:
        """The dead alone, to be added to."""
        return Totals(dead, self._folded)

    def up(self, dead: Table, others: list[Table], *, own: Table) -> tuple[Totals, set[str]]:
        """The dead and the others, with room for the own; and the families in which that did not fit."""
        parts = [dead, *others]
        kept = self._totals
        # The same objects where nothing has changed; see `snapshot.Reading`.
        if kept is not None and [id(part) for part in parts] == [id(part) for part in self._parts]:
            overfull = kept.admit(own)
        else:
            kept = self.begin(dead)
            overfull = kept.admit(own)
            for part in others:
                kept.add(part)
        # To what did not fit the own will be added.
        self._parts, self._totals = parts, None if overfull else kept
        return kept, overfull


def add_gauges(sums: Table, gauges: Table) -> None:
    """Add the gauges of a living worker, each by its family's rule."""
    for name, series in gauges.items():
        found = sums.setdefault(name, {})
        for labels, value in series.items():
            before = found.get(labels)
            found[labels] = value if before is None else merged(before, value, merge=METRICS[name].merge)


def merged(one: Value, other: Value, *, merge: semconv.Merge) -> Value:
    """Two values of a gauge as one. What is read from a store or the host is the same for everybody."""
    if merge == "sum":
        return added(one, other)
    if merge in {"store", "host"} or isinstance(one, tuple) or isinstance(other, tuple):
        return one
    return number((min if merge == "min" else max)(total(one), total(other)))


def add_system(sums: Table, snapshot: Snapshot, *, living: bool) -> None:
    """Add the figures of a process; of a dead one those that only grow."""
    for name, series in snapshot.system.items():
        if not living and not name.startswith(_COUNTER):
            continue
        found = sums.setdefault(name, {})
        for labels, value in series.items():
            before = found.get(labels)
            found[labels] = value if before is None else added(before, value)
