"""What a check finds, and what it may look at."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from otel_genapp.cli.places import Wanted
from otel_genapp.cli.service import Service, open_service
from otel_genapp.config import ENVIRONMENT, Settings, read_settings
from otel_genapp.errors import ConfigError

OK: Final = "ok"
WARNING: Final = "warning"
PROBLEM: Final = "problem"
LEVELS: Final = (OK, WARNING, PROBLEM)


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report: how bad it is, what was found, and what to do about it."""

    level: str
    finding: str
    remedy: str = ""


def ok(finding: str) -> Finding:
    """All is well, and this is how it is."""
    return Finding(OK, finding)


def warning(finding: str, remedy: str) -> Finding:
    """It works, and perhaps not as it was meant."""
    return Finding(WARNING, finding, remedy)


def problem(finding: str, remedy: str) -> Finding:
    """Something does not work, or numbers are lost."""
    return Finding(PROBLEM, finding, remedy)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """The set-up that is looked at: options and environment, as the application would see them."""

    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    wanted: Wanted = field(default_factory=Wanted)
    settings: Settings | None = None
    """None where the environment holds a value that cannot work; `refusal` says which."""
    refusal: str = ""
    service: Service | None = field(default=None, repr=False)
    timeout_s: float = 5.0
    """How long a check may take."""

    @property
    def app_is_named(self) -> bool:
        """Whether somebody said which application it is about."""
        return bool(self.wanted.app)


Check = Callable[[Inspection], Iterable[Finding]]


def inspection_of(given: argparse.Namespace, environ: Mapping[str, str]) -> Inspection:
    """What the options and the environment say.

    Raises:
        ConfigError: the options cannot work.
    """
    service = open_service(given, environ, timeout_s=given.timeout) if given.url else None
    app, state_dir = (environ.get(ENVIRONMENT[name], "").strip() for name in ("app", "state_dir"))
    wanted = Wanted(given.app or app, state_dir=state_dir)
    options = {"app": wanted.app or "unnamed", "env": given.env or None, "store": given.store or None}
    read_settings(
        {}, **{**options, "app": given.app or "unnamed"}
    )  # refuses what is wrong in the options themselves
    settings, refusal = None, ""
    try:
        settings = read_settings(environ, **options)
        wanted = Wanted.read(given, environ)
    except ConfigError as error:
        refusal = str(error)
    return Inspection(
        environ=environ, wanted=wanted, settings=settings, refusal=refusal, service=service,
        timeout_s=given.timeout,
    )  # fmt: skip
