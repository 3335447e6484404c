"""The `otel-genapp` command as its users run it: a process, its output and its exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.processes import ROOT

COMMAND = [sys.executable, "-W", "error", "-m", "otel_genapp"]
LIMIT_S = 60.0


@dataclass(frozen=True)
class Done:
    """How a command ended, and what it said."""

    code: int
    out: str
    error: str

    @property
    def json(self) -> Any:
        """Its data."""
        return json.loads(self.out)


def environment(given: Mapping[str, str]) -> dict[str, str]:
    """The environment of a program of these tests."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **given}


def run_command(*arguments: str, **given: str) -> Done:
    """Run a command to its end, with further environment."""
    done = subprocess.run(
        [*COMMAND, *arguments],
        env=environment(given),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


class Following:
    """A command that goes on until it is told to end; `lines` is what it has printed so far."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self.errors: list[str] = []
        self._readers = [
            threading.Thread(target=self._read, args=pair)
            for pair in ((process.stdout, self.lines), (process.stderr, self.errors))
        ]
        for reader in self._readers:
            reader.start()

    def until(self, holds: Callable[[Following], bool]) -> None:
        """Wait until something holds."""
        deadline = time.monotonic() + LIMIT_S
        while not holds(self):
            assert time.monotonic() < deadline, (self.lines, self.errors)
            assert self.process.poll() is None, self.errors
            time.sleep(0.02)

    def interrupt(self) -> int:
        """Press Ctrl-C; the exit code."""
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(LIMIT_S)
        for reader in self._readers:
            reader.join(LIMIT_S)
        return code

    @staticmethod
    def _read(stream: Any, lines: list[str]) -> None:
        for line in stream:
            lines.append(line.rstrip("\n"))  # noqa: PERF401 - as they come


@contextmanager
def following(*arguments: str, **given: str) -> Iterator[Following]:
    """A command that runs meanwhile."""
    with subprocess.Popen(
        [*COMMAND, *arguments],
        env=environment(given),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Following(process)
        finally:
            process.kill()


class Worker:
    """A process that makes LLM calls for the session `anna`."""

    def __init__(self, given: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.programs.chatting_worker"],
            env=environment(given),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def tell(self, word: str) -> Any:
        """What it answers to a word."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def kill(self) -> None:
        """End it as `kill -9` does."""
        self._process.kill()
        self._process.communicate()


@contextmanager
def working(given: Mapping[str, str], number: int = 1) -> Iterator[list[Worker]]:
    """So many workers of one app, killed after the block."""
    workers = [Worker(given) for _ in range(number)]
    try:
        yield workers
    finally:
        for worker in workers:
            worker.kill()
