"""`/prometheus` of servers whose workers are killed: one sum, whoever answers, and never a step back."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from otel_genapp.state_directory import StateDirectory
from tests.faults.worker_fleet import Fleet, Scraper, killing
from tests.forked import in_child
from tests.metric_workers import Worker
from tests.processes import ROOT

DEADLINE_S = 30.0
LAST_S = 0.2
WORKERS = 4
_SERVERS = {
    "gunicorn sync": "gunicorn tests.programs.flask_app:app -b fd://{fd} -w 4 --log-level critical",
    "gunicorn gthread": (
        "gunicorn tests.programs.flask_app:app -b fd://{fd} -w 4 -k gthread --threads 4 --log-level critical"
    ),
    "gunicorn preload": (
        "gunicorn tests.programs.flask_app:app -b fd://{fd} -w 4 --preload --log-level critical"
    ),
    "uvicorn": "uvicorn tests.programs.fastapi_app:app --fd {fd} --workers 4 --log-level critical",
}

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no such servers")


class Server(Fleet):
    """One of `_SERVERS`, running."""

    def workers(self) -> list[psutil.Process]:
        """The living workers; uvicorn's have a tracker beside them."""
        with suppress(psutil.Error):
            return [
                child
                for child in psutil.Process(self.process.pid).children()
                if child.status() != psutil.STATUS_ZOMBIE
                and not any("resource_tracker" in word for word in child.cmdline())
            ]
        return []

    def total(self, name: str, **labels: str) -> float:
        """The sum of the samples with these labels."""
        wanted = set(labels.items())
        return sum(
            value for (known, said), value in self.scrape().items() if known == name and wanted <= said
        )


@contextmanager
def serving(kind: str, port: int = 0) -> Iterator[Server]:
    """The server with four workers, all of them there."""
    with socket.create_server(("127.0.0.1", port), backlog=512) as listening:
        command = _SERVERS[kind].format(fd=listening.fileno()).split()
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "APP": "fleet", "OTEL_TRACES_SAMPLER": "always_off"},
            pass_fds=[listening.fileno()],
            stderr=subprocess.DEVNULL,
        )
        server = Server(listening.getsockname()[1], process)
        try:
            wait_for_workers(server)
            yield server
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(DEADLINE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                raise


def wait_for_workers(server: Server) -> None:
    """Until four workers have said that they are there."""
    folder = Path(os.environ["XDG_STATE_HOME"]) / "otel-genapp/fleet-prod"
    deadline = time.monotonic() + DEADLINE_S
    while len(server.workers()) < WORKERS or joined(folder) < WORKERS:
        assert server.process.poll() is None, "the server stopped at once"
        assert time.monotonic() < deadline, "the workers do not come"
        time.sleep(0.05)


def joined(folder: Path) -> int:
    """How many workers have a lock."""
    return len(list(folder.glob("metrics-*.lock")))


@dataclass
class Load:
    """Clients that ask for work until they are told to stop."""

    server: Server
    asked: int = 0
    answered_at_s: list[float] = field(default_factory=list)

    @contextmanager
    def running(self, threads: int = 4) -> Iterator[None]:
        """While the block runs."""
        done = threading.Event()

        def ask() -> None:
            while not done.is_set():
                self.asked += 1
                with suppress(OSError, http.client.HTTPException):
                    if self.server.get("/work")[0] == 200:
                        self.answered_at_s.append(time.monotonic())

        asking = [threading.Thread(target=ask) for _ in range(threads)]
        for thread in asking:
            thread.start()
        try:
            yield
        finally:
            done.set()
            for thread in asking:
                thread.join()

    def most_within(self, seconds: float) -> int:
        """The most requests that were answered within so many seconds."""
        times, start, most = sorted(self.answered_at_s), 0, 0
        for end, moment in enumerate(times):
            while times[start] < moment - seconds:
                start += 1
            most = max(most, end - start + 1)
        return most


def wait_for(server: Server, expected: float, name: str, **labels: str) -> float:
    """The sum once it is as expected, or at the deadline."""
    deadline = time.monotonic() + DEADLINE_S
    while (found := server.total(name, **labels)) < expected and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def check_kills(kind: str, *, scrapes: int, kill_every_s: float) -> None:
    with serving(kind) as server:
        load, scraper = Load(server), Scraper(server)
        with load.running(), scraper.watching(), killing(server, every_s=kill_every_s) as killed:
            deadline = time.monotonic() + 60 + scrapes
            while scraper.scrapes < scrapes:
                assert time.monotonic() < deadline
                time.sleep(0.1)
        answered = len(load.answered_at_s)
        totals = server.json("/events/metrics")
        assert (
            wait_for(server, totals["total_requests"], "genapp_llm_requests_total")
            == totals["total_requests"]
        )
        assert totals["total_requests"] >= answered
        http_requests = server.total("genapp_http_requests_total", resource="/work")
        # What a killed worker held of its last 200 ms: it writes twice in that time.
        assert answered - len(killed) * load.most_within(LAST_S) <= http_requests <= load.asked
        assert server.total("genapp_http_request_duration_sec_count", resource="/work") == http_requests
    assert scraper.backward == []
    assert len(killed) >= 2


@pytest.mark.slow
@pytest.mark.parametrize("kind", _SERVERS)
def test_killed_workers_take_nothing_back(kind: str) -> None:
    """In 100 scrapes under load, with workers killed, nothing steps back and LLM calls are the ledger's."""
    check_kills(kind, scrapes=100, kill_every_s=1.0)


@pytest.mark.soak
@pytest.mark.parametrize("kind", _SERVERS)
def test_killed_workers_take_nothing_back_in_the_long_run(kind: str) -> None:
    """The same in 500 scrapes."""
    check_kills(kind, scrapes=500, kill_every_s=1.5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gunicorn gthread", "uvicorn"])
def test_all_is_there_at_once_and_after_the_death_of_all(kind: str) -> None:
    """Right after the load every worker says the same sum; once it is quiet, killing all loses nothing."""
    with serving(kind) as server:
        load = Load(server)
        with load.running():
            time.sleep(1)
        answered = len(load.answered_at_s)
        # Twelve scrapes, by any worker: a request is counted after its last byte.
        found = [
            wait_for(server, answered, "genapp_http_requests_total", resource="/work") for _ in range(12)
        ]
        assert found == [answered] * 12
        time.sleep(3 * LAST_S)
        for worker in server.workers():
            worker.kill()
        with suppress(OSError, http.client.HTTPException):
            server.get("/work")  # gunicorn's old sockets
        deadline = time.monotonic() + DEADLINE_S
        while True:
            assert time.monotonic() < deadline
            with suppress(OSError, http.client.HTTPException, AssertionError):
                after = server.total("genapp_http_requests_total", resource="/work")
                break
            time.sleep(0.1)
        assert answered <= after <= answered + 1


@pytest.mark.slow
def test_two_deployments_of_one_app_do_not_add_up() -> None:
    """Two servers of the same app and env, side by side, count for themselves."""
    with serving("gunicorn gthread") as blue, serving("gunicorn sync") as green:
        for server, number in ((blue, 3), (green, 5)):
            for _ in range(number):
                server.get("/work")
        assert wait_for(blue, 3, "genapp_http_requests_total", resource="/work") == 3
        assert wait_for(green, 5, "genapp_http_requests_total", resource="/work") == 5


def restart_often(folder: Path, times: int) -> None:
    """A server whose workers come, count a request and are killed, one after the other."""
    state = StateDirectory(folder)
    master = Worker(state, "0", {})
    for number in range(1, times + 1):
        child = os.fork()
        if child == 0:
            worker = Worker(state, f"{number}", {})
            worker.ask()
            worker.metrics._persist(worker.metrics._take)
            if number % 2:
                worker.metrics._others.bury_if_any()
            os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(child, 0)
    del master


@pytest.mark.parametrize(
    "times", [pytest.param(150, marks=pytest.mark.slow), pytest.param(1000, marks=pytest.mark.soak)]
)
def test_many_restarts_leave_few_files(tmp_path: Path, times: int) -> None:
    """After so many killed workers there are some files, and they hold a request of each."""
    folder = tmp_path / "shop-dev"
    in_child(lambda: restart_often(folder, times))
    assert len(list(folder.iterdir())) < 20
    last = Worker(StateDirectory(folder), "f", {})
    assert last.value("genapp_http_requests_total") == times
    assert len(list(folder.iterdir())) < 10
    last.metrics.end()
