"""When a check runs, and what is known of it in between: decisions only, on a clock that is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from otel_genapp.health.results import TIMED_OUT, Check, Outcome

Status = Literal["healthy", "unhealthy", "unknown"]
_LATE_S = 1.0
"""A run may begin so late; a result that should have been replaced before that is no longer one."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a check. `at_s` is UTC seconds since the epoch, None before its first run ended."""

    name: str
    critical: bool
    status: Status
    reason: str
    note: str
    latency_s: float | None
    at_s: float | None

    def as_dict(self, stamp: str | None) -> dict[str, Any]:
        """As `/health` shows it; nothing an exception said is in it."""
        latency_s = self.latency_s
        return {
            "status": self.status,
            "critical": self.critical,
            "latency_ms": None if latency_s is None else round(latency_s * 1000, 1),
            "checked_at": stamp,
            **({"reason": self.reason} if self.reason else {}),
            **({"note": self.note} if self.note else {}),
        }


class Probe:
    """One check over time. Times are those of a clock that nobody sets; one run at a time, never two."""

    def __init__(self, check: Check, *, now_s: float) -> None:
        self.check = check
        self._due_s = now_s
        self._began_s: float | None = None
        self._ended_s: float | None = None
        self._overran = False
        self._outcome: Outcome | None = None
        self._latency_s = 0.0
        self._at_s = 0.0

    def is_due(self, now_s: float) -> bool:
        """Whether a run may begin. One that hangs keeps the next from beginning."""
        return self._began_s is None and now_s >= self._due_s

    def begin(self, now_s: float) -> None:
        """A run begins."""
        self._began_s, self._overran = now_s, False
        self._due_s = now_s + self.check.every_s

    def end(self, outcome: Outcome, *, now_s: float, at_s: float) -> bool:
        """The run ended; whether that says anything new. What comes after the timeout is too late."""
        began_s, self._began_s = self._began_s, None
        if began_s is None or self._overran:
            return False
        if now_s - began_s > self.check.timeout_s:
            outcome = TIMED_OUT
        self._keep(outcome, latency_s=now_s - began_s, now_s=now_s, at_s=at_s)
        return True

    def expire(self, *, now_s: float, at_s: float) -> bool:
        """Give up the run under way if it takes too long; whether it was given up now."""
        began_s, timeout_s = self._began_s, self.check.timeout_s
        if began_s is None or now_s - began_s < timeout_s:
            return False
        if self._overran:
            if now_s < self._due_s:
                return False
            self._due_s = now_s + self.check.every_s  # it hangs: as down as a moment ago
        self._overran = True
        self._keep(TIMED_OUT, latency_s=timeout_s, now_s=now_s, at_s=at_s)
        return True

    def next_s(self) -> float:
        """When it is to be looked at again."""
        if self._began_s is not None and not self._overran:
            return self._began_s + self.check.timeout_s
        return self._due_s

    def is_fresh(self, now_s: float) -> bool:
        """Whether its result still stands."""
        if self._ended_s is None:
            return False
        return now_s <= max(self._due_s, self._ended_s) + self.check.timeout_s + _LATE_S

    @property
    def passes(self) -> bool | None:
        """What the last run said; None before there was one."""
        return None if self._outcome is None else self._outcome.healthy

    @property
    def latency_s(self) -> float:
        """How long the last run took."""
        return self._latency_s

    def known(self, now_s: float) -> Known:
        """What is known of the check now."""
        check, outcome = self.check, self._outcome
        if outcome is None:
            return Known(check.name, check.critical, "unknown", "not run yet", "", None, None)
        status: Status = "healthy" if outcome.healthy else "unhealthy"
        reason = outcome.reason
        if not self.is_fresh(now_s):
            status, reason = "unknown", "not run lately"
        return Known(check.name, check.critical, status, reason, outcome.note, self._latency_s, self._at_s)

    def _keep(self, outcome: Outcome, *, latency_s: float, now_s: float, at_s: float) -> None:
        self._outcome, self._latency_s, self._ended_s, self._at_s = outcome, latency_s, now_s, at_s
