"""Programs written for the old package run with the imports' prefix changed, and show what they showed."""

from __future__ import annotations

import importlib
import sys
from enum import StrEnum
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

import otel_genapp
from otel_genapp import AlreadyConfiguredError, ConfigError
from otel_genapp.llm_common import prometheus
from otel_genapp.llm_common.exposition import exposition
from otel_genapp.llm_common.prometheus import build_prometheus_metrics, fastapi_tracking_middleware
from otel_genapp.testing import Captured, capture_telemetry
from tests.fakes import eventually
from tests.fresh import in_fresh_process
from tests.serving import Client, uvicorn_serving, werkzeug_serving

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
HTTP = ("app", "app_type", "env", "method", "resource", "status")
OLD_FAMILIES = {
    "genapp_http_requests_total": ("counter", HTTP),
    "genapp_http_request_duration_sec": ("histogram", HTTP),
    "genapp_http_request_size_bytes": (
        "histogram",
        ("app", "app_type", "direction", "env", "method", "resource", "status"),
    ),
    "genapp_action_count_total": ("counter", ("app", "env", "name", "status")),
    "genapp_action_duration_sec": ("histogram", ("app", "env", "name")),
    "genapp_action_size_total": ("counter", ("app", "env", "name")),
}
"""What the old package exposed: family -> its type and the labels of its samples, `le` aside."""

Samples = dict[tuple[str, ...], float]


def families(text: str) -> dict[str, tuple[str, tuple[str, ...]]]:
    """The old families as an exposition has them now."""
    found = {}
    for family in parse_text(text):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        if name in OLD_FAMILIES:
            labels = {tuple(sorted(set(sample.labels) - {"le"})) for sample in family.samples}
            assert len(labels) == 1, (name, labels)
            found[name] = (family.type, labels.pop())
    return found


def samples(text: str, name: str, *labels: str) -> Samples:
    """Label values -> value, of the samples of that name."""
    return {
        tuple(sample.labels[label] for label in labels): sample.value
        for family in parse_text(text)
        for sample in family.samples
        if sample.name == name
    }


def menu_orders(client: Client) -> list[int]:
    """Items 1 to 4 ordered with the real client library: the second fails quietly, the last loudly."""
    with httpx.Client(base_url=f"http://127.0.0.1:{client.port}", trust_env=False) as orders:
        return [orders.post(f"/menu/{item}", content=b"x" * 100 * item).status_code for item in range(1, 5)]


def scraped(client: Client, *, after_requests: int) -> dict[str, Any]:
    """Both endpoints, both formats, once so many requests have ended: a client may be quicker than that."""

    def counted() -> bool:
        text = client.ask("/prometheus").body.decode()
        return sum(requests(text, "fastapi", "flask").values()) >= after_requests

    assert eventually(counted)
    text = client.ask("/prometheus")
    other = client.ask("/metrics")
    open_text = client.ask("/prometheus", headers={"accept": OPENMETRICS})
    names = {family.name for family in parse_openmetrics(open_text.body.decode())}
    return {
        "types": [answer.headers["content-type"] for answer in (text, other, open_text)],
        "stored": text.headers["cache-control"],
        "openmetrics": "genapp_http_requests" in names,
        "text": text.body.decode(),
    }


def run_fastapi() -> dict[str, Any]:
    app = importlib.import_module("tests.programs.old_fastapi_app").app
    with uvicorn_serving(app) as client:
        statuses = menu_orders(client)
        asked = client.ask(f"/ask?url=http://127.0.0.1:{client.port}/nowhere").status
        found = scraped(client, after_requests=7)
        assert otel_genapp.shutdown()
        after = client.ask("/prometheus")
    return {**found, "statuses": statuses, "asked": asked, "after": (after.status, after.body)}


def run_flask() -> dict[str, Any]:
    app = importlib.import_module("tests.programs.old_flask_app").app
    with werkzeug_serving(app) as client:
        statuses = menu_orders(client)
        found = scraped(client, after_requests=4)
        assert otel_genapp.shutdown()
        after = client.ask("/prometheus")
    loaded = [name for name in ("otel_genapp.llm_common.fastapi_endpoint",) if name in sys.modules]
    return {**found, "statuses": statuses, "loaded": loaded, "after": (after.status, after.body)}


def expected_actions() -> dict[str, Samples]:
    return {
        "genapp_action_count_total": {
            ("digest_task", "success"): 3,
            ("digest_task", "fail"): 1,
            ("menu_handler", "success"): 3,
            ("menu_handler", "fail"): 1,
        },
        "genapp_action_duration_sec_count": {("digest_task",): 4, ("menu_handler",): 4},
        "genapp_action_size_total": {("menu_handler",): 10},
    }


def actions(text: str) -> dict[str, Samples]:
    return {
        "genapp_action_count_total": samples(text, "genapp_action_count_total", "name", "status"),
        "genapp_action_duration_sec_count": samples(text, "genapp_action_duration_sec_count", "name"),
        "genapp_action_size_total": samples(text, "genapp_action_size_total", "name"),
    }


def of_app(found: Samples, *app_types: str) -> Samples:
    """The samples of servers or clients, the scrapes themselves aside; label values end in app_type."""
    return {
        labels: value
        for labels, value in found.items()
        if labels[-1] in app_types and labels[0] not in {"/prometheus", "/metrics"}
    }


def requests(text: str, *app_types: str) -> Samples:
    return of_app(
        samples(text, "genapp_http_requests_total", "resource", "method", "status", "app_type"), *app_types
    )


def sizes(text: str, resource: str, status: str) -> Samples:
    found = samples(text, "genapp_http_request_size_bytes_sum", "resource", "status", "direction")
    return {labels[2:]: value for labels, value in found.items() if labels[:2] == (resource, status)}


TEXT = "text/plain; version=0.0.4; charset=utf-8"
GONE = (503, b"telemetry is not running: call build_prometheus_metrics\n")


def test_a_fastapi_service() -> None:
    """Same families, types and labels; each request and action counted once, sizes to the byte."""
    found = in_fresh_process(run_fastapi)
    text = found["text"]
    assert (found["statuses"], found["asked"]) == ([200, 200, 200, 500], 200)
    assert families(text) == OLD_FAMILIES
    assert actions(text) == expected_actions()
    menu = "/menu/{item}"
    assert requests(text, "fastapi") == {
        (menu, "POST", "200", "fastapi"): 3,
        (menu, "POST", "500", "fastapi"): 1,
        ("/ask", "GET", "200", "fastapi"): 1,
        ("__unmatched__", "GET", "404", "fastapi"): 2,
    }
    assert {labels[1:]: n for labels, n in requests(text, "httpx", "httpx2").items()} == {
        ("GET", "404", "httpx2"): 2,  # the two ready-made clients
        ("POST", "200", "httpx"): 3,  # the test's own
        ("POST", "500", "httpx"): 1,
    }
    assert sizes(text, menu, "200") == {("request",): 600, ("response",): 3 * len(b'{"digest":1,"read":100}')}
    assert sizes(text, menu, "500") == {("request",): 0, ("response",): len(b"Internal Server Error")}
    check_scrapes(found, env="prod")


def test_a_flask_service() -> None:
    """Same families, types and labels; and FastAPI is not imported for it."""
    found = in_fresh_process(run_flask)
    text = found["text"]
    assert (found["statuses"], found["loaded"]) == ([200, 200, 200, 500], [])
    assert families(text) == OLD_FAMILIES
    assert actions(text) == expected_actions()
    menu = "/menu/<int:item>"
    assert requests(text, "flask") == {
        (menu, "POST", "200", "flask"): 3,
        (menu, "POST", "500", "flask"): 1,
    }
    assert sizes(text, menu, "200")[("request",)] == 600
    check_scrapes(found, env="dev")


def check_scrapes(found: dict[str, Any], *, env: str) -> None:
    assert found["types"][:2] == [TEXT, TEXT]
    assert found["types"][2].startswith("application/openmetrics-text; version=1.0.0")
    assert (found["openmetrics"], found["stored"], found["after"]) == (True, "no-store", GONE)
    labels = set(samples(found["text"], "genapp_http_requests_total", "app", "env"))
    assert labels == {("shop-bot", env)}


class OldEnv(StrEnum):
    LIVE = "Live"


ENVIRONMENTS: dict[Any, str] = {
    "prod": "prod", "Production": "prod", " PRD ": "prod", OldEnv.LIVE: "prod",
    "pre-prod": "preprod", "stage": "preprod", "STAGING": "preprod", "pre_production": "preprod",
    "dev": "dev", "development": "dev", "local": "dev", "test": "dev", None: "dev",
}  # fmt: skip


def build_in_each() -> dict[Any, tuple[str, bool]]:
    found: dict[Any, tuple[str, bool]] = {}
    for given in ENVIRONMENTS:
        telemetry = build_prometheus_metrics("shop-bot", given)
        again = build_prometheus_metrics(project_name="shop-bot", env=given)
        found[given] = (telemetry.settings.env, again is telemetry)
        otel_genapp.shutdown()
    return found


def test_usual_names_of_environments() -> None:
    """Each becomes one of the three; the same telemetry is returned as long as it runs."""
    expected = {given: (env, True) for given, env in ENVIRONMENTS.items()}
    assert in_fresh_process(build_in_each) == expected


@pytest.mark.parametrize("given", ["production-eu", "", 3, "prod prod"])
def test_an_unknown_environment_is_refused(given: Any) -> None:
    """The message names the three, their synonyms, and what was seen."""
    with pytest.raises(
        ConfigError, match=r"env must be one of dev, preprod, prod, .*staging.*, got"
    ) as caught:
        build_prometheus_metrics("shop-bot", given)
    assert repr(given) in str(caught.value)


def build_beside() -> list[Any]:
    telemetry = otel_genapp.init_telemetry("shop-bot", "preprod", version="7")
    found: list[Any] = [build_prometheus_metrics("shop-bot", "stage") is telemetry]
    found.append(build_prometheus_metrics("shop-bot") is telemetry)
    for name, env in (("shop-bot", "prod"), ("other", "stage")):
        try:
            build_prometheus_metrics(name, env)
        except AlreadyConfiguredError as error:
            found.append(str(error).partition(" for ")[2].partition(" with ")[0])
    return found


def test_beside_the_new_way() -> None:
    """A telemetry that runs already, with more settings, is the one; another application's is refused."""
    assert in_fresh_process(build_beside) == [True, True, *["app='shop-bot', env='preprod'"] * 2]


def tracked_app(calls: list[str]) -> FastAPI:
    """An app with the old middleware between two of its own."""
    app = FastAPI()

    @app.middleware("http")
    async def inner(request: Request, call_next: Any) -> Any:
        calls.append("inner")
        return await call_next(request)

    app.middleware("http")(fastapi_tracking_middleware)
    app.middleware("http")(fastapi_tracking_middleware)

    @app.middleware("http")
    async def outer(request: Request, call_next: Any) -> Any:
        calls.append("outer")
        return await call_next(request)

    @app.get("/item")
    async def item() -> str:
        return "item"

    return app


def chain(app: FastAPI) -> list[Any]:
    """The functions of the middlewares that requests pass now."""
    found, layer = [], app.middleware_stack
    while layer is not None:
        found.append(getattr(layer, "dispatch_func", None))
        layer = getattr(layer, "app", None)
    return [function for function in found if function is not None]


def served(got: Captured) -> float:
    return got.value("genapp_http_requests_total", resource="/item", app_type="fastapi")


def test_the_middleware_steps_out_of_the_way() -> None:
    """After the first watched request the app's own middlewares are left, and nothing counts twice."""
    calls: list[str] = []
    app = tracked_app(calls)
    with uvicorn_serving(app) as client:
        assert client.ask("/item").body == b'"item"'
        before = [function.__name__ for function in chain(app)]
        with capture_telemetry() as got:
            assert [client.ask("/item").body for _ in range(3)] == [b'"item"'] * 3
            assert eventually(lambda: served(got) >= 3)
            assert served(got) == 3
        after = [function.__name__ for function in chain(app)]
    tracking = fastapi_tracking_middleware.__name__
    assert (before, after) == (["outer", tracking, tracking, "inner"], ["outer", "inner"])
    assert calls == ["outer", "inner"] * 4


def ask_starlette() -> list[bytes]:
    async def item(_request: Request) -> PlainTextResponse:
        return PlainTextResponse("item")

    app = Starlette(routes=[Route("/item", item)])
    app.add_middleware(BaseHTTPMiddleware, dispatch=fastapi_tracking_middleware)
    with uvicorn_serving(app) as client:
        answers = [client.ask("/item").body]
        build_prometheus_metrics("shop-bot", "test")
        return [*answers, client.ask("/item").body, client.ask("/item").body]


def test_under_starlette_alone_it_passes_on() -> None:
    """An application that is not FastAPI's answers as ever, without an error of ours."""
    assert in_fresh_process(ask_starlette) == [b"item"] * 3


def fail_to_expose() -> list[tuple[int, bytes]]:
    def fail(_accept: str) -> tuple[bytes, str]:
        raise RuntimeError("password=hunter2")

    telemetry: Any = build_prometheus_metrics("shop-bot", "test")
    fine = exposition("")
    telemetry._machinery.exposition = fail
    broken = exposition("")
    return [(fine.status, fine.body[:7]), (broken.status, broken.body)]


def test_a_failing_exposition_is_an_error() -> None:
    """A scraper never gets an empty page, which would look like no traffic, nor the exception's text."""
    found = in_fresh_process(fail_to_expose, own_errors=True)
    assert found == [(200, b"# HELP "), (500, b"internal error\n")]


def test_the_old_names_are_all_there() -> None:
    """Every name can be imported, and an unknown one is an AttributeError as in any module."""
    assert [name for name in prometheus.__all__ if not callable(getattr(prometheus, name))] == []
    with pytest.raises(AttributeError, match="has no attribute 'gone'"):
        _ = prometheus.gone
