"""Ollama's own API: lines of JSON, the last of which has `done` and the counts."""

from __future__ import annotations

from otel_genapp.capture.llm_wire.reading import Json, Reading, first_tokens


class OllamaReading(Reading):
    """A chat, a completion or embeddings of Ollama."""

    LAST = (b'"done":true', b'"done": true')
    MARKS = (b'"error"',)
    TOOL_MARKS = (b'"tool_calls"',)
    KEYS = ("model", "done_reason", "prompt_eval_count", "eval_count", "error")

    __slots__ = ()

    def frame(self, data: Json) -> None:
        if data.get("error"):
            self.failed(data["error"])
            return
        self.model(data.get("model"))
        self.reason(0, data.get("done_reason"))
        message = data.get("message")
        calls = message.get("tool_calls") if isinstance(message, dict) else None
        if isinstance(calls, list):
            for call in calls:
                function = call.get("function") if isinstance(call, dict) else None
                if isinstance(function, dict):
                    self.tool(function.get("name"))
        outcome = self.outcome
        told, output = first_tokens(data, "prompt_eval_count"), first_tokens(data, "eval_count")
        if told is not None:
            outcome.input_tokens = told
        if output is not None:
            outcome.output_tokens = output
