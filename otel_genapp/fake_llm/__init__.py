"""An LLM server for tests and demos that knows, to the token, what it answered.

`FakeLLMServer` listens on a real loopback socket, so any SDK or client pointed at it works unchanged.
Answers and faults are scripted, token counts are deterministic, and its `ledger` is the truth to
compare telemetry with:

    with FakeLLMServer() as server:
        client = openai.OpenAI(base_url=server.base_url, api_key="any")
        server.script(ErrorStatus(429, retry_after_s=0), Answer("Hello", input_tokens=7))
        client.chat.completions.create(model="gpt-5-mini", messages=[...])  # the SDK retries once
        assert [served.outcome for served in server.ledger] == ["error", "ok"]

It speaks, streaming and not, under `base_url` (Azure, Anthropic and Gemini under `root_url`):

    /v1/chat/completions, /v1/completions, /v1/embeddings, /v1/responses     OpenAI
    /openai/deployments/{deployment}/chat/completions?api-version=…          Azure; completions, embeddings
    /v1/messages                                                             Anthropic
    /v1beta/models/{model}:generateContent, :streamGenerateContent           Gemini; ?alt=sse or an array

What is no inference answers too and stays out of the ledger: `GET /v1/models`, `GET /v1/responses/{id}`
with the usage once more, `/v1/responses/input_tokens`, `/v1/messages/count_tokens`, `:countTokens`.

`python -m otel_genapp.fake_llm --ledger PATH` runs it as a process of its own.
"""

from otel_genapp.fake_llm.answers import (
    Answer,
    Cut,
    ErrorInStream,
    ErrorStatus,
    Fault,
    Hang,
    MalformedJSON,
    NoUsage,
    ToolCall,
)
from otel_genapp.fake_llm.requests import LLMRequest
from otel_genapp.fake_llm.served import Served, Totals, read_ledger
from otel_genapp.fake_llm.server import FakeLLMServer

__all__ = [
    "Answer",
    "Cut",
    "ErrorInStream",
    "ErrorStatus",
    "FakeLLMServer",
    "Fault",
    "Hang",
    "LLMRequest",
    "MalformedJSON",
    "NoUsage",
    "Served",
    "ToolCall",
    "Totals",
    "read_ledger",
]
