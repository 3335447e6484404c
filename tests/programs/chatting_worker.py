"""A worker that does what it is told on standard input, one word a line, and answers in JSON.

A number makes so many LLM calls for the session `anna`, `read` says what the session is, `stop` ends
in order. Run as `python -m tests.programs.chatting_worker`, with its settings in the environment.
"""

from __future__ import annotations

import json
import sys

from otel_genapp import Telemetry, bind, init_telemetry, llm_call


def do(word: str, telemetry: Telemetry) -> object:
    """What there is to say of it."""
    if word.isdigit():
        for _ in range(int(word)):
            with bind(session_id="anna"), llm_call("gpt-4o", "openai") as call:
                call.usage(input=10, output=5)
        return "made"
    if word == "read":
        session = telemetry.sessions.get("anna")
        return session and session.as_dict()
    return telemetry.shutdown()


if __name__ == "__main__":
    running = init_telemetry()
    for line in sys.stdin:
        print(json.dumps(do(line.strip(), running)), flush=True)  # noqa: T201 - its answer
