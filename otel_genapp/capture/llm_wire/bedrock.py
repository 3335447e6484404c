"""Amazon Bedrock's Converse and Invoke, as SDKs that speak HTTP through httpx use them.

`inputTokens` leaves out the cache, as Anthropic's does. Invoke answers in the model's own shape;
where that has no usage, the headers do, and in a stream the last event's metrics.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, ClassVar

from otel_genapp.capture.llm_span import LLMOutcome
from otel_genapp.capture.llm_wire.anthropic import AnthropicReading
from otel_genapp.capture.llm_wire.reading import Json, Reading, first_tokens, parse, total_of
from otel_genapp.records import whole_tokens

_HEADERS = (
    (b"x-amzn-bedrock-input-token-count", "input_tokens"),
    (b"x-amzn-bedrock-output-token-count", "output_tokens"),
    (b"x-amzn-bedrock-cache-read-input-token-count", "cache_read_tokens"),
    (b"x-amzn-bedrock-cache-write-input-token-count", "cache_write_tokens"),
)


class ConverseReading(Reading):
    """Converse, and its event stream."""

    KEYS: ClassVar[tuple[str, ...]] = ("stopReason", "usage", "message")

    __slots__ = ()

    def frame(self, data: Json) -> None:
        if "exception" in data:
            self.failed({"code": data["exception"]})
            return
        if "stopReason" in data:
            self.reason(0, data["stopReason"])
        start = data.get("start")
        if isinstance(start, dict):
            self._block(start)
        output = data.get("output")
        message = output.get("message") if isinstance(output, dict) else None
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, list):
            for block in content:
                self._block(block)
        usage = data.get("usage")
        if isinstance(usage, dict):
            bedrock_usage(self.outcome, usage)

    def _block(self, block: object) -> None:
        use = block.get("toolUse") if isinstance(block, dict) else None
        if isinstance(use, dict):
            self.tool(use.get("name"))


class InvokeReading(ConverseReading):
    """Invoke: the model's own shape, recognised by its members."""

    KEYS = ("id", "model", "usage", "stop_reason", "stopReason", "inputTextTokenCount", "prompt_token_count",
            "generation_token_count")  # fmt: skip

    __slots__ = ("_anthropic", "_told")

    def __init__(self, asked: Any, outcome: LLMOutcome) -> None:
        super().__init__(asked, outcome)
        self._anthropic = AnthropicReading(asked, outcome)
        self._anthropic.reasons = self.reasons
        self._told: dict[str, int] = {}

    def head(self, headers: Mapping[bytes, bytes]) -> None:
        for name, key in _HEADERS:
            value = headers.get(name)
            tokens = whole_tokens(value.decode("ascii", "replace")) if value is not None else None
            if tokens is not None:
                self._told[key] = tokens

    def frame(self, data: Json) -> None:
        wrapped = data.get("bytes")
        if isinstance(wrapped, str) and set(data) <= {"bytes", "p"}:
            try:
                inner = parse(base64.b64decode(wrapped))
            except binascii.Error:
                return
            if isinstance(inner, dict):
                self.frame(inner)
            return
        metrics = data.get("amazon-bedrock-invocationMetrics")
        if isinstance(metrics, dict):
            self._told.update(_metrics(metrics))
        if data.get("type") in {"message", "message_start", "message_delta", "content_block_start", "error"}:
            self._anthropic.body(data)
            self.error_type = self._anthropic.error_type or self.error_type
            return
        for key in ("messageStart", "messageStop", "metadata", "contentBlockStart"):
            part = data.get(key)
            if isinstance(part, dict):
                super().frame(part)
        super().frame(data)
        self._other(data)

    def finish(self) -> None:
        outcome = self.outcome
        if outcome.input_tokens is None and outcome.output_tokens is None:
            outcome.cache_read_tokens = self._told.get("cache_read_tokens")
            outcome.cache_write_tokens = self._told.get("cache_write_tokens")
            if "input_tokens" in self._told:
                outcome.input_tokens = total_of(
                    self._told["input_tokens"], outcome.cache_read_tokens, outcome.cache_write_tokens
                )
            outcome.output_tokens = self._told.get("output_tokens")
        super().finish()

    def _other(self, data: Json) -> None:
        """Titan, Llama and the shapes of OpenAI."""
        outcome = self.outcome
        told = first_tokens(data, "inputTextTokenCount", "prompt_token_count")
        if told is not None:
            outcome.input_tokens = told
        output = first_tokens(data, "generation_token_count", "totalOutputTextTokenCount")
        results = data.get("results")
        if output is None and isinstance(results, list):
            output = total_of(*(first_tokens(result, "tokenCount") for result in results))
        if output is not None:
            outcome.output_tokens = output
        self.reason(0, data.get("stop_reason") or data.get("completionReason"))
        usage = data.get("usage")
        if isinstance(usage, dict) and "prompt_tokens" in usage:
            outcome.input_tokens = first_tokens(usage, "prompt_tokens")
            outcome.output_tokens = first_tokens(usage, "completion_tokens")


def bedrock_usage(outcome: LLMOutcome, usage: Json) -> None:
    """Write a `usage` object of Converse or of Nova."""
    told = first_tokens(usage, "inputTokens")
    output = first_tokens(usage, "outputTokens")
    if told is None and output is None:
        return
    outcome.cache_read_tokens = first_tokens(usage, "cacheReadInputTokens", "cacheReadInputTokenCount")
    outcome.cache_write_tokens = first_tokens(usage, "cacheWriteInputTokens", "cacheWriteInputTokenCount")
    outcome.input_tokens = (
        None if told is None else total_of(told, outcome.cache_read_tokens, outcome.cache_write_tokens)
    )
    outcome.output_tokens = output


def _metrics(metrics: Json) -> dict[str, int]:
    found = {
        "input_tokens": first_tokens(metrics, "inputTokenCount"),
        "output_tokens": first_tokens(metrics, "outputTokenCount"),
        "cache_read_tokens": first_tokens(metrics, "cacheReadInputTokenCount"),
        "cache_write_tokens": first_tokens(metrics, "cacheWriteInputTokenCount"),
    }
    return {key: value for key, value in found.items() if value is not None}
