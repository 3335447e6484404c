"""Anthropic's Messages, at Anthropic, on Vertex and on Bedrock.

`input_tokens` of the wire leaves out what was read from and written to the cache; the conventions
count both in. A stream's `message_delta` repeats usage cumulatively and overrides the start, field
by field: the last value that is not null counts.
"""

from __future__ import annotations

import re
from typing import Any

from otel_genapp.capture.llm_span import LLMOutcome
from otel_genapp.capture.llm_wire.reading import Json, Reading, first_tokens, total_of


class AnthropicReading(Reading):
    """A message, or the events of one."""

    LAST = (b'"type":"message_stop"', b'"type": "message_stop"')
    MARKS = (b'"message_start"', b'"message_delta"', b'"error"')
    TOOL_MARKS = (b'"tool_use"',)
    KEYS = ("id", "model", "usage", "stop_reason", "error")
    TOOL_NAME = re.compile(rb'(?<!\\)"type"\s*:\s*"tool_use"[^{}]*?"name"\s*:\s*"([^"\\]{1,128})"')

    __slots__ = ("_usage",)

    def __init__(self, asked: Any, outcome: LLMOutcome) -> None:
        super().__init__(asked, outcome)
        self._usage: dict[str, int] = {}

    def body(self, body: Json) -> None:
        if body.get("type") in {"message_start", "message_delta", "content_block_start", "error"}:
            self.frame(body)
            return
        if body.get("error"):
            self.failed(body["error"])
            return
        self._message(body)

    def frame(self, data: Json) -> None:
        kind = data.get("type")
        if kind == "message_start":
            message = data.get("message")
            if isinstance(message, dict):
                self._message(message)
        elif kind == "message_delta":
            delta = data.get("delta")
            if isinstance(delta, dict):
                self.reason(0, delta.get("stop_reason"))
            self._use(data.get("usage"))
        elif kind == "content_block_start":
            self._block(data.get("content_block"))
        elif kind == "error" or data.get("error"):
            self.failed(data.get("error"))
        elif kind in {"message", "completion"} or "completion" in data:
            self._message(data)

    def _message(self, message: Json) -> None:
        self.identity(message.get("id"))
        self.model(message.get("model"))
        self.reason(0, message.get("stop_reason"))
        content = message.get("content")
        if isinstance(content, list):
            for block in content:
                self._block(block)
        self._use(message.get("usage"))

    def _block(self, block: object) -> None:
        if isinstance(block, dict) and block.get("type") == "tool_use":
            self.tool(block.get("name"))

    def _use(self, usage: object) -> None:
        if not isinstance(usage, dict):
            return
        for key in (
            "input_tokens",
            "output_tokens",
            "cache_read_input_tokens",
            "cache_creation_input_tokens",
        ):
            tokens = first_tokens(usage, key)
            if tokens is not None:
                self._usage[key] = tokens
        thinking = first_tokens(usage.get("output_tokens_details"), "thinking_tokens")
        if thinking is not None:
            self.outcome.reasoning_tokens = thinking
        kept_an_hour = first_tokens(usage.get("cache_creation"), "ephemeral_1h_input_tokens")
        if kept_an_hour is not None:
            self.outcome.cache_write_1h_tokens = kept_an_hour or None
        self.tier(usage.get("service_tier"))
        outcome, known = self.outcome, self._usage
        cached, written = known.get("cache_read_input_tokens"), known.get("cache_creation_input_tokens")
        outcome.cache_read_tokens, outcome.cache_write_tokens = cached, written
        if "input_tokens" in known:
            outcome.input_tokens = total_of(known["input_tokens"], cached, written)
        outcome.output_tokens = known.get("output_tokens")
