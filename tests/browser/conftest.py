"""Debian's Chromium, and a service whose pages it looks at."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from otel_genapp import Telemetry, bind, init_telemetry, llm_call
from tests.serving import Client, uvicorn_serving, werkzeug_serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

TOKEN = "Qm7-mask_Blue0Whale91Xo"
SERVING = {"fastapi": uvicorn_serving, "flask": werkzeug_serving}


@dataclass
class Service:
    """A running one."""

    client: Client
    telemetry: Telemetry

    def url(self, path: str = "") -> str:
        """The address of a page."""
        return f"http://127.0.0.1:{self.client.port}/genapp/{path}"

    def fail(self) -> str:
        """Have a request fail; the correlation id that its answer names."""
        return self.client.ask("/orders/17").headers["x-correlation-id"]


def order(order_id: str) -> str:
    """An order that is looked up, answered by a model, and not paid for."""
    from opentelemetry import trace

    tracer = trace.get_tracer("shop")
    with tracer.start_as_current_span("load order"):
        time.sleep(0.005)
    with bind(session_id="chat-7"), tracer.start_as_current_span("answer", attributes={"order.id": order_id}):
        with llm_call("gpt-5", "openai") as call:
            time.sleep(0.02)
            call.usage(input=1200, output=80, cache_read=600)
            call.tools("look_up")
        with tracer.start_as_current_span("charge card"):
            if order_id not in {"0", 0}:
                raise RuntimeError("card declined")
    return "paid"


def app_of(framework: str) -> Any:
    """The shop."""
    if framework == "fastapi":
        import fastapi

        served = fastapi.FastAPI()
        served.add_api_route("/orders/{order_id}", order)
        return served
    import flask

    app = flask.Flask("shop")
    app.add_url_rule("/orders/<order_id>", view_func=order)
    return app


@contextmanager
def serving(framework: str, store: str) -> Iterator[Service]:
    """The shop on a real server."""
    app = app_of(framework)
    with (
        init_telemetry("shop", "prod", internal_auth=TOKEN, store=store, app=app) as telemetry,
        SERVING[framework](app) as client,
    ):
        yield Service(client, telemetry)


@pytest.fixture(params=list(SERVING))
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Service]:
    tmp_path.chmod(0o700)
    with serving(request.param, f"sqlite:///{tmp_path}/ledger.db") as running:
        for number in range(60):
            with bind(session_id=f"chat-{number % 12}"), llm_call("gpt-4o-mini", "openai") as call:
                call.usage(input=100 + number, output=20)
        yield running


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """The browser; skips where there is none, and fails there with CI=true.

    Playwright keeps an event loop running in this thread: other modules want one of their own.
    """
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    reason = "" if path else "Chromium is not installed: apt install chromium"
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        reason = "playwright is not installed: pip install playwright"
    if reason:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)
    with sync_playwright() as playwright:
        # As root, in a container, its own sandbox cannot be had.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@dataclass
class Window:
    """A page that a person looks at, and what the browser complained about."""

    page: Page
    complaints: list[str]

    def log_in(self, service: Service, path: str = "") -> None:
        """Ask for a page, and give the token when it is asked for."""
        self.page.goto(service.url(path))
        self.page.fill("#token", TOKEN)
        self.page.keyboard.press("Enter")
        self.page.wait_for_selector("header.bar")


Open = Callable[..., Window]


@pytest.fixture
def open_window(chromium: Browser) -> Iterator[Open]:
    """`open_window(width=…, color_scheme=…)` is a new window of a new visitor."""
    contexts: list[BrowserContext] = []

    def make(*, width: int = 1280, **options: Any) -> Window:
        context = chromium.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        window = Window(page, [])
        page.on("console", lambda message: window.complaints.append(message.text))
        page.on("pageerror", lambda error: window.complaints.append(str(error)))
        return window

    yield make
    for context in contexts:
        context.close()
