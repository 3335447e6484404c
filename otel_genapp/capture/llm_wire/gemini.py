"""Gemini's generateContent and embeddings, at Google AI and on Vertex, and its interactions.

Every chunk repeats `usageMetadata`, not always growing: the last whole object counts. Thoughts
come on top of `candidatesTokenCount`, tool use on top of `promptTokenCount`.
"""

from __future__ import annotations

import re

from otel_genapp.capture.llm_span import LLMOutcome
from otel_genapp.capture.llm_wire.reading import Json, Reading, first_tokens, total_of

_REASONS = {
    1: "STOP", 2: "MAX_TOKENS", 3: "SAFETY", 4: "RECITATION", 5: "OTHER", 6: "BLOCKLIST",
    7: "PROHIBITED_CONTENT", 8: "SPII", 9: "MALFORMED_FUNCTION_CALL",
}  # fmt: skip
_COUNTS = ("promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount", "totalTokenCount")


class GeminiReading(Reading):
    """Generated content, or embeddings."""

    MARKS = (b'"error"',)
    LATEST = (b'"promptTokenCount"',)
    TOOL_MARKS = (b'"functionCall"',)
    KEYS = ("responseId", "modelVersion", "usageMetadata", "error")
    TOOL_NAME = re.compile(rb'(?<!\\)"functionCall"\s*:\s*\{[^{}]*?"name"\s*:\s*"([^"\\]{1,128})"')

    __slots__ = ()

    def frame(self, data: Json) -> None:
        if data.get("error"):
            self.failed(_status_first(data["error"]))
            return
        self.identity(data.get("responseId"))
        self.model(data.get("modelVersion"))
        candidates = data.get("candidates")
        if isinstance(candidates, list):
            for place, candidate in enumerate(candidates):
                if isinstance(candidate, dict):
                    self._candidate(candidate, place)
        usage = data.get("usageMetadata")
        if isinstance(usage, dict):
            self.tier(usage.get("trafficType"))
            if any(key in usage for key in _COUNTS):
                _use(self.outcome, usage)
        predictions = data.get("predictions")
        if isinstance(predictions, list):
            self._predictions(predictions)

    def _candidate(self, candidate: Json, place: int) -> None:
        index, said = candidate.get("index"), candidate.get("finishReason")
        if isinstance(said, int):  # of old clients' protocol buffers
            said = _REASONS.get(said, str(said))
        self.reason(index if isinstance(index, int) else place, said)
        content = candidate.get("content")
        parts = content.get("parts") if isinstance(content, dict) else None
        if isinstance(parts, list):
            for part in parts:
                call = part.get("functionCall") if isinstance(part, dict) else None
                if isinstance(call, dict):
                    self.tool(call.get("name"))

    def _predictions(self, predictions: list[object]) -> None:
        counts: list[int] = []
        for prediction in predictions:
            embeddings = prediction.get("embeddings") if isinstance(prediction, dict) else None
            statistics = embeddings.get("statistics") if isinstance(embeddings, dict) else None
            tokens = first_tokens(statistics, "token_count")
            if tokens is not None:
                counts.append(tokens)
        if counts:
            self.outcome.input_tokens = sum(counts)


class InteractionsReading(Reading):
    """Gemini's interactions: an answer under `usage.total_…`, or events that end with one."""

    LAST = (b'"interaction.complete"', b'"interaction.completed"')
    MARKS = (b'"error"', b'"usage"')
    TOOL_MARKS = (b'"function_call"',)
    KEYS = ("id", "model", "status", "usage", "error")

    __slots__ = ()

    def frame(self, data: Json) -> None:
        if data.get("error"):
            self.failed(_status_first(data["error"]))
        for source in (data, data.get("interaction"), data.get("metadata")):
            if isinstance(source, dict):
                self._interaction(source, own=source is not data.get("metadata"))

    def _interaction(self, data: Json, *, own: bool) -> None:
        if own and "status" in data:
            self.identity(data.get("id"))
            self.reason(0, data.get("status"))
        self.model(data.get("model"))
        outputs = data.get("outputs")
        if isinstance(outputs, list):
            for output in outputs:
                if isinstance(output, dict) and output.get("type") == "function_call":
                    self.tool(output.get("name"))
        usage = data.get("usage") or data.get("total_usage")
        if isinstance(usage, dict):
            outcome = self.outcome
            outcome.input_tokens = total_of(
                first_tokens(usage, "total_input_tokens"), first_tokens(usage, "total_tool_use_tokens")
            )
            outcome.reasoning_tokens = first_tokens(usage, "total_thought_tokens", "total_reasoning_tokens")
            outcome.output_tokens = total_of(
                first_tokens(usage, "total_output_tokens"), outcome.reasoning_tokens
            )
            outcome.cache_read_tokens = first_tokens(usage, "total_cached_tokens")


def _use(outcome: LLMOutcome, usage: Json) -> None:
    thoughts = first_tokens(usage, "thoughtsTokenCount")
    outcome.input_tokens = total_of(
        first_tokens(usage, "promptTokenCount"), first_tokens(usage, "toolUsePromptTokenCount")
    )
    outcome.output_tokens = total_of(first_tokens(usage, "candidatesTokenCount"), thoughts)
    outcome.cache_read_tokens = first_tokens(usage, "cachedContentTokenCount")
    outcome.reasoning_tokens = thoughts
    outcome.audio_input_tokens = _of_modality(usage.get("promptTokensDetails"), "AUDIO")
    outcome.audio_output_tokens = _of_modality(usage.get("candidatesTokensDetails"), "AUDIO")


def _of_modality(details: object, modality: str) -> int | None:
    if not isinstance(details, list):
        return None
    for entry in details:
        if isinstance(entry, dict) and entry.get("modality") == modality:
            return first_tokens(entry, "tokenCount") or None
    return None


def _status_first(error: object) -> object:
    """Google's errors: `status` is the name, `code` repeats the HTTP status."""
    if isinstance(error, dict) and isinstance(error.get("status"), str):
        return {"code": error["status"]}
    return error
