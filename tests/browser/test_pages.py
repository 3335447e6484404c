"""The pages as a person uses them: with a mouse, with the keyboard alone, on a phone, in the dark."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser.conftest import Open, Service, Window

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

PAGES = (
    "",
    "?range=24h",
    "sessions?by=cost",
    "session/chat-7",
    "traces",
    "traces?errors=1",
    "find?id=nothing",
    "report/daily",
    "report/monthly?detail=full",
)
LOADED = {"": ".uplot", "?range=24h": ".uplot"}


def look_at(window: Window, service: Service, path: str) -> Page:
    """A page, when it is all there."""
    window.page.goto(service.url(path))
    window.page.wait_for_selector(LOADED.get(path, "main h1"))
    return window.page


def serious_violations(page: Page) -> list[str]:
    from axe_playwright_python.sync_playwright import Axe

    found: list[dict[str, Any]] = Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {node['html'][:120]}"
        for one in found
        if one["impact"] in {"serious", "critical"}
        for node in one["nodes"]
    ]


def test_from_an_error_report_to_what_happened(service: Service, open_window: Open) -> None:
    """A failed request names a correlation id; with it a person sees spans, model, tokens and the error."""
    correlation_id = service.fail()
    window = open_window()
    page = window.page
    page.goto(service.url())
    page.fill("#token", "wrong")
    page.keyboard.press("Enter")
    assert page.locator("[role=alert]").inner_text() == "This is none of the tokens."
    window.complaints.clear()  # of the 401
    page.fill("#token", "Qm7-mask_Blue0Whale91Xo")
    page.keyboard.press("Enter")
    page.wait_for_selector(".uplot >> nth=3")
    assert page.locator(".tiles dd").first.inner_text() == "61"
    page.fill("#find", correlation_id)
    page.keyboard.press("Enter")
    page.wait_for_selector(".spans")
    assert page.locator("h1").inner_text().endswith(correlation_id)
    names = page.locator(".spans .name").all_inner_texts()
    assert [name.split(" RuntimeError")[0].strip() for name in names][1:] == [
        "load order", "answer error", "chat gpt-5 LLM", "charge card error",
    ]  # fmt: skip
    page.click("text=chat gpt-5")
    assert page.locator(".facts dd").nth(2).inner_text() == "1,200 in, 80 out, 600 cached"
    assert "card declined" in page.locator("main").inner_text()
    page.click(".facts a")
    page.wait_for_selector(".timeline")
    assert page.url == service.url("session/chat-7")
    assert window.complaints == []


def test_with_the_keyboard_alone(service: Service, open_window: Open) -> None:
    """From the login to a session without a mouse, and what has the focus can be seen."""
    window = open_window()
    page = window.page
    page.goto(service.url("sessions"))
    page.keyboard.type("Qm7-mask_Blue0Whale91Xo")  # the field has the focus
    page.keyboard.press("Enter")
    page.wait_for_selector("table")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.matches('tbody a')"):
            break
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    page.wait_for_selector(".timeline")
    assert re.search(r"/genapp/session/chat-\d+$", page.url)


@pytest.mark.parametrize("service", ["fastapi"], indirect=True)
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (360, "light")])
def test_everybody_can_read_them(service: Service, open_window: Open, width: int, scheme: str) -> None:
    """No serious violation of accessibility, nothing wider than the screen, and no complaint of the browser."""
    correlation_id = service.fail()
    window = open_window(width=width, color_scheme=scheme)
    found = []
    window.page.goto(service.url("login"))
    found += serious_violations(window.page)
    window.log_in(service)
    window.complaints.clear()
    for path in (*PAGES, f"trace/{correlation_id}"):
        page = look_at(window, service, path)
        found += [f"{path}: {violation}" for violation in serious_violations(page)]
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
    assert found == []
    assert [said for said in window.complaints if "404" not in said] == []
    dark = window.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(16, 19, 24)"
    assert dark == (scheme == "dark")


@pytest.mark.parametrize("service", ["fastapi"], indirect=True)
def test_live_while_somebody_looks(service: Service, open_window: Open) -> None:
    """The overview follows what happens, asks nothing while it is hidden, and never takes the focus away."""
    window = open_window()
    window.log_in(service)
    page = window.page
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.evaluate("document.getElementById('content').dataset.live = '0.2'")
    service.fail()
    page.wait_for_selector(".tiles dd:text-is('61')")
    page.evaluate(
        "Object.defineProperty(document, 'hidden', {configurable: true, value: true});"
        "document.dispatchEvent(new Event('visibilitychange'))"
    )
    assert page.locator("[data-live-state]").inner_text() == "paused"
    page.wait_for_timeout(300)  # one that was under way
    asked.clear()
    page.wait_for_timeout(1000)
    assert asked == []
    page.evaluate(
        "Object.defineProperty(document, 'hidden', {configurable: true, value: false});"
        "document.dispatchEvent(new Event('visibilitychange'))"
    )
    page.locator("main .choice a").first.focus()
    service.fail()
    page.wait_for_timeout(600)
    assert page.evaluate("document.activeElement.textContent") == "1h"
    page.locator("#find").focus()
    page.evaluate("document.getElementById('content').dataset.live = '0.2'")
    page.wait_for_selector(".tiles dd:text-is('62')")


@pytest.mark.parametrize("service", ["fastapi", "flask"], indirect=True)
def test_who_may_look(service: Service, open_window: Open) -> None:
    """The cookie is out of reach of scripts and of other sites, ends with the log-out, and cannot be made up."""
    window = open_window()
    window.log_in(service, "sessions?by=cost&search=chat")
    assert window.page.url == service.url("sessions?by=cost&search=chat")
    (cookie,) = window.page.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Strict", "/genapp/")
    assert 0 < cookie["expires"] - time.time() <= 12 * 3600
    until, _, signature = cookie["value"].partition(".")
    for value in (f"{int(until) + 1}.{signature}", f"{until}.{'0' * 64}", until, "", "x" * 5000):
        answer = service.client.ask("/genapp/", headers={"cookie": f"genapp_pages={value}"})
        assert (answer.status, answer.headers["location"]) == (303, "/genapp/login")
    good = service.client.ask("/genapp/", headers={"cookie": f"a=b; genapp_pages={cookie['value']}"})
    assert good.status == 200
    assert good.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self';")
    window.page.click("text=Log out")
    window.page.wait_for_selector("#token")
    assert window.page.context.cookies() == []
    assert service.client.ask("/genapp").headers["location"] == "/genapp/"
    assert service.client.ask("/genapp/static/../handlers.py").status == 404
