"""What kind of span it is: a call to a model, one that may repeat the sum of calls, or neither."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

from otel_genapp import semconv
from otel_genapp.pipeline.dialects.keys import MODEL_KEYS, TOKEN_KEYS

SpanClass = Literal["llm", "agent"]


class Kind(NamedTuple):
    """The class of a span and, in the conventions' words, its operation where one is known."""

    span_class: SpanClass | None
    operation: str | None = None


_CHAT, _TEXT = Kind("llm", "chat"), Kind("llm", "text_completion")
_EMBEDDINGS, _GENERATE = Kind("llm", "embeddings"), Kind("llm", "generate_content")
_RERANK = Kind("llm", "rerank")
_AGENT, _WORKFLOW = Kind("agent", "invoke_agent"), Kind("agent", "invoke_workflow")
_SUM, _NEITHER = Kind("agent"), Kind(None)
_TOOL, _RETRIEVAL = Kind(None, "execute_tool"), Kind(None, "retrieval")

_NO_CALLS = (
    "create_memory", "create_memory_store", "decide", "delete_memory", "delete_memory_store",
    "execute_tool", "fetch_response", "memory", "plan", "retrieval", "search_memory",
    "tool_coordination", "update_memory", "upsert_memory", "vectordb",
)  # fmt: skip

_OPERATIONS: dict[str, Kind] = {
    **{name: Kind(None, name) for name in _NO_CALLS},
    "chat": _CHAT,
    "text_completion": _TEXT,
    "embeddings": _EMBEDDINGS,
    "generate_content": _GENERATE,
    "rerank": _RERANK,
    "invoke_agent": _AGENT,
    "invoke_workflow": _WORKFLOW,
    "create_agent": Kind("agent", "create_agent"),
    # What is in use beside them.
    "completion": _TEXT,
    "embedding": _EMBEDDINGS,
    "chat_completion": _CHAT,
    "chat.completions": _CHAT,
    "chat.streaming_completions": _CHAT,
    "text.completions": _TEXT,
    "text.streaming_completions": _TEXT,
    "responses": _CHAT,
    "message_creation": _CHAT,
    "execute_task": _SUM,
    "execute_event_loop_cycle": _SUM,
    "model_request": _SUM,
    "chain": _SUM,
    # litellm: the function that was called.
    "acompletion": _CHAT,
    "aresponses": _CHAT,
    "anthropic_messages": _CHAT,
    "atext_completion": _TEXT,
    "aembedding": _EMBEDDINGS,
    "arerank": _RERANK,
}
"""`gen_ai.operation.name`, and `llm.request.type` of OpenLLMetry and litellm."""

_OPENINFERENCE = {
    "llm": _CHAT, "embedding": _EMBEDDINGS, "decision": Kind("llm", "decision"),
    "agent": _AGENT, "chain": _WORKFLOW, "tool": Kind("agent", "execute_tool"),
    "evaluator": _SUM, "guardrail": _SUM,
    "retriever": _RETRIEVAL, "reranker": Kind(None, "rerank"), "prompt": _NEITHER,
}  # fmt: skip
"""smolagents repeats the sum of an agent's calls on the tool that runs it; a reranker may be local."""

_LANGFUSE = {
    "generation": _CHAT, "embedding": _EMBEDDINGS,
    "agent": _AGENT, "chain": _WORKFLOW, "span": _SUM, "evaluator": _SUM, "guardrail": _SUM,
    "tool": _TOOL, "retriever": _RETRIEVAL, "event": _NEITHER,
}  # fmt: skip

_LANGSMITH = {
    "llm": _CHAT, "embedding": _EMBEDDINGS, "chain": _WORKFLOW,
    "tool": _TOOL, "retriever": _RETRIEVAL, "prompt": _NEITHER, "parser": _NEITHER,
}  # fmt: skip

_TRACELOOP = {"agent": _AGENT, "workflow": _WORKFLOW, "task": _SUM, "tool": _TOOL}

_GENKIT = {
    "model": _CHAT, "embedder": _EMBEDDINGS, "agent": _AGENT, "flow": _WORKFLOW,
    "tool": _TOOL, "tool.v2": _TOOL, "retriever": _RETRIEVAL, "indexer": _NEITHER,
    "reranker": Kind(None, "rerank"), "prompt": _NEITHER,
}  # fmt: skip

_VERCEL = {
    "dogenerate": _CHAT, "dostream": _CHAT, "doembed": _EMBEDDINGS,
    "dorerank": _RERANK, "toolcall": _TOOL,
}  # fmt: skip


def _vercel(operation_id: str) -> Kind | None:
    """`ai.generateText.doGenerate` is the call, `ai.generateText` repeats the sum of such calls."""
    known = _VERCEL.get(operation_id.rpartition(".")[2])
    return _SUM if known is None and operation_id.startswith("ai.") else known


_LANGSMITH_KIND = "langsmith.span.kind"
_LOGFIRE_TYPE = "logfire.span_type"
_SAYING: tuple[tuple[str, Callable[[str], Kind | None]], ...] = (
    (semconv.OPERATION, _OPERATIONS.get),
    ("openinference.span.kind", _OPENINFERENCE.get),
    ("langfuse.observation.type", _LANGFUSE.get),
    ("ai.operationId", _vercel),
    ("llm.request.type", _OPERATIONS.get),
    ("traceloop.span.kind", _TRACELOOP.get),
    (_LANGSMITH_KIND, _LANGSMITH.get),
    ("genkit:metadata:subtype", _GENKIT.get),
)
_TOOL_KEYS = frozenset({"gen_ai.tool.name", "mcp.method.name"})
FOREIGN_KINDS = frozenset({key for key, _ in _SAYING}) - {semconv.OPERATION}
"""The attributes that say the kind of a span in the words of one dialect."""
_MARKS = FOREIGN_KINDS | _TOOL_KEYS | MODEL_KEYS
_AGENT_NAME, _LITELLM_CALL = "agent_name", "litellm.call_id"


def classify(attributes: Mapping[str, Any]) -> SpanClass | None:
    """`llm` for a call to a model, `agent` for a span that may sum calls up, None for others."""
    kind = kind_of(attributes)
    return None if kind is None else kind.span_class


def kind_of(attributes: Mapping[str, Any]) -> Kind | None:
    """The kind a span has by the first attribute that says one, or None where nothing does."""
    operation = attributes.get(semconv.OPERATION)
    if isinstance(operation, str):
        kind = _OPERATIONS.get(operation)
        if kind is not None and _LANGSMITH_KIND not in attributes and _LOGFIRE_TYPE not in attributes:
            return kind
    elif _MARKS.isdisjoint(attributes):  # most spans of a process: one pass says so
        return None
    return _said(attributes)


def operation_kind(operation: object) -> Kind | None:
    """The kind of a span of this `gen_ai.operation.name`."""
    return _OPERATIONS.get(operation) if isinstance(operation, str) else None


def _said(attributes: Mapping[str, Any]) -> Kind | None:
    langsmith = attributes.get(_LANGSMITH_KIND)
    if isinstance(langsmith, str) and langsmith.lower() in _LANGSMITH:
        # It names the operation of prompts `chat` and of retrievers `embeddings`.
        return _LANGSMITH[langsmith.lower()]
    for key, kinds in _SAYING:
        value = attributes.get(key)
        if not isinstance(value, str):
            continue
        kind = kinds(value.lower())
        if kind is not None:
            return _corrected(kind, attributes)
    if not _TOOL_KEYS.isdisjoint(attributes):
        return _TOOL
    if MODEL_KEYS.isdisjoint(attributes) or TOKEN_KEYS.isdisjoint(attributes):
        return None
    # pydantic-ai 1: an agent's run names no operation.
    return _AGENT if _AGENT_NAME in attributes else Kind("llm")


def _corrected(kind: Kind, attributes: Mapping[str, Any]) -> Kind:
    if kind.span_class == "llm" and attributes.get(_LOGFIRE_TYPE) in ("log", "pending_span"):
        # A streamed answer is logged once more when it is complete, with all the request said.
        return Kind("agent", kind.operation)
    if kind is _TEXT and attributes.get("llm.request.type") == "completion" and _LITELLM_CALL in attributes:
        return _CHAT  # litellm's function of that name talks to chat models
    return kind
