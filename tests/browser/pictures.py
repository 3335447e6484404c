"""`make pictures`: the pictures of the README, of the real pages over a made-up hour of a shop."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import ViewportSize, sync_playwright
from rich.console import Console
from rich.text import Text

from otel_genapp.records import LLMCall, Usage
from tests.browser.conftest import TOKEN, Service, serving

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "pictures"
SIZE: ViewportSize = {"width": 1180, "height": 880}
PRICES = {"gpt-5-mini": (250, 2000), "gpt-5": (1250, 10_000), "mistral-large": (2000, 6000)}
"""Nano-dollars for a token of input and output."""
TOOLS = ("search_catalogue", "order_status", "refund")
NAMES = ("ada", "alan", "barbara", "edsger", "grace", "ken", "margaret", "radia")


def an_hour() -> Iterator[LLMCall]:
    """Calls of some customers over the last hour, the same every time but for when."""
    chance = random.Random(5)  # noqa: S311 - repeatable on purpose
    now_ns = time.time_ns()
    for number in range(900):
        ago_s = 3500 * chance.random() ** (0.8 + 0.4 * chance.random())
        model = chance.choices(list(PRICES), (7, 3, 2))[0]
        status = chance.choices(("success", "fail", "cancelled"), (95, 4, 2))[0]
        usage = Usage(chance.randrange(200, 2400), chance.randrange(20, 500), chance.randrange(0, 180))
        priced = PRICES[model][0] * (usage.input or 0) + PRICES[model][1] * (usage.output or 0)
        yield LLMCall(
            call_id=f"picture-{number}", started_at_ns=now_ns - int(ago_s * 1e9),
            duration_ms=chance.lognormvariate(6.6, 0.5), first_token_ms=chance.uniform(80, 260), status=status,
            error_type="RateLimitError" if status == "fail" else None,
            provider="mistral_ai" if model.startswith("mistral") else "openai", model=model,
            usage=usage if status == "success" else Usage(), cost_nano_usd=priced if status == "success" else None,
            tool_names=(chance.choice(TOOLS),) if number % 3 == 0 else (), tool_calls=int(number % 3 == 0),
            session_id=f"{chance.choice(NAMES)}-{1 + number % 3}", correlation_id=f"{number:032x}",
        )  # fmt: skip


def take_pages(service: Service) -> None:
    """Overview in the light and in the dark, a session, and what happened in a request that failed."""
    service.telemetry._machinery.store.apply(an_hour())
    for number in range(40):
        service.client.ask("/orders/0" if number % 9 else "/orders/17")
    correlation_id = service.fail()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            page = browser.new_context(viewport=SIZE, color_scheme=scheme, device_scale_factor=1).new_page()
            page.goto(service.url("login"))
            page.fill("#token", TOKEN)
            page.keyboard.press("Enter")
            page.wait_for_selector(".uplot >> nth=3")
            page.screenshot(path=FOLDER / f"overview-{scheme}.png")
        page.goto(service.url("session/ada-1"))
        page.screenshot(path=FOLDER / "session.png")
        page.goto(service.url(f"trace/{correlation_id}"))
        page.wait_for_selector(".spans")
        page.click("text=chat gpt-5")
        page.locator("footer").evaluate("it => it.remove()")
        height = page.evaluate("document.querySelector('main').getBoundingClientRect().bottom")
        page.screenshot(
            path=FOLDER / "trace.png", clip={"x": 0, "y": 0, "width": SIZE["width"], "height": height}
        )
        browser.close()


def take_terminal() -> None:
    """What `make demo ARGS=--once` shows in the end."""
    command = [sys.executable, "-m", "otel_genapp", "demo", "--once"]
    environment = {**os.environ, "FORCE_COLOR": "1", "COLUMNS": "92"}
    shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    console = Console(record=True, width=92, file=StringIO(), force_terminal=True)
    console.print(Text.from_ansi(shown.rstrip()))
    console.save_svg(str(FOLDER / "demo.svg"), title="make demo")


def main() -> None:
    """Take them all anew."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as folder, serving("fastapi", f"sqlite:///{folder}/ledger.db") as service:
        take_pages(service)
    take_terminal()


if __name__ == "__main__":
    main()
