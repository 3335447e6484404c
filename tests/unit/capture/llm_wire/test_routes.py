"""Which URLs are calls to a model."""

from __future__ import annotations

import json

import pytest

from otel_genapp.capture.llm_wire.asked import asked
from otel_genapp.capture.llm_wire.routes import route

CALLS = (
    ("api.openai.com", "/v1/chat/completions", ("openai", "chat", "openai", "m")),
    ("api.openai.com", "/v1/completions", ("openai", "text_completion", "openai", "m")),
    ("api.openai.com", "/v1/responses", ("responses", "chat", "openai", "m")),
    ("api.openai.com", "/v1/embeddings", ("openai", "embeddings", "openai", "m")),
    (
        "x.openai.azure.com",
        "/openai/deployments/dep-1/chat/completions",
        ("openai", "chat", "azure.ai.openai", "m"),
    ),
    ("127.0.0.1", "/openai/deployments/dep-1/embeddings", ("openai", "embeddings", "azure.ai.openai", "m")),
    ("api.anthropic.com", "/v1/messages", ("anthropic", "chat", "anthropic", "m")),
    ("gateway.corp", "/proxy/anthropic/v1/messages", ("anthropic", "chat", "anthropic", "m")),
    (
        "generativelanguage.googleapis.com",
        "/v1beta/models/gemini-2.5-flash:generateContent",
        ("gemini", "generate_content", "gcp.gemini", "m"),
    ),
    (
        "us-central1-aiplatform.googleapis.com",
        "/v1/projects/p/locations/l/publishers/google/models/g:streamGenerateContent",
        ("gemini", "generate_content", "gcp.vertex_ai", "m"),
    ),
    (
        "us-east5-aiplatform.googleapis.com",
        "/v1/projects/p/locations/l/publishers/anthropic/models/claude:streamRawPredict",
        ("anthropic", "chat", "gcp.vertex_ai", "m"),
    ),
    (
        "generativelanguage.googleapis.com",
        "/v1beta/openai/chat/completions",
        ("openai", "chat", "gcp.gemini", "m"),
    ),
    ("api.mistral.ai", "/v1/fim/completions", ("openai", "chat", "mistral_ai", "m")),
    ("api.groq.com", "/openai/v1/chat/completions", ("openai", "chat", "groq", "m")),
    ("api.deepseek.com", "/chat/completions", ("openai", "chat", "deepseek", "m")),
    ("api.together.xyz", "/v1/chat/completions", ("openai", "chat", "together_ai", "m")),
    ("openrouter.ai", "/api/v1/chat/completions", ("openai", "chat", "openrouter", "m")),
    ("api.cohere.com", "/v2/chat", ("cohere", "chat", "cohere", "m")),
    ("api.writer.com", "/v1/chat", ("openai", "chat", "writer", "m")),
    ("127.0.0.1", "/api/chat", ("ollama", "chat", "ollama", "m")),
    ("gigachat.devices.sberbank.ru", "/api/v1/chat/completions", ("openai", "chat", "gigachat", "m")),
    (
        "bedrock-runtime.us-east-1.amazonaws.com",
        "/model/amazon.nova%3A0/converse-stream",
        ("converse", "chat", "aws.bedrock", "m"),
    ),
    ("vllm.internal", "/v1/chat/completions", ("openai", "chat", "openai", "m")),
)
NO_CALLS = (
    "/v1/threads/t/runs", "/v1/threads/t/messages", "/v1/messages/count_tokens", "/v1/messages/batches",
    "/v1/responses/input_tokens", "/v1/responses/compact", "/v1/responses/resp_1/cancel", "/v1/files",
    "/v1/assistants", "/v1/conversations", "/api/show", "/v1beta/models/g:countTokens", "/mcp",
    "/v1/traces", "/model/m/count-tokens", "/guardrail/g/version/1/apply", "/chat", "/users/generate",
    "/v1/moderations", "/v1/vector_stores/v/search", "/v1/uploads", "/api/v1/chat",
)  # fmt: skip


@pytest.mark.parametrize(("host", "path", "expected"), CALLS)
def test_calls_are_known_by_their_path(host: str, path: str, expected: tuple[str, str, str, str]) -> None:
    """Family, operation, provider and model follow from the path's end, the host and the body."""
    body = json.dumps({"model": "m", "messages": [{}], "prompt": "p", "input": "i", "max_tokens": 1}).encode()
    found = route(host, None, path=path)
    assert found is not None
    said = asked(found, body)
    assert said is not None
    assert (said.family, said.operation, said.provider, said.model) == expected


@pytest.mark.parametrize("path", NO_CALLS)
def test_other_traffic_is_no_call(path: str) -> None:
    """Polling, token counts, files, telemetry and an application's own endpoints make no LLM span."""
    found = route("api.openai.com", None, path=path)
    assert found is None or asked(found, b'{"text": "hello"}') is None


def test_a_deployment_stands_in_for_the_model() -> None:
    """Azure's URL names the model where the body does not."""
    found = route("x.openai.azure.com", None, path="/openai/deployments/my%20dep/chat/completions")
    assert found is not None
    said = asked(found, b'{"messages": []}')
    assert said is not None
    assert said.model == "my dep"


@pytest.mark.parametrize("padding", [0, 400_000])
def test_a_long_or_broken_body_still_tells(padding: int) -> None:
    """Model, stream and tools are found in a body that is not parsed."""
    found = route("api.openai.com", None, path="/v1/chat/completions")
    assert found is not None
    text = (
        b'{"messages": [{"content": "\\"model\\": \\"no\\" %b"}], "stream": true, "tools": [{}], "model": "m"'
        % (b"x" * padding)
    )
    said = asked(found, text)
    assert said is not None
    assert (said.model, said.stream, said.tools) == ("m", True, True)


def test_a_fitting_path_with_another_body_is_no_call() -> None:
    """An application's own /api/chat is told by its body."""
    found = route("127.0.0.1", 8000, path="/api/chat")
    assert found is not None
    assert asked(found, b'{"text": "hi"}') is None
