"""Which requests are calls to a model: by the path's end, whatever host or proxy they go to.

The host is a hint for the provider only. What is not listed is no inference: polled runs, token
counts, stored answers, files and the rest of the APIs make no LLM span.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

CHAT, TEXT, EMBEDDINGS, GENERATE = "chat", "text_completion", "embeddings", "generate_content"
RERANK = "rerank"
COHERE_OR_OPENAI = "cohere or openai"
"""`/v1/chat` is Cohere's first API, which asks with one `message`; others of this path take `messages`."""


@dataclass(frozen=True, slots=True)
class Route:
    """What the URL says: the wire format, the operation and, where it is written there, the model."""

    family: str
    operation: str
    provider: str
    model: str | None = None
    stream: bool | None = None
    fits: Callable[[dict[str, Any]], bool] | None = None
    """Asked of the request's body where the path alone is not enough."""


_HOSTS: tuple[tuple[str, str], ...] = (
    ("api.openai.com", "openai"),
    (".openai.azure.com", "azure.ai.openai"),
    (".cognitiveservices.azure.com", "azure.ai.openai"),
    (".services.ai.azure.com", "azure.ai.inference"),
    (".inference.ai.azure.com", "azure.ai.inference"),
    (".models.ai.azure.com", "azure.ai.inference"),
    ("api.anthropic.com", "anthropic"),
    ("generativelanguage.googleapis.com", "gcp.gemini"),
    ("aiplatform.googleapis.com", "gcp.vertex_ai"),
    (".amazonaws.com", "aws.bedrock"),
    ("api.mistral.ai", "mistral_ai"),
    ("codestral.mistral.ai", "mistral_ai"),
    ("api.groq.com", "groq"),
    ("api.deepseek.com", "deepseek"),
    ("api.together.xyz", "together_ai"),
    ("api.together.ai", "together_ai"),
    ("openrouter.ai", "openrouter"),
    ("api.cohere.com", "cohere"),
    ("api.cohere.ai", "cohere"),
    ("api.x.ai", "x_ai"),
    ("api.perplexity.ai", "perplexity"),
    ("api.moonshot.ai", "moonshot_ai"),
    ("api.moonshot.cn", "moonshot_ai"),
    (".ml.cloud.ibm.com", "ibm.watsonx.ai"),
    ("api.writer.com", "writer"),
    ("api.voyageai.com", "voyage"),
    ("api.fireworks.ai", "fireworks"),
    ("api.cerebras.ai", "cerebras"),
    ("api.ai21.com", "ai21"),
    ("huggingface.co", "huggingface"),
    (".huggingface.cloud", "huggingface"),
    ("api.z.ai", "zai"),
    ("open.bigmodel.cn", "zai"),
    (".snowflakecomputing.com", "snowflake"),
    ("inference.crusoecloud.com", "crusoe"),
    (".crusoecloud.com", "crusoe"),
    ("api.sambanova.ai", "sambanova"),
    ("integrate.api.nvidia.com", "nvidia"),
    ("api.deepinfra.com", "deepinfra"),
    ("models.github.ai", "github"),
    (".aliyuncs.com", "alibaba_cloud"),
    (".sberbank.ru", "gigachat"),
    ("llm.api.cloud.yandex.net", "yandex"),
    ("ai.api.cloud.yandex.net", "yandex"),
)
"""End of the host's name -> `gen_ai.provider.name`: the conventions' value, else the vendor's own name."""

_OLLAMA_PORT = 11434
_AZURE_DEPLOYMENT = re.compile(r"/openai/deployments/([^/]+)/")
_MODEL_VERB = re.compile(r"/(?:models|endpoints|tunedModels|publishers/[^/]+/models)/([^/:]+):[A-Za-z]+$")
_PUBLISHER = re.compile(r"/publishers/([^/]+)/models/")
_BEDROCK_MODEL = re.compile(
    r"/model/([^/]+)/(?:converse|converse-stream|invoke|invoke-with-response-stream)$"
)


def route(host: str, port: int | None, *, path: str) -> Route | None:
    """The route of a POST to `path` (percent-encoded, without the query), or None: no inference."""
    last = path[path.rfind("/") + 1 :]
    colon = last.rfind(":")
    found = _ENDS.get(last) if colon < 0 else _VERBS.get(last[colon:])
    return None if found is None else _known(found, host, port=port, path=path)


@lru_cache(maxsize=512)
def _known(find: Callable[[str], Route | None], host: str, *, port: int | None, path: str) -> Route | None:
    found = find(path)
    if found is None:
        return None
    provider = _provider(host, port) or found.provider
    if found.family in {"converse", "invoke"}:
        provider = found.provider
    elif "/openai/deployments/" in path:
        provider = "azure.ai.openai"
    return Route(found.family, found.operation, provider, found.model, found.stream, found.fits)


def _provider(host: str, port: int | None) -> str | None:
    host = host.lower()
    for end, provider in _HOSTS:
        if host == end or (host.endswith(end) and (end[0] == "." or host[-len(end) - 1] in ".-")):
            return provider
    return "ollama" if port == _OLLAMA_PORT else None


def _openai(operation: str, family: str = "openai") -> Callable[[str], Route | None]:
    def find(path: str) -> Route | None:
        if operation == TEXT and path.endswith("/chat/completions"):
            return Route(family, CHAT, "openai", _deployment(path))
        if operation == TEXT and path.endswith(("/fim/completions", "/agents/completions")):
            return Route(family, CHAT, "mistral_ai")
        if path.endswith("/api/embeddings") and "/openai/" not in path:
            return Route("ollama", EMBEDDINGS, "ollama")
        return Route(family, operation, "openai", _deployment(path))

    return find


def _deployment(path: str) -> str | None:
    found = _AZURE_DEPLOYMENT.search(path)
    return unquote(found[1]) if found else None


def _responses(path: str) -> Route | None:
    return Route("responses", CHAT, "openai", _deployment(path))


def _messages(path: str) -> Route | None:
    # Threads and conversations have messages too.
    if any(part in path for part in ("/threads/", "/conversations/", "/sessions/")):
        return None
    return Route(
        "anthropic", CHAT, "anthropic", fits=lambda body: "max_tokens" in body and "messages" in body
    )


def _complete(_path: str) -> Route | None:
    return Route("anthropic", TEXT, "anthropic", fits=lambda body: "prompt" in body and "model" in body)


def _chat(path: str) -> Route | None:
    if path.endswith("/api/chat"):
        return Route("ollama", CHAT, "ollama", fits=_has_model_and("messages"))
    if path.endswith("/v2/chat"):
        return Route("cohere", CHAT, "cohere", fits=_has_model_and("messages"))
    if path.endswith("/text/chat"):
        return Route("openai", CHAT, "ibm.watsonx.ai")
    if path.endswith("/v1/chat"):
        return Route(
            COHERE_OR_OPENAI, CHAT, "cohere", fits=lambda body: "message" in body or "messages" in body
        )
    return None


def _generate(path: str) -> Route | None:
    if path.endswith("/api/generate"):
        return Route("ollama", TEXT, "ollama", fits=_has_model_and("prompt"))
    if path.endswith("/v1/generate"):
        return Route("cohere", TEXT, "cohere", fits=lambda body: "prompt" in body)
    return None


def _embed(path: str) -> Route | None:
    if path.endswith("/api/embed"):
        return Route("ollama", EMBEDDINGS, "ollama", fits=_has_model_and("input"))
    if path.endswith(("/v1/embed", "/v2/embed")):
        return Route("cohere", EMBEDDINGS, "cohere", fits=lambda body: "model" in body)
    return None


def _rerank(path: str) -> Route | None:
    if path.endswith(("/v1/rerank", "/v2/rerank")):
        return Route("cohere", RERANK, "cohere", fits=lambda body: "query" in body)
    return None


def _bedrock(family: str, *, stream: bool) -> Callable[[str], Route | None]:
    def find(path: str) -> Route | None:
        found = _BEDROCK_MODEL.search(path)
        if found is None:
            return None
        return Route(family, CHAT, "aws.bedrock", unquote(found[1]), stream)

    return find


def _google(operation: str, *, stream: bool = False) -> Callable[[str], Route | None]:
    def find(path: str) -> Route | None:
        found = _MODEL_VERB.search(path)
        if found is None:
            return None
        return Route("gemini", operation, _google_provider(path), unquote(found[1]), stream)

    return find


def _predict(path: str) -> Route | None:
    found = _MODEL_VERB.search(path)
    if found is None or "embedding" not in found[1]:
        return None
    return Route("gemini", EMBEDDINGS, _google_provider(path), unquote(found[1]))


def _raw_predict(*, stream: bool) -> Callable[[str], Route | None]:
    def find(path: str) -> Route | None:
        found, publisher = _MODEL_VERB.search(path), _PUBLISHER.search(path)
        if found is None or publisher is None:
            return None
        family = "anthropic" if publisher[1] == "anthropic" else "openai"
        return Route(family, CHAT, "gcp.vertex_ai", unquote(found[1]), stream or None)

    return find


def _google_provider(path: str) -> str:
    return "gcp.vertex_ai" if "/publishers/" in path or "/projects/" in path else "gcp.gemini"


def _has_model_and(key: str) -> Callable[[dict[str, Any]], bool]:
    return lambda body: "model" in body and key in body


_ENDS: dict[str, Callable[[str], Route | None]] = {
    "completions": _openai(TEXT),
    "embeddings": _openai(EMBEDDINGS),
    "responses": _responses,
    "messages": _messages,
    "complete": _complete,
    "chat": _chat,
    "chat_stream": lambda path: Route("openai", CHAT, "ibm.watsonx.ai") if "/text/" in path else None,
    "generate": _generate,
    "embed": _embed,
    "rerank": _rerank,
    "converse": _bedrock("converse", stream=False),
    "converse-stream": _bedrock("converse", stream=True),
    "invoke": _bedrock("invoke", stream=False),
    "invoke-with-response-stream": _bedrock("invoke", stream=True),
    "interactions": lambda _: Route("interactions", CHAT, "gcp.gemini"),
    "completion": lambda path: (
        Route("yandex", CHAT, "yandex") if path.endswith("/foundationModels/v1/completion") else None
    ),
}
_VERBS: dict[str, Callable[[str], Route | None]] = {
    ":generateContent": _google(GENERATE),
    ":streamGenerateContent": _google(GENERATE, stream=True),
    ":embedContent": _google(EMBEDDINGS),
    ":batchEmbedContents": _google(EMBEDDINGS),
    ":predict": _predict,
    ":rawPredict": _raw_predict(stream=False),
    ":streamRawPredict": _raw_predict(stream=True),
    ":complete": lambda path: Route("openai", CHAT, "snowflake") if "/inference:" in path else None,
}
