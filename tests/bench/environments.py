"""The Python environments the arms run in: this one for ours, one of its own for each peer.

What the cost of an arm is made of comes from constraints.txt for the peers too, except for what they
pin themselves: all arms share one FastAPI, one openai SDK and one OpenTelemetry.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

from tests import environments

OURS = "genapp"
PEERS = {
    "stock": ("fastapi", "opentelemetry-exporter-prometheus", "opentelemetry-instrumentation-fastapi"),
    "pfi": ("fastapi", "prometheus-fastapi-instrumentator==8.1.0"),
    "otel": ("openai", "opentelemetry-sdk", "opentelemetry-instrumentation-genai-openai==1.3b0"),
    "openllmetry": ("openai", "opentelemetry-sdk", "opentelemetry-instrumentation-openai==0.62.4"),
    "openinference": ("openai", "opentelemetry-sdk", "openinference-instrumentation-openai==0.1.66"),
    # Not ready for version 3 of the SDK.
    "openlit": ("openai==2.54.0", "opentelemetry-sdk", "openlit==1.45.0"),
    # The last final version wants an older OpenTelemetry.
    "logfire": ("openai", "opentelemetry-sdk", "logfire==6.0.0b8"),
    "langfuse": ("openai", "opentelemetry-sdk", "langfuse==5.0.4"),
}
COMMON = re.compile(
    r"opentelemetry-.*|fastapi|starlette|anyio|openai|jiter|httpx2?|httpcore2?|h11|pydantic|pydantic-core"
    r"|prometheus-client|wrapt|typing-extensions|protobuf|requests"
)
"""Of these there is one version everywhere; the rest of constraints.txt is no concern of the peers."""
SHARED = {
    "http": ("fastapi", "starlette", "opentelemetry-sdk", "opentelemetry-instrumentation-fastapi"),
    "scrape": ("opentelemetry-sdk", "opentelemetry-exporter-prometheus", "prometheus-client"),
    "ledger": ("pydantic",),
    "outage": ("opentelemetry-sdk",),
    "workers": ("prometheus-client", "gunicorn", "flask"),
    **dict.fromkeys(("llm", "whole"), ("openai", "httpx2", "pydantic", "opentelemetry-sdk")),
}
"""Comparison -> the packages whose versions say most about its numbers."""


def python_of(environment: str) -> Path:
    """The interpreter of an environment, which is made first where it is missing.

    Raises:
        EnvironmentMissingError: pip could not install it.
    """
    if environment == OURS:
        return Path(sys.executable)
    packages = PEERS[environment]
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as constraints:
        constraints.write(_constraints_beside(packages))
        constraints.flush()
        return environments.python_of(
            f"bench-{environment}", packages=packages, constraints=Path(constraints.name)
        )


def versions(comparison: str, peers: Iterable[str]) -> list[str]:
    """What a comparison is measured with: what the arms share, and what a peer pins itself."""
    shared = [f"{name} {version(name)}" for name in SHARED[comparison]]
    own = [pin for peer in peers if peer != OURS for pin in PEERS[peer] if "==" in pin]
    return [f"python {sys.version.split()[0]}", *shared, *dict.fromkeys(own)]


def _constraints_beside(packages: tuple[str, ...]) -> str:
    own = {package.partition("==")[0] for package in packages if "==" in package}
    lines = (environments.ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    names = {line: line.partition("==")[0] for line in lines}
    return "".join(f"{line}\n" for line in lines if COMMON.fullmatch(names[line]) and names[line] not in own)
