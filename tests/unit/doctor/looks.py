"""Inspections made short."""

from __future__ import annotations

from collections.abc import Iterable

from otel_genapp.cli.doctor.checks import CHECKS
from otel_genapp.cli.doctor.finding import Finding, Inspection
from otel_genapp.cli.places import Wanted
from otel_genapp.config import read_settings
from otel_genapp.errors import ConfigError


def inspection(*, app: str = "shop", **environ: str) -> Inspection:
    """A look at this environment, for an app of this name."""
    wanted = Wanted(app, environ.get("GENAPP_ENV", ""), environ.get("GENAPP_STATE_DIR", ""))
    settings, refusal = None, ""
    try:
        settings = read_settings(environ, app=app or "unnamed")
    except ConfigError as error:
        refusal = str(error)
    return Inspection(environ=environ, wanted=wanted, settings=settings, refusal=refusal, timeout_s=3)


def found(check: str, seen: Inspection | None = None, /, **environ: str) -> list[Finding]:
    """What a check finds, in an environment or a whole inspection."""
    return list(CHECKS[check](seen or inspection(**environ)))


def levels(findings: Iterable[Finding]) -> list[str]:
    return [each.level for each in findings]


def only(findings: list[Finding], level: str) -> Finding:
    """The one finding, which has this level."""
    [single] = findings
    assert single.level == level, single
    return single


def told(findings: Iterable[Finding], level: str) -> list[tuple[str, str]]:
    """(finding, remedy) of those with a level."""
    return [(each.finding, each.remedy) for each in findings if each.level == level]
