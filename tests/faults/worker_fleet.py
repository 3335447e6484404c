"""A gunicorn with workers that die, clients who know what they asked for, and a scraper that never looks away."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import psutil
from prometheus_client.parser import text_string_to_metric_families

from tests.processes import ROOT

KINDS = ("plain", "stream", "fail", "cancel", "retried", "plain", "stream")
DEADLINE_S = 30.0
MONOTONE = ("_total", "_bucket", "_count", "_sum")


@dataclass
class Fleet:
    """The running server."""

    port: int
    process: subprocess.Popen[bytes]

    def get(self, target: str) -> tuple[int, bytes]:
        """Status and body; the connection is not kept, so that any worker may answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_S)
        try:
            connection.request("GET", target, headers={"x-internal-auth": "test"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def json(self, target: str) -> Any:
        """What the target answers, as JSON."""
        status, body = self.get(target)
        assert status == 200, body
        return json.loads(body)

    def scrape(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """Every sample of `/prometheus` whose value only grows."""
        status, body = self.get("/prometheus")
        assert status == 200, body
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(body.decode())
            for sample in family.samples
            if sample.name.startswith("genapp_") and sample.name.endswith(MONOTONE)
        }

    def workers(self) -> list[psutil.Process]:
        """The living workers."""
        return psutil.Process(self.process.pid).children()


@contextmanager
def gunicorn_fleet(
    module: str, environment: Mapping[str, str], *, workers: int = 4, options: Sequence[str] = ()
) -> Iterator[Fleet]:
    """`module:app` on gunicorn with workers of two threads, ended with the block."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listening:
        process = subprocess.Popen(
            [
                sys.executable, "-m", "gunicorn", f"{module}:app", "-b", f"fd://{listening.fileno()}",
                "-w", str(workers), "-k", "gthread", "--threads", "2", "--log-level", "critical", *options,
            ],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            pass_fds=[listening.fileno()],
        )  # fmt: skip
        fleet = Fleet(listening.getsockname()[1], process)
        try:
            _wait_for(fleet, workers)
            yield fleet
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(DEADLINE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                raise


class Answered(NamedTuple):
    """Who answered, and when (of the monotonic clock)."""

    worker: int
    at_s: float


@dataclass
class Clients:
    """Who asks the fleet: what was asked for and what was answered is known here, outside of it."""

    fleet: Fleet
    total: int
    seed: int = 7
    issued: dict[str, str] = field(default_factory=dict)
    """Session -> the kind of its one call."""
    answered: dict[str, Answered] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def run(self, threads: int = 8) -> None:
        """Ask until the total is reached."""
        asking = [threading.Thread(target=self._ask) for _ in range(threads)]
        for thread in asking:
            thread.start()
        for thread in asking:
            thread.join()

    def _ask(self) -> None:
        while (number := next(self._numbers)) < self.total:
            session, kind = f"ask-{number}", KINDS[number % len(KINDS)]
            self.issued[session] = kind
            try:
                status, body = self.fleet.get(f"/ask?id={session}&kind={kind}")
            except (OSError, http.client.HTTPException):
                continue  # its worker was killed: nobody knows how far it came
            if status == 200:
                self.answered[session] = Answered(json.loads(body)["worker"], time.monotonic())


@contextmanager
def killing(fleet: Fleet, *, every_s: float, seed: int = 3) -> Iterator[dict[int, float]]:
    """Kills one worker after the other, at random; gives who was killed when (of the monotonic clock)."""
    chance, done = random.Random(seed), threading.Event()  # noqa: S311 - repeatable on purpose
    killed: dict[int, float] = {}

    def kill() -> None:
        while not done.wait(every_s):
            living = fleet.workers()
            if living:
                victim = chance.choice(living)
                killed[victim.pid] = time.monotonic()
                victim.send_signal(signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        done.set()
        thread.join()


@dataclass
class Scraper:
    """Scrapes all the time, and notes each step back."""

    fleet: Fleet
    scrapes: int = 0
    failed: int = 0
    backward: list[str] = field(default_factory=list)
    durations_s: list[float] = field(default_factory=list)

    @contextmanager
    def watching(self, pause_s: float = 0.02) -> Iterator[Scraper]:
        """Scrape while the block runs."""
        done = threading.Event()

        def scrape() -> None:
            before: dict[Any, float] = {}
            while not done.wait(pause_s):
                began_s = time.perf_counter()
                try:
                    now = self.fleet.scrape()
                except (OSError, http.client.HTTPException, AssertionError):
                    self.failed += 1  # the worker that was asked is dead
                    continue
                self.durations_s.append(time.perf_counter() - began_s)
                self.scrapes += 1
                self.backward += [
                    f"{name} {dict(labels)}: {value} -> {now.get((name, labels))}"
                    for (name, labels), value in before.items()
                    if now.get((name, labels), 0) < value
                ]
                before = now

        thread = threading.Thread(target=scrape)
        thread.start()
        try:
            yield self
        finally:
            done.set()
            thread.join()


def _wait_for(fleet: Fleet, workers: int) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while True:
        assert fleet.process.poll() is None, "gunicorn stopped at once"
        assert time.monotonic() < deadline, "gunicorn does not answer"
        try:
            if len(fleet.workers()) == workers and fleet.get("/prometheus")[0] == 200:
                return
        except (OSError, http.client.HTTPException):
            time.sleep(0.05)
