"""The Python environments the arms run in: this one for ours, one of its own for each peer.

Made on demand under the user's cache directory and keyed by what is in them. constraints.txt holds
for the peers too, so that all arms share one FastAPI and one OpenTelemetry.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import venv
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OURS = "genapp"
PEERS = {
    "stock": ("fastapi", "opentelemetry-exporter-prometheus", "opentelemetry-instrumentation-fastapi"),
    "pfi": ("fastapi", "prometheus-fastapi-instrumentator==8.1.0"),
}


def python_of(environment: str) -> Path:
    """The interpreter of an environment, which is made first where it is missing.

    Raises:
        subprocess.CalledProcessError: pip could not install it.
    """
    if environment == OURS:
        return Path(sys.executable)
    constraints = ROOT / "constraints.txt"
    inputs = "\n".join((sys.version, constraints.read_text(), *PEERS[environment]))
    key = hashlib.sha256(inputs.encode()).hexdigest()[:12]
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(home, "otel-genapp", f"bench-{environment}-{key}")
    python = folder / "bin" / "python"
    if (folder / "complete").exists():
        return python
    print(f"making the environment of {environment} in {folder}", file=sys.stderr)
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    subprocess.run([*pip, "--upgrade", "pip"], check=True)
    subprocess.run([*pip, "-c", str(constraints), *PEERS[environment]], check=True)
    (folder / "complete").touch()
    return python


def versions() -> dict[str, str]:
    """What the ratios were measured with."""
    names = (
        "fastapi",
        "starlette",
        "opentelemetry-sdk",
        "opentelemetry-instrumentation-fastapi",
        "prometheus-client",
    )
    peer = PEERS["pfi"][-1].split("==")
    return {"python": sys.version.split()[0], **{name: version(name) for name in names}, peer[0]: peer[1]}
