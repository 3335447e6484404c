"""The environment: names, values, and what they mean together."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterator
from contextlib import suppress
from importlib import metadata

from otel_genapp.cli.doctor.finding import Finding, Inspection, ok, problem, warning
from otel_genapp.config import ENVIRONMENT

SAMPLERS = frozenset({
    "always_on", "always_off", "traceidratio", "parentbased_always_on", "parentbased_always_off",
    "parentbased_traceidratio",
})  # fmt: skip
_SAMPLER, _RATIO = "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG"


def check_names(inspection: Inspection) -> Iterator[Finding]:
    """Whether every variable is one that somebody reads."""
    found = list(_misspelt(inspection))
    yield from found
    if not found:
        names = sorted(name for name in inspection.environ if name in ENVIRONMENT.values())
        yield ok(f"set are {', '.join(names)}" if names else "no GENAPP_ variable is set")


def check_settings(inspection: Inspection) -> Iterator[Finding]:
    """Whether `init_telemetry` would take the values."""
    settings = inspection.settings
    if settings is None:
        yield problem(inspection.refusal, "correct the value; init_telemetry refuses to start with it")
    elif not inspection.app_is_named:
        yield ok(f"no app is named (--app or {ENVIRONMENT['app']}); its own state is not looked at")
    else:
        yield ok(f"app {settings.app}, env {settings.env}")


def check_disabled(inspection: Inspection) -> Iterator[Finding]:
    """Whether telemetry is turned off."""
    if inspection.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        yield problem("OTEL_SDK_DISABLED is true: nothing is measured or counted", "unset OTEL_SDK_DISABLED")
    else:
        yield ok("telemetry is not turned off")


def check_sampler(inspection: Inspection) -> Iterator[Finding]:
    """Whether the sampler is one, and its ratio a ratio."""
    name = inspection.environ.get(_SAMPLER, "").strip()
    ratio = inspection.environ.get(_RATIO, "").strip()
    if not name:
        yield ok("all traces are exported; numbers never depend on sampling")
        return
    known = SAMPLERS | {entry.name for entry in metadata.entry_points(group="opentelemetry_traces_sampler")}
    if name not in known:
        yield problem(
            f"{_SAMPLER}={name} is no sampler, so the default one is used",
            f"set one of {', '.join(sorted(known))}{_nearest(name, known)}",
        )
    elif name.endswith("traceidratio") and not _is_ratio(ratio):
        yield problem(
            f"{name} wants a ratio from 0 to 1 in {_RATIO}, it is {ratio!r}",
            f"set {_RATIO}, for example to 0.1",
        )
    elif name.endswith("always_off"):
        yield warning(f"{name}: no trace is exported; numbers stay exact", f"unset {_SAMPLER} to see traces")
    else:
        yield ok(f"{name} {ratio}".rstrip() + ": numbers stay exact")


def check_token(inspection: Inspection) -> Iterator[Finding]:
    """Whether the guarded endpoints will be there."""
    settings = inspection.settings
    variable = ENVIRONMENT["internal_auth"]
    if settings is None:
        return
    if settings.internal_auth:
        number = len(settings.internal_auth)
        short = sum(len(token) < 16 for token in settings.internal_auth)
        yield (
            ok(f"{number} token{'s' * (number != 1)} configured")
            if not short
            else warning(
                f"{short} of {number} tokens in {variable} have less than 16 characters",
                "use long random ones: python -c 'import secrets; print(secrets.token_urlsafe(32))'",
            )
        )
    elif settings.env == "dev":
        yield ok("no token: dev generates one and logs it")
    else:
        yield problem(
            f"no {variable} in {settings.env}: /events/metrics and the other guarded endpoints are not mounted",
            f"set {variable} to a long random text (or pass internal_auth)",
        )


def check_multiprocess(inspection: Inspection) -> Iterator[Finding]:
    """Whether prometheus_client's own way of several processes is on."""
    for name in ("PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir"):
        if inspection.environ.get(name):
            yield warning(
                f"{name} is set: /prometheus does not need or read it, any worker answers for all of them; only "
                "metrics of your own made with prometheus_client go there",
                f"unset {name} unless you serve such metrics yourself",
            )
            return
    yield ok("/prometheus of any worker is the sum over all of them")


def _misspelt(inspection: Inspection) -> Iterator[Finding]:
    right = sorted(ENVIRONMENT.values())
    otel = _otel_names()
    for name in sorted(inspection.environ):
        if name.upper().startswith("GENAPP") and name not in right:
            near = difflib.get_close_matches(name.upper(), right, n=1, cutoff=0.7)
            said = f"{name} is no setting and changes nothing"
            if near:
                yield problem(said, f"rename it to {near[0]}")
            else:
                yield warning(said, f"unset it, unless it is your own; settings are {', '.join(right)}")
        elif name.startswith("OTEL_") and name not in otel:
            near = difflib.get_close_matches(name, otel, n=1, cutoff=0.93)
            if near:
                yield warning(f"{name} is not known to OpenTelemetry", f"perhaps it is to be {near[0]}")


def _otel_names() -> frozenset[str]:
    """The variables that the installed packages of OpenTelemetry say they read."""
    found: set[str] = set()
    for entry in metadata.entry_points(group="opentelemetry_environment_variables"):
        with suppress(ImportError):
            module = importlib.import_module(entry.value)
            found |= {
                value
                for value in vars(module).values()
                if isinstance(value, str) and value.startswith("OTEL_")
            }
    return frozenset(found)


def _nearest(name: str, known: frozenset[str] | set[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; nearest is {near[0]}" if near else ""


def _is_ratio(text: str) -> bool:
    try:
        return not text or 0.0 <= float(text) <= 1.0
    except ValueError:
        return False
