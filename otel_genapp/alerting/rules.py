"""What a rule is: an alert, a recorded series, a group of them, an objective."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["critical", "warning", "none"]


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert.

    `over` says in words what is true when it ends. An ended alert keeps the last text of its firing, so
    `over` names no value, and nothing it cannot know: that a threshold is no longer passed is not that
    all is well.
    """

    name: str
    severity: Severity
    expr: str
    wait: str
    summary: str
    description: str
    over: str
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Recording:
    """One recorded series."""

    name: str
    expr: str
    labels: tuple[tuple[str, str], ...] = ()


Rule = Alert | Recording


@dataclass(frozen=True, slots=True)
class Group:
    """Rules evaluated together, in their order; the file is called after the group."""

    name: str
    rules: tuple[Rule, ...]
    interval: str = ""

    @property
    def alerts(self) -> tuple[Alert, ...]:
        return tuple(rule for rule in self.rules if isinstance(rule, Alert))


@dataclass(frozen=True, slots=True)
class Objective:
    """What a service level promises: a share of good events, and the counts of 5 minutes it is judged by."""

    name: str
    objective: float
    description: str
    bad: str
    total: str

    @property
    def budget(self) -> float:
        """The share of events that may be bad."""
        return round(1 - self.objective, 6)


@dataclass(frozen=True, slots=True)
class Burn:
    """A pace of spending the error budget, seen in a short and in a long window, that is worth an alert."""

    severity: Severity
    short: str
    long: str
    times: float
