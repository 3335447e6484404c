"""The demo in a browser: from a refused request's response header to what happened."""

from __future__ import annotations

import httpx
import pytest

from otel_genapp.cli.demo.stage import Stage
from tests.browser.conftest import Open

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


def test_the_demo(open_window: Open) -> None:
    """Log in, look at the overview and a session, and find what one request did: two services, one LLM."""
    with Stage((0,), chats=0) as stage:
        asked = {"session": "me", "message": "Do you have red shoes?"}
        said = [httpx.post(f"{stage.url}/chat", json=asked, timeout=30) for _ in range(3)]
        refused = httpx.post(f"{stage.url}/chat", json={"nothing": 1}, timeout=30)
        assert ([answer.status_code for answer in said], refused.status_code) == ([200] * 3, 422)
        window = open_window()
        page = window.page
        page.goto(f"{stage.url}/genapp/")
        page.fill("#token", stage.token)
        page.keyboard.press("Enter")
        page.wait_for_selector(".uplot >> nth=3")
        assert page.locator(".tiles dd").first.inner_text() == "6"
        page.click("text=Sessions")
        page.click("tbody a >> nth=0")
        page.wait_for_selector(".timeline")
        assert page.locator(".timeline rect").count() == 6
        for answer, spans in (
            (said[0], {"POST /chat", "GET /search", "chat gpt-5-mini LLM"}),
            (refused, {"POST /chat"}),
        ):
            page.fill("#find", answer.headers["x-correlation-id"])
            page.keyboard.press("Enter")
            page.wait_for_url(f"**/genapp/trace/{answer.headers['x-correlation-id']}")
            names = {name.strip() for name in page.locator(".spans .name").all_inner_texts()}
            assert spans <= names, names
        assert window.complaints == []
