"""Family of a wire format -> how its answers are read."""

from __future__ import annotations

from otel_genapp.capture.llm_wire.anthropic import AnthropicReading
from otel_genapp.capture.llm_wire.bedrock import ConverseReading, InvokeReading
from otel_genapp.capture.llm_wire.cohere import CohereReading
from otel_genapp.capture.llm_wire.gemini import GeminiReading, InteractionsReading
from otel_genapp.capture.llm_wire.ollama import OllamaReading
from otel_genapp.capture.llm_wire.openai import OpenAIReading
from otel_genapp.capture.llm_wire.reading import Reading
from otel_genapp.capture.llm_wire.responses import ResponsesReading
from otel_genapp.capture.llm_wire.yandex import YandexReading

READINGS: dict[str, type[Reading]] = {
    "anthropic": AnthropicReading,
    "cohere": CohereReading,
    "converse": ConverseReading,
    "gemini": GeminiReading,
    "interactions": InteractionsReading,
    "invoke": InvokeReading,
    "ollama": OllamaReading,
    "openai": OpenAIReading,
    "responses": ResponsesReading,
    "yandex": YandexReading,
}
