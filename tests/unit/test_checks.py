"""Ready-made checks: databases, HTTP services, LLM services, refused requests, rate limits."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
import sqlalchemy

from otel_genapp import checks, semconv
from otel_genapp.errors import MissingDependencyError
from otel_genapp.health.results import FAILED, PASSED, RAISED, Check, Outcome, Sources
from otel_genapp.health.runner import Runner
from otel_genapp.metrics.snapshot import Table
from tests.unit.health.test_runner import outcome_of

SECRET = "Zt7-mask_Blue0Whale91Xo"


class Service(BaseHTTPRequestHandler):
    """Answers by path, and models to those with the key."""

    def do_GET(self) -> None:
        status = int(self.path.rpartition("/")[2]) if self.path[-3:].isdigit() else 200
        if self.path == "/v1/models" and self.headers["authorization"] != f"Bearer {SECRET}":
            status = 401
        self.send_response(status)
        self.send_header("content-length", "5")
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as the base class has it
        pass


@pytest.fixture(scope="module")
def service() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def ran(check: Callable[[], Any], times: int = 1) -> list[Outcome]:
    """How the runs of a check end, as they would in an app."""
    runner = Runner(Check("it", check, timeout_s=10))
    try:
        return [outcome_of(runner) for _ in range(times)]
    finally:
        runner.close()


def bad(note: str) -> Outcome:
    return Outcome(healthy=False, reason="failed", note=note)


def test_a_database_answers() -> None:
    """A URL and an engine are asked; one that is not there fails without a word about where it is."""
    engine = sqlalchemy.create_engine("sqlite://")
    assert ran(checks.database("sqlite://"), 3) == [PASSED] * 3
    assert ran(checks.database(engine)) == [PASSED]
    assert ran(checks.database("sqlite:////nowhere/at/all.db")) == [RAISED]
    engine.dispose()


def test_a_redis_answers() -> None:
    """Sync and async clients are asked alike, and a URL without the library says what to install."""

    class Sync:
        def ping(self) -> bool:
            return True

    class Async:
        async def ping(self) -> bool:
            return False

    assert [ran(checks.redis(Sync())), ran(checks.redis(Async()))] == [[PASSED], [FAILED]]


def test_a_missing_library_is_said_when_the_check_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is the pip command."""
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'otel-genapp\[redis\]'"):
        checks.redis("redis://localhost")


def test_a_service_answers(service: str) -> None:
    """Statuses below 400 are good unless others are expected, and the body may be looked at."""
    asked = [
        checks.http(f"{service}/200"),
        checks.http(f"{service}/503"),
        checks.http(f"{service}/405", expect=405),
        checks.http(f"{service}/200", expect=(201, 202)),
        checks.http(f"{service}/", contains="hello"),
        checks.http(f"{service}/", contains="goodbye"),
        checks.http("http://127.0.0.1:1/"),
    ]
    assert [ran(check)[0] for check in asked] == [
        PASSED,
        bad("answered 503"),
        PASSED,
        bad("answered 200"),
        PASSED,
        bad("answered something else"),
        RAISED,
    ]


def test_a_client_is_kept_from_run_to_run(service: str) -> None:
    """Runs share a client; a new thread gets a new one."""
    check = checks.http(f"{service}/200")
    assert [ran(check, 3), ran(check)] == [[PASSED] * 3, [PASSED]]


def test_an_llm_service_lists_its_models(service: str) -> None:
    """The key is sent and shown nowhere."""
    good, other = checks.llm(f"{service}/v1/", SECRET), checks.llm(f"{service}/v1")
    assert [ran(good), ran(other)] == [[PASSED], [bad("answered 401")]]
    assert SECRET not in repr(good)


def requests(**by_status: int) -> Table:
    counted: dict[tuple[str, ...], Any] = {("GET", "401", "/in", "fastapi"): 1000}
    for status, number in by_status.items():
        counted["GET", status.removeprefix("s"), "api.partner.com/v1", "httpx"] = number
    return {semconv.HTTP_REQUESTS.name: counted}


def test_refused_requests_of_the_window() -> None:
    """Only outgoing requests count, only those of the window, and few say nothing."""
    table: Table = requests(s200=50, s401=50)
    check: Any = checks.auth_errors(0.1, window_s=60).bound(Sources(lambda: table, dict))
    found = [check(lambda: 0.0)]
    table.update(requests(s200=55, s401=54))
    found.append(check(lambda: 15.0))
    table.update(requests(s200=55, s401=60, s403=5))
    found.append(check(lambda: 30.0))
    found.append(check(lambda: 95.0))
    assert [result.healthy for result in found] == [True, True, False, True]
    assert found[2].note == "15 of 20 requests were refused"


def test_what_is_left_of_rate_limits() -> None:
    """A low limit fails, of the provider asked for, as long as that is news."""
    left: dict[tuple[str, ...], tuple[float, float]] = {
        ("openai", "requests"): (0.5, 1.0),
        ("anthropic", "tokens"): (0.04, 1.0),
    }
    every: Any = checks.rate_limit_headroom().bound(Sources(dict, lambda: left))
    one: Any = checks.rate_limit_headroom(provider="openai").bound(Sources(dict, lambda: left))
    assert [every(), one()] == [
        checks.HealthResult(healthy=False, note="anthropic tokens 4%"),
        checks.HealthResult(healthy=True),
    ]
    left["anthropic", "tokens"] = (0.04, 121.0)
    assert every().healthy
    left["anthropic", "tokens"] = (0.0, 119.0)
    assert every() == checks.HealthResult(healthy=False, note="anthropic tokens 0%")
