"""Answers of every wire format, written by hand after the providers' documentation, and what they say."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import Any

from otel_genapp.records import Usage


@dataclass(frozen=True)
class Played:
    """One exchange, and the call it is to become."""

    name: str
    url: str
    asked: dict[str, Any]
    body: bytes
    usage: Usage
    content_type: str = "application/json"
    status: int = 200
    outcome: str = "success"
    error_type: str | None = None
    provider: str = "openai"
    model: str = "m-1"
    response_model: str | None = "m-1-2026"
    response_id: str | None = "id-1"
    tools: tuple[str, ...] = ()
    finish_reasons: tuple[str, ...] = ("stop",)
    operation: str = "chat"
    headers: dict[str, str] = field(default_factory=dict)


def sse(*events: Any, names: bool = False, done: bool = True) -> bytes:
    """Server-sent events."""
    lines = []
    for event in events:
        name = f"event: {event['type']}\n" if names else ""
        lines.append(f"{name}data: {json.dumps(event, separators=(',', ':'))}\n\n")
    return ("".join(lines) + ("data: [DONE]\n\n" if done else "")).encode()


def ndjson(*lines: Any) -> bytes:
    """Lines of JSON."""
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def eventstream(*messages: tuple[str, Any]) -> bytes:
    """Amazon's binary event stream, with checksums nobody checks here."""
    out = b""
    for kind, payload in messages:
        head = b"".join(
            bytes((len(name),)) + name + b"\x07" + len(value).to_bytes(2, "big") + value
            for name, value in ((b":event-type", kind.encode()), (b":message-type", b"event"))
        )
        body = json.dumps(payload).encode()
        total = 12 + len(head) + len(body) + 4
        out += (
            total.to_bytes(4, "big") + len(head).to_bytes(4, "big") + b"\0\0\0\0" + head + body + b"\0\0\0\0"
        )
    return out


def _chunk(
    delta: dict[str, Any], *, finish: str | None = None, index: int = 0, **more: Any
) -> dict[str, Any]:
    choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
    return {"id": "id-1", "object": "chat.completion.chunk", "model": "m-1-2026", "choices": [choice], **more}


def _wrapped(event: Any) -> tuple[str, Any]:
    return "chunk", {"bytes": base64.b64encode(json.dumps(event).encode()).decode(), "p": "abc"}


_OPENAI = "http://api.openai.com/v1"
_CHAT = {"model": "m-1", "messages": [{"role": "user", "content": "hi"}]}
_STREAM = {**_CHAT, "stream": True, "tools": [{"type": "function"}]}
_USAGE = {
    "prompt_tokens": 40, "completion_tokens": 9, "total_tokens": 49,
    "prompt_tokens_details": {"cached_tokens": 30, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 4, "audio_tokens": 0},
}  # fmt: skip
_USED = Usage(input=40, output=9, cache_read=30, reasoning=4)
_WORDS = [_chunk({"content": f"word{n} data: [DONE] "}, usage=None) for n in range(300)]
_TOOL = [
    _chunk({"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "search", "arguments": ""}}]}),
    _chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"q":'}}]}),
    _chunk({"tool_calls": [{"index": 1, "id": "c2", "function": {"name": "buy", "arguments": "{}"}}]}),
]
_MESSAGE = {"id": "id-1", "type": "message", "role": "assistant", "model": "m-1-2026"}
_VERTEX = (
    "http://us-central1-aiplatform.googleapis.com/v1/projects/p/locations/l/publishers/google/models/m-1"
)
_GOOGLE = {"contents": [{"parts": [{"text": "hi"}]}], "tools": [{}]}
_BEDROCK = "http://bedrock-runtime.us-east-1.amazonaws.com/model/m-1"
_GEMINI_USAGE = {
    "promptTokenCount": 21, "cachedContentTokenCount": 5, "toolUsePromptTokenCount": 3,
    "candidatesTokenCount": 35, "thoughtsTokenCount": 65, "totalTokenCount": 124,
}  # fmt: skip
_GEMINI = Usage(input=24, output=100, cache_read=5, reasoning=65)


def _candidate(text: str, finish: str | None = None, usage: Any = None) -> dict[str, Any]:
    found: dict[str, Any] = {"candidates": [{"content": {"parts": [{"text": text}]}, "index": 0}]}
    if finish:
        found["candidates"][0]["finishReason"] = finish
    return {
        **found,
        "usageMetadata": usage or {"trafficType": "ON_DEMAND"},
        "modelVersion": "m-1-2026",
        "responseId": "id-1",
    }


PLAYED = (
    Played(
        "chat", f"{_OPENAI}/chat/completions", _CHAT,
        json.dumps({
            "id": "id-1", "model": "m-1-2026", "usage": _USAGE,
            "choices": [{"index": 0, "message": {"content": "x"}, "finish_reason": "stop"}],
        }, indent=2).encode(), _USED,
    ),
    Played(
        "chat with tools", f"{_OPENAI}/chat/completions", {**_CHAT, "tools": [{}]},
        json.dumps({
            "id": "id-1", "model": "m-1-2026", "usage": _USAGE,
            "choices": [{"index": 0, "finish_reason": "tool_calls", "message": {"tool_calls": [
                {"function": {"name": "search", "arguments": "{}"}}, {"function": {"name": "buy", "arguments": "{}"}},
            ]}}],
        }).encode(), _USED, tools=("search", "buy"), finish_reasons=("tool_calls",),
    ),
    Played(
        "chat streamed", f"{_OPENAI}/chat/completions", _STREAM,
        sse(*_WORDS, *_TOOL, _chunk({}, finish="tool_calls"), {"id": "id-1", "model": "m-1-2026", "choices": [], "usage": _USAGE}),
        _USED, "text/event-stream", tools=("search", "buy"), finish_reasons=("tool_calls",),
    ),
    Played(
        "chat streamed, usage not asked for", f"{_OPENAI}/chat/completions", _STREAM,
        sse(*_WORDS, _chunk({}, finish="stop")), Usage(), "text/event-stream",
    ),
    Played(
        "two choices streamed", f"{_OPENAI}/chat/completions", {**_STREAM, "n": 2},
        sse(_chunk({"content": "a"}), _chunk({}, finish="length"), *_WORDS, _chunk({}, finish="stop", index=1), {"choices": [], "usage": _USAGE}),
        _USED, "text/event-stream", finish_reasons=("length", "stop"),
    ),
    Played(
        "usage in every chunk", "http://vllm.internal/v1/chat/completions", _STREAM,
        sse(*[_chunk({"content": "a"}, usage={"prompt_tokens": 40, "completion_tokens": n}) for n in range(200)],
            _chunk({}, finish="stop", usage=_USAGE)),
        _USED, "text/event-stream",
    ),
    Played(
        "usage of Groq", "http://api.groq.com/openai/v1/chat/completions", _STREAM,
        sse(*_WORDS, _chunk({}, finish="stop", x_groq={"id": "r", "usage": _USAGE})),
        _USED, "text/event-stream", provider="groq",
    ),
    Played(
        "reasoning told apart", "http://api.x.ai/v1/chat/completions", _CHAT,
        json.dumps({"id": "id-1", "model": "m-1-2026", "choices": [{"finish_reason": "stop"}], "usage": {
            "prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 35, "completion_tokens_details": {"reasoning_tokens": 20},
        }}).encode(), Usage(input=10, output=25, reasoning=20), provider="x_ai",
    ),
    Played(
        "an error in a stream", f"{_OPENAI}/chat/completions", _STREAM,
        sse(_chunk({"content": "a"}), {"error": {"message": "no", "type": "server_error", "code": None}}, done=False),
        Usage(), "text/event-stream", outcome="fail", error_type="server_error", finish_reasons=(),
    ),
    Played(
        "an error with status 200", "http://x.openai.azure.com/openai/deployments/m-1/chat/completions", {"messages": [{}]},
        b'{"error":{"code":"content_filter","message":"no"}}', Usage(), outcome="fail", error_type="content_filter",
        provider="azure.ai.openai", response_model=None, response_id=None, finish_reasons=(),
    ),
    Played(
        "an error", f"{_OPENAI}/chat/completions", _CHAT, b'{"error":{"message":"no","type":"invalid_request_error","code":"model_not_found"}}',
        Usage(), status=404, outcome="fail", error_type="model_not_found", response_model=None, response_id=None, finish_reasons=(),
    ),
    Played(
        "an error without words", f"{_OPENAI}/chat/completions", _CHAT, b"<html>", Usage(), "text/html", status=502, outcome="fail",
        error_type="502", response_model=None, response_id=None, finish_reasons=(),
    ),
    Played(
        "text", f"{_OPENAI}/completions", {"model": "m-1", "prompt": "p", "stream": True},
        sse({"id": "id-1", "model": "m-1-2026", "choices": [{"text": "x", "index": 0, "finish_reason": "length"}]}),
        Usage(), "text/event-stream", finish_reasons=("length",), operation="text_completion",
    ),
    Played(
        "embeddings of 3 MB", f"{_OPENAI}/embeddings", {"model": "m-1", "input": "x"},
        json.dumps({"object": "list", "data": [{"embedding": [0.123456789] * 250_000, "index": 0}], "model": "m-1-2026",
                    "usage": {"prompt_tokens": 8, "total_tokens": 8}}).encode(),
        Usage(input=8), response_id=None, finish_reasons=(), operation="embeddings",
    ),
    Played(
        "responses", f"{_OPENAI}/responses", {"model": "m-1", "input": "x", "tools": [{}]},
        json.dumps({
            "id": "id-1", "object": "response", "status": "completed", "error": None, "model": "m-1-2026",
            "output": [{"type": "reasoning"}, {"type": "function_call", "name": "search", "status": "completed"}],
            "tools": [{"type": "function", "name": "other"}],
            "usage": {"input_tokens": 40, "input_tokens_details": {"cached_tokens": 30}, "output_tokens": 9,
                      "output_tokens_details": {"reasoning_tokens": 4}, "total_tokens": 49},
        }).encode(), _USED, tools=("search",), finish_reasons=("completed",),
    ),
    Played(
        "responses streamed, with a last event of 300 kB", f"{_OPENAI}/responses", {"model": "m-1", "input": "x", "stream": True, "tools": [{}]},
        sse(
            {"type": "response.created", "response": {"id": "id-1", "model": "m-1-2026", "status": "in_progress", "usage": None}},
            {"type": "response.output_item.done", "item": {"type": "function_call", "name": "search", "arguments": "{}"}},
            {"type": "response.completed", "response": {
                "id": "id-1", "status": "completed", "model": "m-1-2026", "output": [{"type": "message", "text": "x" * 300_000}],
                "usage": {"input_tokens": 40, "input_tokens_details": {"cached_tokens": 30}, "output_tokens": 9,
                          "output_tokens_details": {"reasoning_tokens": 4}, "total_tokens": 49}}},
            names=True, done=False,
        ), _USED, "text/event-stream", tools=("search",), finish_reasons=("completed",),
    ),
    Played(
        "messages", "http://api.anthropic.com/v1/messages", {**_CHAT, "max_tokens": 9, "tools": [{}]},
        json.dumps({**_MESSAGE, "content": [{"type": "text", "text": "x"}, {"type": "tool_use", "name": "search", "input": {}}],
                    "stop_reason": "tool_use", "usage": {
                        "input_tokens": 3, "cache_read_input_tokens": 40, "cache_creation_input_tokens": 7, "output_tokens": 9}}).encode(),
        Usage(input=50, output=9, cache_read=40, cache_write=7), provider="anthropic", tools=("search",), finish_reasons=("tool_use",),
    ),
    Played(
        "messages streamed, whose end overrides the start", "http://api.anthropic.com/v1/messages", {**_STREAM, "max_tokens": 9},
        sse(
            {"type": "message_start", "message": {**_MESSAGE, "content": [], "stop_reason": None, "usage": {
                "input_tokens": 3, "cache_creation_input_tokens": 2474, "cache_read_input_tokens": 0, "output_tokens": 1}}},
            {"type": "ping"},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "id": "t", "name": "search", "input": {}}},
            *[{"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": "message_stop"}} for _ in range(300)],
            {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {
                "input_tokens": 5, "cache_creation_input_tokens": 24164, "cache_read_input_tokens": None, "output_tokens": 90}},
            {"type": "message_stop"}, names=True, done=False,
        ), Usage(input=24169, output=90, cache_read=0, cache_write=24164), "text/event-stream", provider="anthropic",
        tools=("search",), finish_reasons=("tool_use",),
    ),
    Played(
        "messages, overloaded in mid-stream", "http://api.anthropic.com/v1/messages", {**_STREAM, "max_tokens": 9},
        sse({"type": "message_start", "message": {**_MESSAGE, "usage": {"input_tokens": 3, "output_tokens": 1}}},
            {"type": "error", "error": {"type": "overloaded_error", "message": "no"}}, names=True, done=False),
        Usage(input=3, output=1), "text/event-stream", provider="anthropic", outcome="fail", error_type="overloaded_error", finish_reasons=(),
    ),
    Played(
        "Gemini", f"{_VERTEX}:generateContent", _GOOGLE, json.dumps({**_candidate("x", "STOP", _GEMINI_USAGE)}, indent=1).encode(), _GEMINI,
        provider="gcp.vertex_ai", finish_reasons=("STOP",), operation="generate_content",
    ),
    Played(
        "Gemini streamed, whose counts do not grow", f"{_VERTEX}:streamGenerateContent?alt=sse", _GOOGLE,
        sse(*[_candidate("x", usage={"promptTokenCount": 80, "candidatesTokenCount": 9, "thoughtsTokenCount": n, "totalTokenCount": 186})
              for n in range(100)],
            {**_candidate("y"), "candidates": [{"content": {"parts": [{"functionCall": {"name": "search", "args": {}}}]}}]},
            _candidate("z", "STOP", _GEMINI_USAGE), done=False).replace(b"\n\n", b"\r\n\r\n"),
        _GEMINI, "text/event-stream", provider="gcp.vertex_ai", tools=("search",), finish_reasons=("STOP",), operation="generate_content",
    ),
    Played(
        "Gemini streamed as an array", "http://generativelanguage.googleapis.com/v1beta/models/m-1:streamGenerateContent", _GOOGLE,
        json.dumps([_candidate("x"), _candidate("z", "MAX_TOKENS", _GEMINI_USAGE)]).encode(), _GEMINI,
        provider="gcp.gemini", finish_reasons=("MAX_TOKENS",), operation="generate_content",
    ),
    Played(
        "Cohere", "http://api.cohere.com/v2/chat", _CHAT,
        b'{"id":"id-1","message":{"content":[]},"finish_reason":"COMPLETE","usage":{"billed_units":{"input_tokens":7,"output_tokens":88},'
        b'"tokens":{"input_tokens":69,"output_tokens":89}}}', Usage(input=7, output=88), provider="cohere", response_model=None,
        finish_reasons=("COMPLETE",),
    ),
    Played(
        "Cohere streamed", "http://api.cohere.com/v2/chat", _STREAM,
        sse({"type": "message-start", "id": "id-1", "delta": {}}, *[{"type": "content-delta", "delta": {}} for _ in range(50)],
            {"type": "tool-call-start", "index": 0, "delta": {"message": {"tool_calls": {"function": {"name": "search"}}}}},
            {"type": "message-end", "delta": {"finish_reason": "TOOL_CALL", "usage": {"billed_units": {"input_tokens": 7, "output_tokens": 88}}}},
            names=True),
        Usage(input=7, output=88), "text/event-stream", provider="cohere", response_model=None, tools=("search",), finish_reasons=("TOOL_CALL",),
    ),
    Played(
        "Ollama", "http://127.0.0.1:11434/api/chat", {**_CHAT, "stream": None},
        ndjson(*[{"model": "m-1-2026", "message": {"content": "x"}, "done": False} for _ in range(40)],
               {"model": "m-1-2026", "message": {"content": ""}, "done_reason": "stop", "done": True, "total_duration": 5,
                "prompt_eval_count": 17, "eval_count": 63}),
        Usage(input=17, output=63), "application/x-ndjson", provider="ollama", response_id=None,
    ),
    Played(
        "Bedrock Converse streamed", f"{_BEDROCK}/converse-stream", {"messages": []},
        eventstream(("messageStart", {"role": "assistant"}),
                    ("contentBlockStart", {"start": {"toolUse": {"name": "search", "toolUseId": "t"}}, "contentBlockIndex": 0}),
                    ("messageStop", {"stopReason": "tool_use"}),
                    ("metadata", {"usage": {"inputTokens": 3, "outputTokens": 9, "cacheReadInputTokens": 40, "cacheWriteInputTokens": 7}})),
        Usage(input=50, output=9, cache_read=40, cache_write=7), "application/vnd.amazon.eventstream", provider="aws.bedrock",
        response_model=None, response_id=None, tools=("search",), finish_reasons=("tool_use",),
    ),
    Played(
        "Bedrock Invoke of Anthropic streamed", f"{_BEDROCK}/invoke-with-response-stream", {"messages": []},
        eventstream(_wrapped({"type": "message_start", "message": {**_MESSAGE, "usage": {"input_tokens": 14, "output_tokens": 1}}}),
                    _wrapped({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 10}}),
                    _wrapped({"type": "message_stop", "amazon-bedrock-invocationMetrics": {"inputTokenCount": 14, "outputTokenCount": 8}})),
        Usage(input=14, output=10), "application/vnd.amazon.eventstream", provider="aws.bedrock", finish_reasons=("end_turn",),
    ),
    Played(
        "Bedrock Invoke, usage in headers", f"{_BEDROCK}/invoke", {"prompt": "x"}, b'{"outputs":[{"text":"x","stop_reason":"length"}]}',
        Usage(input=6, output=10), provider="aws.bedrock", response_model=None, response_id=None, finish_reasons=(),
        headers={"x-amzn-bedrock-input-token-count": "6", "x-amzn-bedrock-output-token-count": "10"},
    ),
    Played(
        "Yandex", "http://llm.api.cloud.yandex.net/foundationModels/v1/completion", {"modelUri": "m-1", "messages": []},
        b'{"result":{"alternatives":[{"status":"ALTERNATIVE_STATUS_FINAL"}],"usage":{"inputTextTokens":"20","completionTokens":"5",'
        b'"totalTokens":"25"},"modelVersion":"m-1-2026"}}', Usage(input=20, output=5), provider="yandex", response_id=None,
        finish_reasons=("FINAL",),
    ),
)  # fmt: skip
