"""Whether the wall clock can be trusted with removing what is old."""

from __future__ import annotations

import time

STEP_S = 3600.0
"""By more the clock is not corrected while a process runs: it was wrong before, or is now."""
DISTRUST_S = 86_400.0
_DAY_NS = 86_400 * 10**9
_STEADY: int = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", 0))


class Clock:
    """Watches the wall clock for steps: one that stands in the future for a moment makes everything old."""

    def __init__(self) -> None:
        self._offset_s = time.time() - steady_s()
        self.trusted_at_s = 0.0
        """On the monotonic clock."""

    def days_ago_ns(self, days: int) -> int | None:
        """The time so many days ago, in UTC nanoseconds; None for a day after the clock was set by over an hour."""
        offset_s = time.time() - steady_s()
        if abs(offset_s - self._offset_s) > STEP_S:
            self._offset_s = offset_s
            self.trusted_at_s = time.monotonic() + DISTRUST_S
        return time.time_ns() - days * _DAY_NS if time.monotonic() >= self.trusted_at_s else None


def steady_s() -> float:
    """Seconds that nobody sets, those the machine slept included where the platform counts them."""
    return time.clock_gettime(_STEADY) if hasattr(time, "clock_gettime") else time.monotonic()
