"""Python, and the versions of what is installed."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from otel_genapp.cli.doctor.finding import Finding, Inspection, ok, problem, warning
from otel_genapp.version import __version__

DISTRIBUTION = "otel-genapp"
OLDEST_PYTHON = (3, 11)
FAMILY = "opentelemetry-"


def check_python(_: Inspection) -> Iterator[Finding]:
    """Whether this is a Python the package is made for."""
    version = platform.python_version()
    if sys.version_info < OLDEST_PYTHON:
        yield problem(f"Python {version}", f"use Python {'.'.join(map(str, OLDEST_PYTHON))} or newer")
    else:
        yield ok(f"Python {version} on {platform.system()}")
    if sys.platform == "win32":
        yield warning(
            "on Windows there is no sum over workers, and what a killed process wrote waits for nobody",
            "run one worker, or use Linux or macOS in production",
        )


def check_packages(_: Inspection) -> Iterator[Finding]:
    """Whether OpenTelemetry's packages fit this one and each other."""
    versions, wishes = installed()
    try:
        own = [Requirement(line) for line in metadata.requires(DISTRIBUTION) or ()]
    except metadata.PackageNotFoundError:
        yield warning(
            f"{DISTRIBUTION} {__version__} is not installed as a package, so versions cannot be compared",
            f"pip install '{DISTRIBUTION}[fastapi]'",
        )
        own = []
    found = [*own_misfits(own, versions), *family_misfits(wishes, versions)]
    yield from found
    if not found:
        api, beta = versions.get("opentelemetry-api", "?"), versions.get("opentelemetry-instrumentation", "?")
        yield ok(f"{DISTRIBUTION} {__version__}, OpenTelemetry {api}, instrumentations {beta}")


def installed() -> tuple[dict[str, str], dict[str, list[Requirement]]]:
    """Versions of all distributions, and what those of OpenTelemetry want, by canonical names."""
    versions: dict[str, str] = {}
    wishes: dict[str, list[Requirement]] = {}
    for found in metadata.distributions():
        name = canonicalize_name(found.metadata["Name"] or "")
        if not name or name in versions:  # the first on the path is the one that is imported
            continue
        versions[name] = found.version
        if name.startswith(FAMILY):
            wishes[name] = list(_readable(found.requires or ()))
    return versions, wishes


def own_misfits(own: Iterable[Requirement], versions: Mapping[str, str]) -> Iterator[Finding]:
    """What this package needs and is not there, or is there in a version that does not fit."""
    told = set()
    for wish in own:
        name = canonicalize_name(wish.name)
        is_optional = "extra" in str(wish.marker or "")
        if name in told or name == DISTRIBUTION:
            continue
        version = versions.get(name)
        if version is None:
            if not is_optional and (wish.marker is None or wish.marker.evaluate()):
                yield problem(f"{name} is not installed", f"pip install '{name}{wish.specifier}'")
                told.add(name)
        elif not wish.specifier.contains(version, prereleases=True):
            said = f"{name} {version} does not fit {DISTRIBUTION}, which wants {wish.specifier}"
            remedy = f"pip install '{name}{wish.specifier}'"
            yield warning(said, remedy) if is_optional else problem(said, remedy)
            told.add(name)


def family_misfits(
    wishes: Mapping[str, Iterable[Requirement]], versions: Mapping[str, str]
) -> Iterator[Finding]:
    """OpenTelemetry's packages that pin another version of each other than there is."""
    for name, wanted in sorted(wishes.items()):
        for wish in wanted:
            other = canonicalize_name(wish.name)
            version = versions.get(other)
            if not other.startswith(FAMILY) or version is None or "extra" in str(wish.marker or ""):
                continue
            if not wish.specifier.contains(version, prereleases=True):
                yield problem(
                    f"{name} {versions[name]} wants {other}{wish.specifier}, installed is {version}",
                    "install OpenTelemetry's packages in one run, of one release: "
                    f"pip install --upgrade '{DISTRIBUTION}' {name} {other}",
                )


def _readable(lines: Iterable[str]) -> Iterator[Requirement]:
    for line in lines:
        try:
            yield Requirement(line)
        except InvalidRequirement:
            continue
