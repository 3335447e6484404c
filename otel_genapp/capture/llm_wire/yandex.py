"""Yandex Foundation Models' own API: every part repeats the whole result, counts are strings."""

from __future__ import annotations

from otel_genapp.capture.llm_wire.reading import Json, Reading, first_tokens


class YandexReading(Reading):
    """A completion of Yandex's own API."""

    MARKS = (b'"error"',)
    KEYS = ("modelVersion", "usage", "error")

    __slots__ = ()

    def frame(self, data: Json) -> None:
        if data.get("error"):
            self.failed(data["error"])
            return
        result = data.get("result")
        source = result if isinstance(result, dict) else data
        self.model(source.get("modelVersion"))
        for place, alternative in enumerate(source.get("alternatives") or ()):
            if isinstance(alternative, dict):
                self.reason(place, str(alternative.get("status", "")).removeprefix("ALTERNATIVE_STATUS_"))
        usage = source.get("usage")
        if isinstance(usage, dict):
            self.outcome.input_tokens = first_tokens(usage, "inputTextTokens")
            self.outcome.output_tokens = first_tokens(usage, "completionTokens")
            details = usage.get("completionTokensDetails")
            self.outcome.reasoning_tokens = first_tokens(details, "reasoningTokens")
