"""Which attributes are what people and models said, whoever's instrumentation made them.

Instrumentations differ in whether they record it unasked; what is kept here must not depend on that.
So it is decided by names, of every dialect this package reads, and rather one too many: numbers are
no words, and stay.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

_SEGMENTS: Final = frozenset({
    "answer", "answers", "args", "arguments", "body", "choices", "completion", "completions", "content",
    "contents", "document", "documents", "embedding", "embeddings", "explanation", "function_call", "input", "inputs",
    "input_messages", "instructions", "kwargs", "message", "messages", "object", "output", "outputs",
    "output_messages", "parameters", "payload", "prompt", "prompts", "prompt_template", "query", "reasoning",
    "response_data", "request_data", "result", "results", "system_instructions", "text", "texts", "thinking",
    "tool_calls", "toolcalls", "transcript", "value", "values",
})  # fmt: skip
"""Any part of a name, between dots."""
_NAMES: Final = frozenset({
    "all_messages_events", "events", "final_result", "gcp.vertex.agent.data", "gcp.vertex.agent.llm_request",
    "gcp.vertex.agent.llm_response", "gcp.vertex.agent.tool_call_args", "gcp.vertex.agent.tool_response",
    "gen_ai.tool.definitions", "llm.tools", "logfire.msg", "mlflow.spanInputs", "mlflow.spanOutputs",
    "model_request_parameters", "pydantic_ai.all_messages", "tool_arguments", "tool_response",
})  # fmt: skip
_ENDINGS: Final = ("_content", "_message", "_messages", "_prompt", "_text")
_PARTS_OF_CALLS: Final = (
    "gen_ai.prompt",
    "gen_ai.completion",
    "langfuse.",
    "langsmith.metadata",
    "llm.invocation_parameters",
)
_NEVER: Final = (
    "db.",
    "exception.",
    "gen_ai.output.type",
    "genapp.",
    "http.",
    "messaging.",
    "server.",
    "url.",
)
"""What happened to a request is no content of it; bodies, parameters and rows of an answer are."""
_EVEN_THERE: Final = frozenset({
    "body", "document", "documents", "embeddings", "parameter", "parameters", "result", "results",
})  # fmt: skip
_COUNTS: Final = (".usage.", "token_count", "token_details")


@lru_cache(maxsize=4096)
def is_content(key: str) -> bool:
    """Whether an attribute of that name holds words of people or models, or what they were made of."""
    name = key.lower()
    segments = name.split(".")
    if name.startswith(_NEVER):
        return not _EVEN_THERE.isdisjoint(segments)
    if any(part in name for part in _COUNTS):
        return False
    return (
        key in _NAMES
        or name.startswith(_PARTS_OF_CALLS)
        or name.endswith(_ENDINGS)
        or not _SEGMENTS.isdisjoint(segments)
    )
