"""The demo's Telegram bot: its customers' conversations end up in the numbers."""

from __future__ import annotations

from collections import Counter

import pytest

from otel_genapp.cli.demo.bot import TelegramDemo
from otel_genapp.cli.demo.model import answer
from otel_genapp.fake_llm import FakeLLMServer
from otel_genapp.records import Feedback, Outcome
from otel_genapp.testing import capture_telemetry
from tests.fakes import eventually
from tests.telegram_bots import count, recorded

CUSTOMERS = 5


@pytest.mark.parametrize("library", ["aiogram", "telegram"])
def test_conversations_are_recorded(library: str) -> None:
    """Five customers: their messages, ratings and outcomes, and a model's call for each question."""
    pytest.importorskip(library)
    with capture_telemetry() as captured, FakeLLMServer(answer) as llm, recorded() as facts:
        demo = TelegramDemo(llm.base_url, library=library).start(CUSTOMERS)
        try:
            assert demo.wait(60)
            assert eventually(lambda: count(facts, Feedback) == CUSTOMERS * 2)
        finally:
            demo.close()
        feedback = Counter(fact.quality for fact in facts if isinstance(fact, Feedback))
        assert feedback == {1.0: 8, 0.0: 2}
        outcomes = Counter(name for fact in facts if isinstance(fact, Outcome) for name in fact.held())
        assert outcomes == {"resolved": 4, "escalated": 1}
        assert len(llm.ledger) == CUSTOMERS * 2
        assert captured.value("genapp_action_count_total", name="chat_handler") == CUSTOMERS * 3 - 1
        assert captured.value("genapp_messages_total", platform="telegram") == CUSTOMERS * 4
        assert captured.value("genapp_messages_total", intent="start_handler") == CUSTOMERS


def test_without_a_library_it_says_so_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing starts, and the problem is the command to run."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with TelegramDemo("http://127.0.0.1:9/v1") as demo:
        assert "pip install 'otel-genapp[aiogram,aiohttp]'" in demo.problem
        assert demo.telegram.sent == ()
