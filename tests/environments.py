"""Python environments for programs that run next to what this one must not have installed.

Made on demand under the user's cache directory, outside the checkout, and keyed by what is in them.
Pin what you name: pip then has nothing to search for, and runs can be compared.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PIP_TIMEOUT_S = 300.0

_SAID_CHARACTERS = 2000


class EnvironmentMissingError(Exception):
    """An environment cannot be made here; the message ends with what pip said."""


def python_of(
    name: str,
    *,
    packages: Sequence[str],
    constraints: Path | None = None,
    unconstrained: Sequence[str] = (),
) -> Path:
    """The interpreter of the environment `name` with `packages`, which is made first where it is missing.

    Args:
        name: names the folder, together with a key of everything that goes into it.
        packages: requirements as pip takes them.
        constraints: a file of further pins, such as this project's `constraints.txt`.
        unconstrained: names in that file whose pins do not hold here.

    Raises:
        EnvironmentMissingError: pip could not install it.
    """
    lines = constraints.read_text().splitlines() if constraints is not None else []
    pins = "".join(f"{line}\n" for line in lines if line.partition("==")[0] not in unconstrained)
    key = hashlib.sha256("\n".join((sys.version, pins, *packages)).encode()).hexdigest()[:12]
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(home, "otel-genapp", f"{name}-{key}")
    complete = folder / "complete"
    with _alone(folder):
        if not complete.exists():
            print(f"making the environment {folder}", file=sys.stderr)  # noqa: T201 - it takes a while
            _make(folder, packages, pins=pins)
            complete.touch()
        os.utime(folder)  # what is not used for long may be cleaned up
    return folder / "bin" / "python"


def _make(folder: Path, packages: Sequence[str], *, pins: str) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    held = folder / "constraints.txt"
    held.write_text(pins)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    try:
        subprocess.run(
            [*pip, "-c", str(held), *packages],
            check=True,
            timeout=PIP_TIMEOUT_S,
            capture_output=True,
            text=True,
        )
    except subprocess.TimeoutExpired:
        raise EnvironmentMissingError(f"{folder.name}: pip took over {PIP_TIMEOUT_S:g} s") from None
    except subprocess.CalledProcessError as error:
        raise EnvironmentMissingError(f"{folder.name}: {error.stderr[-_SAID_CHARACTERS:]}") from None


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let two test runs that need the same environment make it once."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
