"""Programs in processes of their own: started, fed with work, ended, and what became of them."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

DEADLINE_S = 30.0
ROOT = Path(__file__).resolve().parents[1]
CALLS = 20

_SERVERS = {
    "uvicorn": "uvicorn tests.programs.fastapi_app:app --fd {fd}",
    "uvicorn workers": "uvicorn tests.programs.fastapi_app:app --fd {fd} --workers 2",
    "hypercorn": "hypercorn tests.programs.fastapi_app:app --bind fd://{fd}",
    "hypercorn wsgi": "hypercorn wsgi:tests.programs.flask_app:app --bind fd://{fd}",
    "gunicorn sync": "gunicorn tests.programs.flask_app:app -b fd://{fd}",
    "gunicorn gthread": "gunicorn tests.programs.flask_app:app -b fd://{fd} -k gthread --threads 4",
    "gunicorn preload": "gunicorn tests.programs.flask_app:app -b fd://{fd} --preload",
    "gunicorn asgi": "gunicorn tests.programs.fastapi_app:app -b fd://{fd} -k asgi",
}
SCRIPTS = (
    "returns", "raises", "waits", "handles", "handles_later", "kills_itself", "polls", "polls_on", "forks",
)  # fmt: skip
KINDS = (*_SERVERS, *SCRIPTS)
ENDS_ALONE = frozenset({"returns", "raises", "forks"})


@dataclass(frozen=True)
class Ending:
    """How a program ended, seconds after it was told to, and what it said it had done."""

    exit_code: int
    seconds: float
    words: tuple[str, ...]
    spans: frozenset[str]


class Program:
    """One of `KINDS`, running."""

    def __init__(self, kind: str, environment: Mapping[str, str]) -> None:
        self._kind = kind
        self._words: list[str] = []
        self._spans: set[str] = set()
        settings = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **environment}
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=100)
        if kind in _SERVERS:
            command = f"{_SERVERS[kind]} --log-level critical".format(fd=self._listening.fileno()).split()
        else:
            command = ["tests.programs.scripts", kind, str(CALLS)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=ROOT,
            env=settings,
            pass_fds=[self._listening.fileno()] if kind in _SERVERS else (),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def serve(self) -> None:
        """Get its `CALLS` pieces of work done."""
        if self._kind in _SERVERS:
            for _ in range(CALLS):
                self._spans.update(self._ask())
            return
        assert self._process.stdout is not None
        while "ready" not in self._words:
            line = self._process.stdout.readline()
            assert line, f"{self._kind} died: {self._process.communicate()[1]}"
            self._hear(line)

    def end(self) -> Ending:
        """Tell it to end, and wait."""
        began = time.monotonic()
        if self._kind not in ENDS_ALONE:
            self._process.send_signal(signal.SIGTERM)
        try:
            said, complaints = self._process.communicate(timeout=DEADLINE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise
        finally:
            self._listening.close()
        seconds = time.monotonic() - began
        for line in said.splitlines():
            self._hear(line)
        assert "Traceback" not in complaints, complaints
        return Ending(self._process.returncode, seconds, tuple(self._words), frozenset(self._spans))

    def _ask(self) -> list[str]:
        host, port = self._listening.getsockname()
        connection = http.client.HTTPConnection(host, port, timeout=DEADLINE_S)
        try:
            connection.request("GET", "/work")
            answer = connection.getresponse()
            body = answer.read()
            assert answer.status == 200, body
            found: list[str] = json.loads(body)
            return found
        finally:
            connection.close()

    def _hear(self, line: str) -> None:
        word, spans = json.loads(line)
        self._words.append(word)
        self._spans.update(spans)
