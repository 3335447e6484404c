"""Health of servers with workers: the worst of them is shown, one keeps the history, another one when it is killed."""

from __future__ import annotations

import http.client
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from otel_genapp.bootstrap import init_telemetry, probing, shutdown
from tests.faults.worker_fleet import Fleet, gunicorn_fleet
from tests.forked import in_child

DEADLINE_S = 40.0
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no such servers")


def running() -> int:
    """How many threads watch over checks here."""
    return sum(thread.name == "otel-genapp-health" for thread in threading.enumerate())


@pytest.fixture
def dependency(tmp_path: Path) -> Path:
    path = tmp_path / "dependency"
    path.touch()
    return path


@pytest.fixture(params=["plain", "preload"])
def fleet(request: pytest.FixtureRequest, dependency: Path) -> Iterator[Fleet]:
    """Two workers that import the app, or are forked from a master that did."""
    options = ["--preload"] if request.param == "preload" else []
    environment = {"DEPENDENCY": str(dependency)}
    with gunicorn_fleet("tests.programs.healthy_app", environment, workers=2, options=options) as fleet:
        yield fleet


def ask(fleet: Fleet, path: str) -> Any:
    """The answer of any worker; None where none answers now."""
    with suppress(OSError, http.client.HTTPException, ValueError):
        return json.loads(fleet.get(path)[1])
    return None


def wait_for(found: Callable[[], Any], good: Callable[[Any], bool]) -> Any:
    deadline = time.monotonic() + DEADLINE_S
    while not good(seen := found()):
        assert time.monotonic() < deadline, seen
        threading.Event().wait(0.05)
    return seen


def leader(fleet: Fleet) -> int:
    """The process that keeps the history."""
    said = wait_for(lambda: ask(fleet, "/events/sla"), lambda said: bool(said and said["checked_by"]))
    return int(said["checked_by"]["pid"])


def requests(fleet: Fleet) -> int:
    """How many requests are in the history."""
    said = ask(fleet, "/events/sla")
    return int(said["response_time"]["requests"]) if said else 0


def up(fleet: Fleet) -> list[str]:
    """The samples of the check in a scrape."""
    text = fleet.get("/prometheus")[1].decode()
    return [line.rpartition(" ")[2] for line in text.splitlines() if line.startswith("genapp_health_up{")]


@pytest.mark.slow
def test_one_worker_keeps_the_history_and_another_one_after_it(fleet: Fleet, dependency: Path) -> None:
    """Killed with -9, the leader is followed by another worker, and the app was up all the time."""
    wait_for(lambda: len(fleet.workers()), lambda number: number == 2)
    first = leader(fleet)
    workers = {process.pid for process in fleet.workers()}
    assert first in workers
    assert {leader(fleet) for _ in range(6)} == {first}
    since = ask(fleet, "/events/sla")["since"]
    os.kill(first, signal.SIGKILL)
    said = wait_for(
        lambda: ask(fleet, "/events/sla"), lambda said: bool(said and said["checked_by"]["pid"] != first)
    )
    assert said["checked_by"]["pid"] in {process.pid for process in fleet.workers()}
    assert said["since"] == since
    assert (said["uptime"]["current"], said["uptime"]["intervals_not_running"]) == (1.0, 0)
    dependency.unlink()
    wait_for(
        lambda: ask(fleet, "/events/sla"), lambda said: bool(said and said["uptime"]["intervals_down"] == 1)
    )


@pytest.mark.slow
def test_all_workers_say_how_it_is(fleet: Fleet, dependency: Path) -> None:
    """Whoever answers, it is one series, and a dependency that is gone is down in all of them."""
    wait_for(lambda: up(fleet), lambda values: values == ["1.0"])
    assert [fleet.get("/health")[0] for _ in range(6)] == [200] * 6
    dependency.unlink()
    wait_for(lambda: up(fleet), lambda values: values == ["0.0"])
    wait_for(lambda: [fleet.get("/health")[0] for _ in range(6)], lambda codes: codes == [503] * 6)


@pytest.mark.slow
def test_requests_of_all_workers_are_in_the_history(dependency: Path) -> None:
    """Response times are those of all workers, each request once, and a killed leader takes none with it."""
    with gunicorn_fleet("tests.programs.healthy_app", {"DEPENDENCY": str(dependency)}, workers=2) as fleet:
        first, asked = leader(fleet), 0
        for total in (30, 50):
            while asked < total:
                asked += ask(fleet, "/work") is not None
            assert wait_for(lambda: requests(fleet), total.__le__) == total
            assert ask(fleet, "/events/sla")["response_time"]["compliant"] is True
            if total == 30:
                os.kill(first, signal.SIGKILL)
                wait_for(lambda: leader(fleet), lambda pid: pid != first)


def test_a_master_leaves_the_work_to_its_children() -> None:
    """Who is forked from soon after it began, and was asked nothing, does nothing until it is asked something."""
    telemetry = init_telemetry("shop", "dev")
    ran: list[int] = []
    parent = os.getpid()
    telemetry.health.add("database", lambda: ran.append(os.getpid()))
    try:
        assert running() == 1
        said = in_child(lambda: (telemetry.health.status()["status"], running(), ran[0] != parent))
        assert said == ("healthy", 1, True)
        threading.Event().wait(2 * probing.FIRST_PAUSE_S)
        assert ran == []
        assert telemetry.health.status()["status"] == "healthy"
        assert (running(), ran) == (1, [parent])
        in_child(running)
        assert running() == 1
    finally:
        shutdown()


@pytest.mark.parametrize("child_works", [False, True])
def test_a_master_sees_whether_its_children_do_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, child_works: bool
) -> None:
    """A bot whose child ended at once goes on by itself; who has a child that works has no thread of its own."""
    monkeypatch.setattr(probing, "YOUNG_S", 1.5)
    telemetry = init_telemetry("shop", "dev", state_dir=str(tmp_path))
    ran: list[int] = []
    telemetry.health.add("database", lambda: ran.append(os.getpid()), every_s=0.1)
    until, told = os.pipe()
    child = os.fork()
    if child == 0:
        with suppress(BaseException):
            os.close(told)
            if child_works:
                telemetry.health.status()
                os.read(until, 1)
        os._exit(0)
    try:
        os.close(until)
        if not child_works:
            os.waitpid(child, 0)
        threading.Event().wait(1.0)
        assert (running(), ran) == (1, [])
        wait_for(lambda: (running(), bool(ran)), (0, False).__eq__ if child_works else (1, True).__eq__)
    finally:
        os.close(told)
        if child_works:
            os.waitpid(child, 0)
        shutdown()
