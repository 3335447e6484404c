"""What is installed and set: versions, variables, instrumentations that are there twice."""

from __future__ import annotations

import difflib
import importlib.util
import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distributions, version

from otel_genapp.cli.doctor.findings import Examined, Finding
from otel_genapp.cli.sources import apps_here
from otel_genapp.config import ENVIRONMENT, read_settings, said_by_environment
from otel_genapp.errors import ConfigError

_FRAMEWORKS = ("fastapi", "flask", "httpx", "httpx2", "aiohttp")
_NEEDED = {
    "fastapi": "opentelemetry-instrumentation-fastapi", "flask": "opentelemetry-instrumentation-flask",
    "aiohttp": "opentelemetry-instrumentation-aiohttp-client",
}  # fmt: skip
_OTHERS = (
    "opentelemetry-instrumentation-openai", "opentelemetry-instrumentation-openai-v2",
    "opentelemetry-instrumentation-genai-openai", "opentelemetry-instrumentation-anthropic",
    "openinference-instrumentation-openai", "openinference-instrumentation-anthropic", "traceloop-sdk", "openlit",
)  # fmt: skip


def versions(_examined: Examined) -> Iterator[Finding]:
    """Python, OpenTelemetry, and its instrumentations, which pin each other exactly."""
    found = {one.metadata["Name"].lower(): one.version for one in distributions() if one.metadata["Name"]}
    api, sdk = found.get("opentelemetry-api", "none"), found.get("opentelemetry-sdk", "none")
    said = f"Python {platform.python_version()}, OpenTelemetry API {api}, SDK {sdk}"
    if api != sdk:
        yield Finding(
            "versions", "problem", said, f"pip install 'opentelemetry-api=={sdk}': both are of one release"
        )
    else:
        yield Finding("versions", "ok", said)
    betas: dict[str, list[str]] = {}
    for name, installed in sorted(found.items()):
        if (
            name.startswith("opentelemetry-instrumentation")
            and "genai" not in name
            and installed.startswith("0.")
        ):
            betas.setdefault(installed, []).append(name)
    contrib = found.get("opentelemetry-instrumentation", "")
    for installed, names in betas.items():
        if installed != contrib and not any(name in _OTHERS for name in names):
            yield Finding(
                "versions", "problem", f"{', '.join(names)} {installed} beside opentelemetry-instrumentation {contrib}",
                f"pip install {' '.join(f'{name}=={contrib}' for name in names)}",
            )  # fmt: skip


def variables(examined: Examined) -> Iterator[Finding]:
    """Names that nobody reads, and values that cannot work."""
    known = [*ENVIRONMENT.values()]
    for name in sorted(examined.environ):
        if name.startswith("GENAPP_") and name not in known:
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
            remedy = f"write {close[0]}" if close else f"known are {', '.join(known)}"
            yield Finding("settings", "problem", f"{name} is read by nobody", remedy)
    named = examined.app or said_by_environment("app", examined.environ)
    if not named:
        yield Finding("settings", "problem", "no app is named", _name_one(examined))
    try:
        # Without an app, whatever else is wrong is said all the same.
        settings = read_settings(examined.environ, app=examined.app if named else "any", env=examined.env)
    except ConfigError as error:
        yield Finding("settings", "problem", str(error), "correct the value that is named")
        return
    if not named:
        return
    yield Finding("settings", "ok", f"app {settings.app}, env {settings.env}")
    if settings.otel.disabled:
        yield Finding(
            "settings", "warning", "OTEL_SDK_DISABLED is true: nothing is recorded", "unset OTEL_SDK_DISABLED"
        )
    if not settings.internal_auth and settings.env != "dev":
        yield Finding(
            "settings", "problem", f"no token in {settings.env}: /events/… and /genapp/ are not mounted",
            f"set {ENVIRONMENT['internal_auth']} to a long random text",
        )  # fmt: skip
    sampler = examined.environ.get("OTEL_TRACES_SAMPLER", "")
    if "always_off" in sampler:
        yield Finding(
            "settings", "warning", f"OTEL_TRACES_SAMPLER is {sampler}: no spans are exported or kept",
            "numbers stay exact; for traces set parentbased_always_on",
        )  # fmt: skip
    if "PROMETHEUS_MULTIPROC_DIR" in examined.environ:
        yield Finding(
            "settings", "warning", "PROMETHEUS_MULTIPROC_DIR is set: prometheus_client keeps files of its own",
            "our families need none: unset it unless other metrics of the app do",
        )  # fmt: skip


def _name_one(examined: Examined) -> str:
    here = [one.rpartition("-") for one in apps_here(said_by_environment("state_dir", examined.environ))]
    listed = ", ".join(f"--app {app} --env {env}" for app, _, env in here)
    return f"give --app NAME, or set {ENVIRONMENT['app']}; on this host there are: {listed or 'none'}"


def instrumentation(examined: Examined) -> Iterator[Finding]:
    """Which libraries are seen, and which are seen twice."""
    for name in _FRAMEWORKS:
        if importlib.util.find_spec(name) is None:
            continue
        needed = _NEEDED.get(name)
        if needed is not None and not _is_installed(needed):
            yield Finding(
                "instrumentation", "warning", f"{name} {version(name)} is here and {needed} is not",
                f"pip install 'otel-genapp[{name}]'",
            )  # fmt: skip
        else:
            yield Finding("instrumentation", "ok", f"{name} {version(name)} is seen")
    for name in _OTHERS:
        if _is_installed(name):
            yield Finding(
                "instrumentation", "warning", f"{name} {version(name)} makes LLM spans too",
                "calls count once all the same; remove it unless you want its spans",
            )  # fmt: skip
    if "auto_instrumentation" in examined.environ.get("PYTHONPATH", ""):
        yield Finding(
            "instrumentation", "warning", "opentelemetry-instrument is active: requests may have two spans",
            "start the app without it: init_telemetry() instruments by itself",
        )  # fmt: skip


def _is_installed(name: str) -> bool:
    try:
        return bool(version(name))
    except PackageNotFoundError:
        return False
