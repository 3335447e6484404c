"""Cohere's chat (both versions), generate, embed and rerank. Billed counts come before raw ones."""

from __future__ import annotations

import re
from typing import Any

from otel_genapp.capture.llm_wire.reading import Json, Reading, first_tokens


class CohereReading(Reading):
    """An answer of any of Cohere's endpoints, or the events of one."""

    LAST = (b"[DONE]", b'"event_type":"stream-end"', b'"event_type": "stream-end"')
    MARKS = (b'"message-start"', b'"message-end"', b'"stream-start"', b'"error"')
    TOOL_MARKS = (b'"tool-call-start"', b'"tool-calls-generation"')
    KEYS = ("id", "generation_id", "finish_reason", "usage", "meta")
    TOOL_NAME = re.compile(rb'(?<!\\)"function"\s*:\s*\{\s*"name"\s*:\s*"([^"\\]{1,128})"')

    __slots__ = ("_named",)

    def __init__(self, asked: Any, outcome: Any) -> None:
        super().__init__(asked, outcome)
        self._named = False

    def frame(self, data: Json) -> None:
        kind = data.get("type") or data.get("event_type")
        if data.get("error") and kind is None:
            self.failed(data["error"])
            return
        if kind in {"error", "stream-error"}:
            self.failed(data.get("error") or data)
            return
        if self.outcome.response_id is None:
            self.identity(data.get("generation_id") or data.get("id"))
        if kind == "tool-call-start":
            self._tools(_inside(data, "delta", "message", "tool_calls"))
            return
        if kind == "tool-calls-generation":
            self._tools(data.get("tool_calls"))
            return
        if kind == "message-end":
            delta = data.get("delta")
            self._end(delta if isinstance(delta, dict) else {})
            return
        if kind == "stream-end":
            self.reason(0, data.get("finish_reason"))
            response = data.get("response")
            if isinstance(response, dict):
                self.outcome.response_id = None  # the whole answer's, not that of one generation
                self.identity(response.get("generation_id") or response.get("id"))
                self._end(response)
            return
        if kind is None or kind == "message":
            self._end(data)

    def _end(self, data: Json) -> None:
        if isinstance(data.get("error"), str):
            self.error_type = "error"
        self.reason(0, data.get("finish_reason"))
        for place, generation in enumerate(data.get("generations") or ()):
            if isinstance(generation, dict):
                self.reason(place, generation.get("finish_reason"))
        self._tools(_inside(data, "message", "tool_calls") or data.get("tool_calls"))
        for key in ("usage", "meta"):
            usage = data.get(key)
            if isinstance(usage, dict):
                self._use(usage)

    def _tools(self, calls: object) -> None:
        if self._named and isinstance(calls, list):
            return  # the end repeats what its events named
        for call in calls if isinstance(calls, list) else [calls]:
            if isinstance(call, dict):
                function = call.get("function")
                self.tool(function.get("name") if isinstance(function, dict) else call.get("name"))
                self._named = isinstance(calls, list)

    def _use(self, usage: Json) -> None:
        billed, raw = usage.get("billed_units"), usage.get("tokens")
        for source in (billed, raw):
            told = first_tokens(source, "input_tokens")
            output = first_tokens(source, "output_tokens")
            if told is not None or output is not None:
                self.outcome.input_tokens, self.outcome.output_tokens = told, output
                break
        cached = first_tokens(usage, "cached_tokens")
        if cached is not None and cached <= (self.outcome.input_tokens or 0):
            self.outcome.cache_read_tokens = cached  # else it is a part of what was not billed


def _inside(data: object, *keys: str) -> Any:
    for key in keys:
        data = data.get(key) if isinstance(data, dict) else None
    return data
