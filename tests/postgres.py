"""A real PostgreSQL on loopback, made for the tests and stopped after them."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

_DEADLINE_S = 30.0


@dataclass
class Postgres:
    """A server with its data in a directory of its own; it can be killed and started again."""

    bin: Path
    folder: Path
    port: int
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The URL of its database, as a store takes it."""
        return f"postgresql+psycopg://tester@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start it, if it is not running, and wait until it answers."""
        if self._process is not None:
            return
        command = [
            str(self.bin / "postgres"), "-D", str(self.folder / "data"), "-h", "127.0.0.1", "-p", str(self.port),
            "-k", str(self.folder), "-c", "fsync=off", "-c", "max_connections=60",
        ]  # fmt: skip
        log = (self.folder / "log").open("ab")
        self._process = subprocess.Popen(command, stdout=log, stderr=log, **_as_nobody())
        log.close()
        deadline = time.monotonic() + _DEADLINE_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError((self.folder / "log").read_text(errors="replace")[-2000:])
            time.sleep(0.05)

    def kill(self) -> None:
        """End it at once, as a crash does."""
        self._stop("immediate")

    def stop(self) -> None:
        """End it in order."""
        self._stop("fast")

    def _stop(self, mode: str) -> None:
        process, self._process = self._process, None
        if process is not None:
            subprocess.run(
                [str(self.bin / "pg_ctl"), "-D", str(self.folder / "data"), "-m", mode, "stop"],
                check=False, capture_output=True, timeout=_DEADLINE_S, **_as_nobody(),
            )  # fmt: skip
            process.wait(_DEADLINE_S)

    def _answers(self) -> bool:
        ready = subprocess.run(
            [str(self.bin / "pg_isready"), "-h", "127.0.0.1", "-p", str(self.port)],
            check=False,
            capture_output=True,
        )
        return ready.returncode == 0


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """A server of its own; skips where PostgreSQL is not installed, and fails there with CI=true."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres")) or [
        Path(path) for path in (shutil.which("postgres"),) if path
    ]
    if not found:
        reason = "PostgreSQL is not installed: apt install postgresql"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    if os.geteuid() == 0:
        shutil.chown(folder, "nobody")
    server = Postgres(found[-1].parent, folder, _free_port())
    try:
        subprocess.run(
            [str(server.bin / "initdb"), "-D", str(folder / "data"), "-U", "tester", "-A", "trust", "-E", "UTF8", "-N"],
            check=True, capture_output=True, timeout=_DEADLINE_S, **_as_nobody(),
        )  # fmt: skip
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _as_nobody() -> dict[str, Any]:
    """PostgreSQL refuses to run as root."""
    return {"user": "nobody", "cwd": "/"} if os.geteuid() == 0 else {}
