"""Conversations through a whole telemetry: what is recorded is read, counted and logged, and survives a kill."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from otel_genapp import (
    bind,
    init_telemetry,
    llm_call,
    record_feedback,
    record_message,
    record_outcome,
    shutdown,
)
from otel_genapp.ledger.conversations import ConversationRow
from otel_genapp.testing import capture_telemetry
from tests.fresh import in_fresh_process

ALWAYS: Any = {"from_ns": 0, "to_ns": 2**62}


def turn(number: int, *, session_id: str = "anna") -> None:
    """An LLM call and its message."""
    with bind(session_id=session_id, user_id="u1", correlation_id=f"{session_id}-{number}"):
        with llm_call("gpt-5", provider="openai") as call:
            call.usage(input=100, output=20)
            call.cost(0.001)
        record_message("telegram", "order", confidence=0.9)


def test_what_is_recorded_is_counted_and_read(caplog: pytest.LogCaptureFixture) -> None:
    """Each family of conversations has it, the rows have it, and each message is logged once with its usage."""
    caplog.set_level(logging.INFO, "otel_genapp.messages")
    with capture_telemetry() as got:
        for number in range(3):
            turn(number)
        with bind(session_id="anna", user_id="u1"):
            record_feedback(csat=5, correlation_id="anna-1")
            record_feedback(nps=1, quality=0.25, comment="I shall tell my lawyer")
            record_outcome(escalated=True, intent_correct=False)
            record_outcome(resolved=True, converted=True)
        turn(3)
        got.telemetry.flush()
        rows = got.telemetry.conversations.rows(**ALWAYS)
        value = got.value
        assert {
            "messages": value("genapp_messages_total", platform="telegram", intent="order"),
            "ended": value("genapp_conversations_total", platform="telegram"),
            "outcomes": {
                kind: value("genapp_conversation_outcomes_total", platform="telegram", outcome=kind)
                for kind in ("resolved", "escalated", "converted", "abandoned")
            },
            "resolutions": value("genapp_conversation_resolution_sec_count", platform="telegram"),
            "scores": {
                kind: value("genapp_feedback_score_sum", kind=kind) for kind in ("csat", "nps", "quality")
            },
            "critical": value("genapp_critical_reviews_total", platform="telegram"),
            "repeats": value("genapp_repeat_contacts_total", platform="telegram"),
            "intents": value("genapp_intent_recognitions_total", intent="order", correct="false"),
            "records": value("genapp_telemetry_records_total", kind="conversation"),
        } == {
            "messages": 4, "ended": 1,
            "outcomes": {"resolved": 1, "escalated": 1, "converted": 1, "abandoned": 0},
            "resolutions": 1, "scores": {"csat": 5, "nps": 1, "quality": 0.25},
            "critical": 1, "repeats": 1, "intents": 1, "records": 16,
        }  # fmt: skip
    assert [
        (
            row.correlation_id,
            row.tokens_used,
            row.cost_nano_usd,
            row.satisfaction_score,
            row.nps,
            row.resolved,
        )
        for row in rows
    ] == [
        ("anna-0", 120, 1_000_000, None, None, True),
        ("anna-1", 120, 1_000_000, 5.0, None, True),
        ("anna-2", 120, 1_000_000, None, 1.0, True),
        ("anna-3", 120, 1_000_000, None, None, None),
    ]
    logged = [record for record in caplog.records if record.message == "message_processed"]
    assert [
        (record.platform, record.intent, record.ai_tokens_used, record.cost_usd, record.correlation_id)  # type: ignore[attr-defined]
        for record in logged
    ] == [("telegram", "order", 120, 0.001, f"anna-{number}") for number in range(4)]
    assert [vars(record)["response_time_ms"] for record in logged] == [
        pytest.approx(row.response_time_ms) for row in rows
    ]


WRITER = """
    import sys
    from otel_genapp import bind, init_telemetry
    from tests.integration.test_conversations import turn
    init_telemetry("shop-bot", env="dev")
    for number in range(10**6):
        turn(number, session_id=sys.argv[1])
        print(number, flush=True)
"""


def read_rows(state_dir: str) -> list[ConversationRow]:
    """What a new process of the application reads, page by page."""
    with init_telemetry("shop-bot", env="dev", state_dir=state_dir) as telemetry:
        found: list[ConversationRow] = []
        while page := telemetry.conversations.rows(**ALWAYS, after=found[-1].place if found else None):
            found += page
    shutdown()
    return found


def test_a_killed_process_loses_no_message(tmp_path: Path) -> None:
    """What was recorded before `kill -9` is read by the next process, with its usage; nothing more is."""
    said: dict[str, int] = {}
    state_dir = str(tmp_path / "state")
    for round_number in range(5):
        session_id = f"s{round_number}"
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(WRITER), session_id],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "GENAPP_STATE_DIR": state_dir, "PYTHONPATH": os.getcwd()},  # noqa: PTH109 - as python finds it
        )
        assert process.stdout is not None
        for _ in range(100 + 37 * round_number):
            said[session_id] = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read().split()
        if rest:
            said[session_id] = max(said[session_id], int(rest[-1]))
        process.stdout.close()
        process.wait(10)
    rows = in_fresh_process(read_rows, state_dir)
    for session_id, last in said.items():
        mine = [row for row in rows if row.session_id == session_id]
        assert len(mine) in {last + 1, last + 2}  # the one that was being said when it was killed
        assert {row.tokens_used for row in mine} == {120}
