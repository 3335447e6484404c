"""What the programs under test do: one action around one LLM call, and say which spans that made.

With `BARE=1` in the environment telemetry is not even imported: the same program without us. With
`HANGS=1` somebody subscribes who never comes back.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

BARE = os.environ.get("BARE") == "1"
TOKENS = {"input": 10, "output": 5}


def start(app: Any = None) -> Any:
    """Start telemetry, unless bare; returns it."""
    if BARE:
        return None
    from otel_genapp import init_telemetry

    telemetry = init_telemetry(os.environ["APP"], "prod", app=app, internal_auth="test")
    if os.environ.get("HANGS") == "1":
        telemetry.subscribe(lambda _event: time.sleep(3600))
    return telemetry


def work() -> list[str]:
    """The spans (`trace_id-span_id`) that were made or, where they are around, are being made."""
    if BARE:
        return []
    from opentelemetry import trace

    from otel_genapp import action_tracking, llm_call

    outer = trace.get_current_span().get_span_context()
    with action_tracking("work_handler"), llm_call("gpt-5", "openai", session_id="life") as call:
        call.usage(**TOKENS)
        inner = trace.get_current_span().get_span_context()
    return [f"{one.trace_id:032x}-{one.span_id:016x}" for one in (outer, inner) if one.is_valid]


def say(word: str, spans: list[str]) -> None:
    """Tell the test, at once."""
    print(json.dumps([word, spans]), flush=True)  # noqa: T201 - this is how it is told
