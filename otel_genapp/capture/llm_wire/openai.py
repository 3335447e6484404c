"""OpenAI's chat, text completions and embeddings, and everything that answers in their shape.

The shape is spoken by Azure, Mistral, Groq, DeepSeek, Together, OpenRouter, vLLM, GigaChat and
many more. Their differences are in where usage stands: in the last chunk, in every chunk
(cumulative: the last one counts, never the sum), under `x_groq`, with other names for the details.
"""

from __future__ import annotations

import re
from typing import Any

from otel_genapp.capture.llm_span import LLMOutcome
from otel_genapp.capture.llm_wire.reading import Json, Reading, first_tokens

_INPUT_DETAILS = ("prompt_tokens_details", "input_tokens_details", "prompt_token_details")
_OUTPUT_DETAILS = ("completion_tokens_details", "output_tokens_details", "completion_token_details")


class OpenAIReading(Reading):
    """A chat completion, a text completion or embeddings."""

    LAST = (b"[DONE]",)
    LATEST = (b'"usage":{', b'"usage": {')
    TOOL_MARKS = (b'"tool_calls"', b'"function_call"')
    CHOICE_MARKS = (b'"finish_reason":"', b'"finish_reason": "')
    KEYS = ("id", "model", "usage", "error", "service_tier")
    TOOL_NAME = re.compile(
        rb'(?<!\\)"function"\s*:\s*\{[^{}]*?"name"\s*:\s*"([^"\\]{1,128})"[^{}]*?"arguments"'
    )

    __slots__ = ("_tools",)

    def __init__(self, asked: Any, outcome: LLMOutcome) -> None:
        super().__init__(asked, outcome)
        self._tools: set[tuple[int, int]] = set()

    def frame(self, data: Json) -> None:
        if data.get("error") and not data.get("choices"):
            self.failed(data["error"])
            return
        self.identity(data.get("id"))
        self.model(data.get("model"))
        self.tier(data.get("service_tier"))
        choices = data.get("choices")
        if isinstance(choices, list):
            for place, choice in enumerate(choices):
                if isinstance(choice, dict):
                    self._choice(choice, place)
        usage = data.get("usage")
        if not isinstance(usage, dict):
            groq = data.get("x_groq")
            usage = groq.get("usage") if isinstance(groq, dict) else None
            if isinstance(groq, dict) and groq.get("error"):
                self.failed({"code": None}, "error")
        if isinstance(usage, dict) and usage:
            openai_usage(self.outcome, usage)
            if self.asked.operation == "embeddings":
                self.outcome.output_tokens = None  # the 0 of some vendors is no answer
        if data.get("error"):  # with choices: a stream that broke off
            self.failed(data["error"])

    def _choice(self, choice: Json, place: int) -> None:
        index = choice.get("index")
        index = index if isinstance(index, int) else place
        self.reason(index, choice.get("finish_reason"))
        for key in ("message", "delta"):
            said = choice.get(key)
            if not isinstance(said, dict):
                continue
            calls = said.get("tool_calls")
            if isinstance(calls, list):
                for position, call in enumerate(calls):
                    if isinstance(call, dict):
                        self._tool_call(call, index, position=position)
            legacy = said.get("function_call")
            if isinstance(legacy, dict) and legacy.get("name"):
                self._once(index, -1, name=legacy["name"])

    def _tool_call(self, call: Json, choice: int, *, position: int) -> None:
        function = call.get("function")
        name = function.get("name") if isinstance(function, dict) else call.get("name")
        if not name and not isinstance(call.get("custom"), dict):
            return  # more of the arguments of one that was named before
        if not name:
            name = call["custom"].get("name")
        place = call.get("index")
        self._once(choice, place if isinstance(place, int) else position, name=name)

    def _once(self, choice: int, place: int, *, name: Any) -> None:
        if (choice, place) not in self._tools and len(self._tools) < 1024:
            self._tools.add((choice, place))
            self.tool(name)


def openai_usage(outcome: LLMOutcome, usage: Json) -> None:
    """Write a `usage` object's tokens; a later object replaces what an earlier one said."""
    told = first_tokens(usage, "prompt_tokens", "input_tokens")
    output = first_tokens(usage, "completion_tokens", "output_tokens")
    total = first_tokens(usage, "total_tokens")
    if told is None and output is None:
        told = total  # embeddings of some vendors
    cache_read = cache_write = audio = None
    for key in _INPUT_DETAILS:
        details = usage.get(key)
        if isinstance(details, dict):
            cache_read = first_tokens(details, "cached_tokens")
            cache_write = first_tokens(details, "cache_write_tokens", "cache_creation_tokens")
            audio = first_tokens(details, "audio_tokens")
            break
    if cache_read is None:
        cache_read = first_tokens(
            usage,
            "num_cached_tokens",
            "prompt_cache_hit_tokens",
            "cached_tokens",
            "precached_prompt_tokens",
            "cache_read_input_tokens",
        )
    if cache_write is None:
        cache_write = first_tokens(usage, "cache_write_tokens", "cache_creation_input_tokens")
    reasoning = audio_out = None
    for key in _OUTPUT_DETAILS:
        details = usage.get(key)
        if isinstance(details, dict):
            reasoning = first_tokens(details, "reasoning_tokens")
            audio_out = first_tokens(details, "audio_tokens")
            break
    if reasoning is None:
        reasoning = first_tokens(usage, "reasoning_tokens")
    if reasoning and None not in {told, output, total} and (told or 0) + (output or 0) + reasoning == total:
        output = (output or 0) + reasoning  # told apart from the completion by some vendors
    outcome.input_tokens, outcome.output_tokens = told, output
    outcome.cache_read_tokens, outcome.cache_write_tokens = cache_read, cache_write
    outcome.reasoning_tokens = reasoning
    outcome.audio_input_tokens, outcome.audio_output_tokens = audio or None, audio_out or None
