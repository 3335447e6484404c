"""Which frameworks and SDKs are there, what becomes of their calls, and who else instruments them."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from otel_genapp.bootstrap.instrumentation import LIBRARIES, Library
from otel_genapp.cli.doctor.finding import Finding, Inspection, ok, warning
from otel_genapp.cli.doctor.packages import DISTRIBUTION, installed
from otel_genapp.config import ENVIRONMENT

READ = "its calls are read on the wire"
UNREAD = "its traffic is not read: count its calls with llm_call, or use an instrumentation"
SDKS: Mapping[str, str] = {
    "anthropic": READ, "cohere": READ, "google-genai": READ, "groq": READ, "langchain-openai": READ,
    "litellm": "calls over httpx are read on the wire, those over aiohttp are not: see its own spans",
    "mistralai": READ, "ollama": READ, "openai": READ, "together": UNREAD,
    "boto3": "calls to Bedrock go over urllib3, which is not read: count them with llm_call",
    "aiobotocore": UNREAD, "google-cloud-aiplatform": UNREAD, "replicate": READ, "huggingface-hub": READ,
}  # fmt: skip
"""Distribution -> what becomes of its calls to models."""

LLM_INSTRUMENTATIONS = re.compile(
    r"opentelemetry-instrumentation-(?:openai(?:-v2|-agents(?:-v2)?)?|anthropic|bedrock|cohere|google-genai"
    r"|google-generativeai|groq|langchain|llamaindex|mistralai|ollama|replicate|together|vertexai|watsonx|crewai"
    r"|haystack)"
    r"|openinference-instrumentation(?:-[a-z0-9-]+)?|traceloop-sdk|openlit|langtrace-python-sdk|langfuse"
)
"""Distributions that make LLM spans beside ours."""
_SERVERS = {
    "opentelemetry-instrumentation-starlette": "fastapi",
    "opentelemetry-instrumentation-tornado": "",
}
"""Distributions that make SERVER spans beside ours."""
_OURS = re.compile(
    r"opentelemetry-instrumentation-(?:fastapi|flask|httpx|aiohttp-client|threading|asgi|wsgi)"
)
_AUTO = "opentelemetry/instrumentation/auto_instrumentation"
_DISABLED = "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"


def check_frameworks(_: Inspection) -> Iterator[Finding]:
    """Whether each framework and client would be instrumented, and why not."""
    versions, _wishes = installed()
    absent = []
    for library in LIBRARIES:
        version = versions.get(library.module)
        if version is None:
            absent.append(library.module)
            continue
        lacking = list(_lacking(library, versions))
        if lacking:
            yield warning(
                f"{library.module} {version} is instrumented in part or not at all: {', '.join(lacking)}",
                f"pip install '{DISTRIBUTION}[{library.extra}]'",
            )
        else:
            yield ok(f"{library.module} {version} is instrumented when it is imported")
    if absent:
        yield ok(f"not installed: {', '.join(absent)}")


def check_sdks(inspection: Inspection) -> Iterator[Finding]:
    """What becomes of the calls of each SDK for models."""
    versions, _wishes = installed()
    found = [name for name in sorted(SDKS) if name in versions]
    settings = inspection.settings
    if settings is not None and not settings.llm_wire and found:
        yield warning(
            "LLM calls are not read on the wire, so those of SDKs count only where something makes spans of them",
            f"unset {ENVIRONMENT['llm_wire']}",
        )
        return
    for name in found:
        yield ok(f"{name} {versions[name]}: {SDKS[name]}")
    if not found:
        yield ok("no SDK for models is installed; calls made with httpx or httpx2 are read on the wire")


def check_doubles(inspection: Inspection) -> Iterator[Finding]:
    """Who else instruments the same calls."""
    versions, _wishes = installed()
    found = list(_doubles(versions))
    auto = auto_instrumentation(inspection)
    if auto:
        found.append(
            warning(
                f"automatic instrumentation is active ({auto}): it sets up providers and instruments libraries "
                "before this package does, which then attaches to them and leaves exporting to their owner",
                f"start without opentelemetry-instrument, or set {_DISABLED}=fastapi,flask,httpx,aiohttp-client",
            )
        )
    if inspection.environ.get(_DISABLED) and not auto:
        found.append(
            warning(
                f"{_DISABLED} is set: opentelemetry-instrument reads it, this package does not",
                f"unset it; what is read on the wire is turned off with {ENVIRONMENT['llm_wire']}=false",
            )
        )
    yield from found
    if not found:
        yield ok("nothing else instruments the same calls")


def auto_instrumentation(inspection: Inspection) -> str:
    """How `opentelemetry-instrument` is at work in this environment; "" where it is not."""
    module = sys.modules.get("sitecustomize")
    if _AUTO in Path(getattr(module, "__file__", None) or "").as_posix():
        return "sitecustomize"
    if _AUTO in inspection.environ.get("PYTHONPATH", "").replace("\\", "/"):
        return "PYTHONPATH"
    return ""


def _doubles(versions: Mapping[str, str]) -> Iterator[Finding]:
    for name, version in sorted(versions.items()):
        if LLM_INSTRUMENTATIONS.fullmatch(name):
            yield warning(
                f"{name} {version} makes LLM spans too: where it is active a call is counted once, and its span is "
                "that one's, filled in with what it lacks",
                f"keep one of the two: pip uninstall {name}, or {ENVIRONMENT['llm_wire']}=false",
            )
        elif name in _SERVERS and (not _SERVERS[name] or _SERVERS[name] in versions):
            yield warning(
                f"{name} {version} makes spans of requests that are spans already",
                f"pip uninstall {name}, or do not call its instrument()",
            )
    used = [
        name.removeprefix("opentelemetry-instrumentation-")
        for name in sorted(versions)
        if _OURS.fullmatch(name)
    ]
    if used:
        yield ok(
            f"OpenTelemetry's instrumentations of {', '.join(used)} are used by this package where needed"
        )


def _lacking(library: Library, versions: Mapping[str, str]) -> Iterator[str]:
    """What of the library's extra is missing or does not fit."""
    if not library.extra:
        return
    try:
        wishes = [Requirement(line) for line in metadata.requires(DISTRIBUTION) or ()]
    except metadata.PackageNotFoundError:
        return
    for wish in wishes:
        if wish.marker is None or not wish.marker.evaluate({"extra": library.extra}):
            continue
        version = versions.get(wish.name)
        if "extra" in str(wish.marker) and version is None:
            yield f"{wish.name} is not installed"
        elif version is not None and not wish.specifier.contains(version, prereleases=True):
            yield f"{wish.name} {version} is not {wish.specifier}"
