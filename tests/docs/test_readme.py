"""README's Python runs, and what it tells people to type is there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

import otel_genapp
from otel_genapp.fake_llm import FakeLLMServer
from otel_genapp.testing import capture_telemetry
from tests.contract.source import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_first_example_does_what_it_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """The opening example, with the fake LLM behind it, answers the session it promises."""
    with FakeLLMServer() as llm:
        monkeypatch.setenv("OPENAI_BASE_URL", llm.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        monkeypatch.setenv("GENAPP_INTERNAL_AUTH", "token")
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
        names: dict[str, Any] = {}
        try:
            exec(compile(BLOCKS[0], "README.md", "exec"), names)  # noqa: S102 - the document's own example
            with TestClient(names["app"]) as client:
                answer = client.post("/chat", params={"message": "hello"}, headers={"x-session-id": "anna"})
                session = client.get("/events/metrics/session/anna", headers={"x-internal-auth": "token"})
                metrics = client.get("/prometheus").text
        finally:
            otel_genapp.shutdown()
        [served] = llm.ledger
    assert answer.status_code == 200
    assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["x-correlation-id"])
    summary = session.json()
    told = ("session_id", "total_requests", "total_prompt_tokens", "total_completion_tokens")
    assert {key: summary[key] for key in told} == {
        "session_id": "anna",
        "total_requests": 1,
        "total_prompt_tokens": served.input_tokens,
        "total_completion_tokens": served.output_tokens,
    }
    assert 'genapp_http_requests_total{method="POST",status="200",resource="/chat"' in metrics


@pytest.mark.parametrize("number", range(1, len(BLOCKS)))
def test_the_other_examples_run(number: int) -> None:
    """Each further Python block runs as it stands."""
    exec(compile(BLOCKS[number], f"README.md block {number}", "exec"), {})  # noqa: S102 - as above


def test_the_price_file_prices(tmp_path: Path) -> None:
    """The sample price file is one, and calls cost what it says."""
    [sample] = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    path = tmp_path / "prices.toml"
    path.write_text(sample, encoding="utf-8")
    with capture_telemetry(prices=str(path)) as got:
        for provider, model in (("gigachat", "GigaChat-2-Max"), ("ollama", "llama3.3")):
            with otel_genapp.llm_call(model, provider=provider, session_id="anna") as made:
                made.usage(input=1000, output=200)
        session = got.session("anna")
    assert session is not None
    assert (session["cost_usd"], session["unpriced_requests"]) == (1200 * 65 * 0.0125 / 1e6, 0)


def test_the_first_screen_is_short() -> None:
    """The example starts within the first lines and has at most fifteen of code."""
    assert README.index("```python") < README.index("\n" * 2, 400)
    assert len([line for line in BLOCKS[0].splitlines() if line.strip()]) <= 15
