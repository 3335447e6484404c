"""Health and SLA over real servers: dependencies that go down and up, hang, and say what they must not."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from flask import Flask

from otel_genapp import checks
from otel_genapp.bootstrap import init_telemetry, shutdown
from otel_genapp.bootstrap.telemetry import Telemetry
from otel_genapp.fake_llm import FakeLLMServer
from tests.serving import Client, uvicorn_serving, werkzeug_serving

AUTH = {"x-internal-auth": "t"}
DEADLINE_S = 20.0
SECRET = "password=hunter2 at postgres://shop:hunter2@db.internal/shop"


@contextmanager
def served(framework: str, **settings: Any) -> Iterator[tuple[Telemetry, Client]]:
    """The telemetry of an app with our endpoints, and a client of its server."""
    app = FastAPI() if framework == "fastapi" else Flask("shop")
    telemetry = init_telemetry("shop", "prod", app=app, internal_auth="t", version="1.4.0", **settings)
    try:
        with (uvicorn_serving if framework == "fastapi" else werkzeug_serving)(app) as client:
            yield telemetry, client
    finally:
        shutdown()


@pytest.fixture(params=["fastapi", "flask"])
def running(request: pytest.FixtureRequest) -> Iterator[tuple[Telemetry, Client]]:
    with served(request.param) as both:
        yield both


def asked(client: Client, path: str = "/health") -> tuple[int, Any]:
    answer = client.ask(path, headers=AUTH)
    return answer.status, json.loads(answer.body)


def states(client: Client) -> tuple[int, str, dict[str, str]]:
    """(status code, status, status by service)."""
    code, said = asked(client)
    return code, said["status"], {name: one["status"] for name, one in said["services"].items()}


def wait_for(found: Callable[[], object], expected: object) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while (seen := found()) != expected:
        assert time.monotonic() < deadline, seen
        threading.Event().wait(0.02)


def samples(client: Client, name: str) -> dict[str, float]:
    """The values of a family by check."""
    lines = client.ask("/prometheus").body.decode().splitlines()
    return {
        line.split('"')[1]: float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name}{{")
    }


def test_an_app_without_checks_is_healthy(running: tuple[Telemetry, Client]) -> None:
    """It says its version and the time, to everybody."""
    answer = running[1].ask("/health")
    said = json.loads(answer.body)
    assert said.pop("timestamp").endswith("Z")
    assert (answer.status, said) == (
        200,
        {"status": "healthy", "version": "1.4.0", "services": {}, "telemetry": "running"},
    )


def test_dependencies_go_down_and_up(running: tuple[Telemetry, Client]) -> None:
    """A critical one makes the app unhealthy and answers 503, another one degrades it, and both recover."""
    telemetry, client = running
    up = {"database": True, "partner": True}
    telemetry.health.add("database", lambda: up["database"], every_s=0.05)

    async def partner() -> bool:
        await asyncio.sleep(0)
        return up["partner"]

    telemetry.health.add("partner", partner, every_s=0.05, critical=False)
    healthy = (200, "healthy", {"database": "healthy", "partner": "healthy"})
    assert states(client) == healthy
    assert samples(client, "genapp_health_up") == {"database": 1.0, "partner": 1.0}
    up["partner"] = False
    wait_for(lambda: states(client), (200, "degraded", {"database": "healthy", "partner": "unhealthy"}))
    up["database"] = False
    wait_for(lambda: states(client), (503, "unhealthy", {"database": "unhealthy", "partner": "unhealthy"}))
    assert samples(client, "genapp_health_up") == {"database": 0.0, "partner": 0.0}
    assert [asked(client, f"/health/{name}")[0] for name in ("database", "partner")] == [503, 503]
    up.update(database=True, partner=True)
    wait_for(lambda: states(client), healthy)
    assert set(samples(client, "genapp_health_latency_sec")) == {"database", "partner"}


@pytest.mark.parametrize("kind", ["function", "coroutine", "coroutine that blocks"])
def test_what_hangs_holds_up_nobody(running: tuple[Telemetry, Client], kind: str) -> None:
    """The first ask waits for the timeout, later ones do not wait, other checks run, and one thread hangs."""
    telemetry, client = running
    released, entered = threading.Event(), []

    def hangs() -> None:
        entered.append(1)
        released.wait(DEADLINE_S)

    async def hangs_async() -> None:
        entered.append(1)
        await asyncio.sleep(DEADLINE_S)

    async def blocks() -> None:
        hangs()

    check = {"function": hangs, "coroutine": hangs_async, "coroutine that blocks": blocks}[kind]
    telemetry.health.add("slow", check, every_s=0.1, timeout_s=0.3)
    telemetry.health.add("database", lambda: None, every_s=0.1)
    try:
        began = time.monotonic()
        assert states(client) == (503, "unhealthy", {"slow": "unhealthy", "database": "healthy"})
        assert 0.2 < time.monotonic() - began < 3
        assert asked(client, "/health/slow")[1]["services"]["slow"]["reason"] == "timeout"
        times = []
        for _ in range(20):
            began = time.monotonic()
            assert states(client)[0] == 503
            times.append(time.monotonic() - began)
        assert sorted(times)[10] < 0.1
        if kind != "coroutine":
            assert len(entered) == 1
    finally:
        released.set()


def test_nothing_private_is_shown(running: tuple[Telemetry, Client]) -> None:
    """No text of an exception and no secret of a note gets out, by no endpoint."""
    telemetry, client = running

    def raises() -> None:
        raise RuntimeError(SECRET)

    async def raises_async() -> None:
        raise RuntimeError(SECRET)

    telemetry.health.add("raises", raises)
    telemetry.health.add("raises async", raises_async)
    telemetry.health.add("says", lambda: checks.HealthResult(healthy=False, note=SECRET))
    answers = [
        client.ask(path, headers=AUTH) for path in ("/health", "/health/raises", "/events/sla", "/prometheus")
    ]
    assert all(b"hunter2" not in answer.body and b"RuntimeError" not in answer.body for answer in answers)
    assert [answer.status for answer in answers] == [503, 503, 200, 200]
    assert telemetry.health.status("raises")["services"]["raises"]["reason"] == "error"


@pytest.mark.parametrize(
    "name",
    [
        "a/b",
        "..",
        "../../etc/passwd",
        "<script>alert(1)</script>",
        "x y",
        "\u4e2d\u6587",
        '"} 1',
        "{check}",
        "%2F",
    ],
)
def test_any_name_is_found_by_its_path(name: str) -> None:
    """A hostile name is a name: found, shown as JSON, and a label like any other."""
    from urllib.parse import quote

    with served("flask") as (telemetry, client):
        telemetry.health.add(name, lambda: None)
        code, said = asked(client, f"/health/{quote(name, safe='')}")
        assert (code, list(said["services"])) == (200, [name])
        assert client.ask("/prometheus").status == 200
        assert asked(client, "/health/nothing") == (404, {"error": "no such check"})


def test_health_may_want_the_token() -> None:
    """With `health_auth` nobody without the token gets in."""
    with served("fastapi", health_auth=True) as (_, client):
        assert [client.ask(path).status for path in ("/health", "/health/x", "/prometheus")] == [
            401,
            401,
            200,
        ]
        assert asked(client)[0] == 200


def test_the_sla_is_guarded_and_answers_for_windows(running: tuple[Telemetry, Client]) -> None:
    """Uptime from the first moment on, requests once they are counted, and windows that make sense."""
    telemetry, client = running
    assert client.ask("/events/sla").status == 401
    wait_for(lambda: asked(client, "/events/sla?window=7d")[1]["uptime"]["current"], 1.0)
    code, said = asked(client, "/events/sla?window=7d")
    assert (code, said["window"]["seconds"], said["uptime"]["compliant"]) == (200, 7 * 86_400, True)
    assert said["response_time"]["target"] == 3000.0
    assert asked(client, "/events/sla?window=soon") == (
        400,
        {
            "error": "window must be whole seconds or a form like 60s, 5m, 1h, 1d, from 60s to 366d, got 'soon'"
        },
    )
    telemetry.health.add("database", lambda: False)
    wait_for(lambda: telemetry.sla(3600)["uptime"]["compliant"], False)
    assert telemetry.sla()["uptime"]["intervals_not_running"] == 0


def test_what_checks_send_is_no_llm_call(running: tuple[Telemetry, Client]) -> None:
    """A check may even chat with a model: no call is recorded, no request counted."""
    telemetry, client = running
    with FakeLLMServer() as model:
        body = {"model": "gpt-5", "messages": [{"role": "user", "content": "hi"}]}

        async def chat() -> bool:
            async with httpx.AsyncClient() as http:
                answer = await http.post(f"{model.root_url}/v1/chat/completions", json=body)
            return answer.status_code == 200

        telemetry.health.add("llm", checks.llm(model.base_url, "key"))
        telemetry.health.add("chat", chat, timeout_s=10)
        assert states(client)[2]["chat"] == "healthy"
    assert telemetry.totals()["total_requests"] == 0
    text = client.ask("/prometheus").body.decode()
    assert 'app_type="httpx"' not in text
    assert "genapp_llm_attempts_total{" not in text


def test_no_thread_before_it_is_needed() -> None:
    """Telemetry alone starts no thread for health; what runs ends with it."""
    others = set(threading.enumerate())

    def alive() -> list[str]:
        return [
            thread.name
            for thread in threading.enumerate()
            if thread.name in {"otel-genapp-health", "otel-genapp-check"} and thread not in others
        ]

    telemetry = init_telemetry("shop", "dev")
    try:
        assert alive() == []
        telemetry.health.add("database", lambda: None)
        assert telemetry.health.status()["status"] == "healthy"
        assert sorted(alive()) == ["otel-genapp-check", "otel-genapp-health"]
    finally:
        shutdown()
    wait_for(alive, [])


def test_disabled_telemetry_takes_checks_and_runs_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the SDK disabled a check is taken and nothing happens."""
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    telemetry = init_telemetry("shop", "dev")
    ran: list[int] = []
    telemetry.health.add("database", lambda: ran.append(1), timeout_s=0.1)
    assert telemetry.health.status()["services"]["database"]["status"] == "unknown"
    assert (ran, telemetry.sla()["uptime"]["current"]) == ([], None)
    shutdown()


def test_who_asks_again_does_not_wait_again(running: tuple[Telemetry, Client]) -> None:
    """While a slow check has not come up its time is waited for once, not by every probe of a balancer."""
    telemetry, client = running
    released = threading.Event()
    telemetry.health.add("slow", lambda: released.wait(DEADLINE_S), timeout_s=0.4)
    try:
        began = time.monotonic()
        for _ in range(20):
            assert states(client)[0] == 503
        assert time.monotonic() - began < 2
    finally:
        released.set()


def test_the_history_survives_a_restart(tmp_path: Path) -> None:
    """What was served right before the end is there, however short a process was, and the restart is no downtime."""
    for number in (1, 2):
        app = FastAPI()
        app.add_api_route("/work", lambda: "done")
        telemetry = init_telemetry("shop", "prod", app=app, internal_auth="t", state_dir=str(tmp_path))
        try:
            with uvicorn_serving(app) as client:
                if number == 1:  # the second one ends before it was anybody's turn to write
                    wait_for(lambda: bool(telemetry.sla()["checked_by"]), expected=True)  # noqa: B023
                assert {client.ask("/work").status for _ in range(5)} == {200}
                wait_for(lambda: "/work" in client.ask("/prometheus").body.decode(), expected=True)
        finally:
            shutdown()
        said = telemetry.sla()
        assert said["response_time"]["requests"] == 5 * number
        assert (said["uptime"]["current"], said["uptime"]["intervals_not_running"]) == (1.0, 0)
