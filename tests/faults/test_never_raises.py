"""Whatever fails behind it, telemetry raises nothing into the application and changes no result."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.fakes import WireServer
from tests.fresh import in_fresh_process

LEVELS = (0.05, 0.5, 1.0)
CALLS = 100_000


def call_everything(p: float) -> dict[str, Any]:
    # Here, so that the raiser comes before everything else.
    from tests.faults.raiser import Raiser

    raiser = Raiser(seed=int(p * 100))
    raiser.install()
    from otel_genapp import init_telemetry
    from tests.faults import raised_calls as calls

    os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://127.0.0.1:9"  # nobody is there
    telemetry = init_telemetry("shop", "prod", internal_auth="test")
    # The application's own logging may be broken as well.
    logging.getLogger("otel_genapp").addFilter(raiser.wrap(lambda record: True, "filter"))
    telemetry.subscribe(raiser.wrap(lambda event: None, "subscriber"))
    shop = calls.Shop(telemetry)
    failures: Counter[str] = Counter()
    with WireServer() as server, httpx.Client(verify=False) as client:  # noqa: S501 - no TLS here
        raiser.take_on(telemetry)
        raiser.p, raiser.on = p, True
        for entry in (*calls.CALLED, calls.read(telemetry), calls.scrape(telemetry)):
            slow = entry.__name__ in {"reading", "scraping"}
            failures += calls.count_failures(entry, calls.ERRORS, rounds=20 if slow else 280)
        for awaited in calls.AWAITED:
            entry = _awaiting(shop, awaited)
            failures += calls.count_failures(entry, calls.EXCEPTIONS, rounds=100)
        for entry in (_fastapi(shop, "/work"), _fastapi(shop, "/thread"), _flask(shop)):
            failures += calls.count_failures(entry, calls.EXCEPTIONS, rounds=30)
        shop.work = object
        for asked, expected, times in _asked(shop, server, client=client):
            for _ in range(times):
                failures[_answer_failure(asked, expected)] += 1
        raiser.on = False
    telemetry.shutdown(0)
    good = failures.pop("", 0)
    return {
        "failures": dict(failures.most_common(20)),
        "calls": good + failures.total(),
        "raised": raiser.raised.total(),
        "raised from": len(raiser.raised),
    }


def _awaiting(shop: Any, awaited: Callable[[Any], Any]) -> Callable[[Any], object]:
    def entry(work: Any) -> object:
        return shop.run(awaited(work))

    entry.__name__ = awaited.__name__
    return entry


def _fastapi(shop: Any, path: str) -> Callable[[Any], object]:
    def entry(work: Any) -> object:
        results: list[object] = []
        shop.work = lambda: results.append(work())
        return results[0] if shop.ask_fastapi(path) == 200 else None

    entry.__name__ = f"fastapi {path}"
    return entry


def _flask(shop: Any) -> Callable[[Any], object]:
    def entry(work: Any) -> object:
        results: list[object] = []
        shop.work = lambda: results.append(work())
        return results[0] if shop.ask_flask("/work") == 200 else None

    entry.__name__ = "flask /work"
    return entry


def _asked(shop: Any, server: WireServer, *, client: httpx.Client) -> list[tuple[Any, set[int], int]]:
    """(what is asked, the answers that are right, how often)."""
    from tests.faults import raised_calls as calls

    found: list[tuple[Any, set[int], int]] = [
        (lambda: shop.ask_fastapi("/stream"), {200}, 100),
        (lambda: shop.ask_fastapi("/teapot"), {418}, 100),
        (lambda: shop.ask_fastapi("/nowhere"), {404}, 100),
        (lambda: shop.ask_flask("/stream"), {200}, 100),
        (lambda: shop.ask_flask("/nowhere"), {404}, 100),
        (lambda: len(client.get(server.url("/bytes?n=10")).content), {10}, 150),
        (lambda: shop.run(calls.fetch_with_httpx(server)), {10}, 100),
        (lambda: shop.run(calls.fetch_with_aiohttp(server)), {10}, 100),
    ]
    for route in calls.ROUTES:
        found.append((lambda route=route: shop.ask_fastapi(route), {200, 404, 500}, 60))
        found.append((lambda route=route: shop.ask_flask(route), {200, 404, 500}, 60))
    session = calls.ROUTES[-1]
    found.append((lambda: shop.ask_fastapi(session, "DELETE"), {200, 404, 500}, 60))
    found.append((lambda: shop.ask_flask(session, "DELETE"), {200, 404, 500}, 60))
    return found


def _answer_failure(asked: Callable[[], int], expected: set[int]) -> str:
    try:
        answer = asked()
    except Exception as error:  # noqa: BLE001 - it is what is looked for
        return f"{asked.__code__.co_names}: {type(error).__name__} {error.args}"
    return "" if answer in expected else f"{asked.__code__.co_names}: answered {answer}"


@pytest.fixture(scope="module")
def reports() -> dict[float, dict[str, Any]]:
    with ThreadPoolExecutor(len(LEVELS)) as pool:
        found = pool.map(lambda p: in_fresh_process(call_everything, p, own_errors=True), LEVELS)
        return dict(zip(LEVELS, found, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("p", LEVELS)
def test_nothing_is_raised_and_nothing_changed(p: float, reports: dict[float, dict[str, Any]]) -> None:
    """With every collaborator raising at this rate, results and errors come through as they are."""
    assert reports[p]["failures"] == {}
    assert reports[p]["raised from"] > 15


@pytest.mark.slow
def test_it_was_tried_often(reports: dict[float, dict[str, Any]]) -> None:
    """The three runs together make a hundred thousand calls."""
    assert sum(report["calls"] for report in reports.values()) >= CALLS
