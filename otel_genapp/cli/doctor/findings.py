"""What a check found."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from otel_genapp.config import Settings

Level = Literal["ok", "warning", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the table: where it was looked, what is there, and what to do about it."""

    check: str
    level: Level
    found: str
    remedy: str = ""

    def as_dict(self) -> dict[str, str]:
        """The finding as JSON-ready values."""
        return {"check": self.check, "level": self.level, "found": self.found, "remedy": self.remedy}


@dataclass(frozen=True, slots=True)
class Examined:
    """What is examined: the environment, the settings it leads to (None where it cannot), a service's address, what options say."""

    environ: Mapping[str, str]
    settings: Settings | None
    url: str = ""
    token: str | None = None
    app: str | None = None
    env: str | None = None


Check = Callable[[Examined], Iterator[Finding]]
