"""What a health check is, and what it may say."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from otel_genapp.errors import ConfigError
from otel_genapp.metrics.snapshot import Labels, Table
from otel_genapp.secrets.text import beginning_without_secrets

NAME_CHARACTERS = 64
LONGEST_EVERY_S, LONGEST_TIMEOUT_S = 86_400.0, 60.0
_NOTE_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class HealthResult:
    """What a check found. `note` is shown to everybody who asks `/health`, so it says nothing private."""

    healthy: bool
    note: str = ""


@dataclass(frozen=True, slots=True)
class Sources:
    """What telemetry knows itself, for checks that look at that."""

    counted: Callable[[], Table]
    """What all workers of the server have counted."""
    remaining: Callable[[], Mapping[Labels, tuple[float, float]]]
    """What is left of rate limits, 0 to 1, and seconds since a provider said so, by (provider, kind)."""


@runtime_checkable
class BoundCheck(Protocol):
    """A check that looks at what telemetry knows."""

    def bound(self, sources: Sources, /) -> Callable[[], HealthResult]:
        """The check over these sources."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run of a check ended; `reason` is "" or why it did not pass: failed, error, timeout, unclear."""

    healthy: bool
    reason: str = ""
    note: str = ""


PASSED = Outcome(healthy=True)
FAILED = Outcome(healthy=False, reason="failed")
RAISED = Outcome(healthy=False, reason="error")
TIMED_OUT = Outcome(healthy=False, reason="timeout")
UNCLEAR = Outcome(healthy=False, reason="unclear")


@dataclass(frozen=True, slots=True)
class Check:
    """A named check. `run` is a function or a coroutine function; see `judged` for what it may return.

    Raises:
        ConfigError: a value cannot work; the message says what to write.
    """

    name: str
    run: Callable[[], Any]
    every_s: float = 15.0
    timeout_s: float = 2.0
    critical: bool = True

    def __post_init__(self) -> None:
        name: Any = self.name
        if not isinstance(name, str) or not name.strip() or not name.isprintable():
            raise ConfigError(f"the name of a health check must be printable text, got {name!r}")
        if len(name) > NAME_CHARACTERS:
            raise ConfigError(f"the name of a health check has at most {NAME_CHARACTERS} characters")
        if not callable(self.run):
            raise ConfigError(
                f"health check {name!r} must be a function or a coroutine function, "
                f"got {type(self.run).__name__}"
            )
        for setting, limit_s in (("every_s", LONGEST_EVERY_S), ("timeout_s", LONGEST_TIMEOUT_S)):
            seconds: Any = getattr(self, setting)
            is_number = isinstance(seconds, int | float) and math.isfinite(seconds)
            if not is_number or not 0.05 <= seconds <= limit_s:
                raise ConfigError(
                    f"{setting} of health check {name!r} must be 0.05 to {limit_s:.0f} seconds, got {seconds!r}"
                )


def judged(value: Any) -> Outcome:
    """What a returned value says: None and True pass, False fails, a `HealthResult` says it itself."""
    if value is None or value is True:
        return PASSED
    if value is False:
        return FAILED
    healthy = getattr(value, "healthy", None)
    if not isinstance(healthy, bool):
        return UNCLEAR
    said = getattr(value, "note", "")
    note = beginning_without_secrets(said, _NOTE_CHARACTERS) if isinstance(said, str) else ""
    return Outcome(healthy, "" if healthy else FAILED.reason, note)
