"""One name for each provider, whatever an instrumentation calls it.

The names are the values of `gen_ai.provider.name` in the conventions, else the vendor's own.
"""

from __future__ import annotations

from otel_genapp.pipeline.dialects.values import text_in

_NAMES = (
    "anthropic", "aws.bedrock", "azure.ai.inference", "azure.ai.openai", "cerebras", "cohere", "crewai",
    "deepseek", "fireworks", "gcp.gemini", "gcp.gen_ai", "gcp.vertex_ai", "groq", "huggingface",
    "ibm.watsonx.ai", "langchain", "minimax", "mistral_ai", "moonshot_ai", "ollama", "openai",
    "openrouter", "perplexity", "replicate", "together_ai", "vllm", "voyage", "writer", "x_ai", "zai",
)  # fmt: skip

_ALIASES = {
    "az.ai.inference": "azure.ai.inference", "az.ai.openai": "azure.ai.openai",
    "azure": "azure.ai.openai", "azure-openai": "azure.ai.openai", "azure_openai": "azure.ai.openai",
    "amazon-bedrock": "aws.bedrock", "aws": "aws.bedrock", "aws_bedrock": "aws.bedrock",
    "bedrock": "aws.bedrock", "bedrock_converse": "aws.bedrock",
    "gemini": "gcp.gemini", "google": "gcp.gemini",
    "google_genai": "gcp.gen_ai",
    "google.vertex": "gcp.vertex_ai", "vertex_ai": "gcp.vertex_ai", "vertexai": "gcp.vertex_ai",
    "hugging_face": "huggingface",
    "ibm.watson.ai": "ibm.watsonx.ai", "watsonx": "ibm.watsonx.ai",
    "mistral": "mistral_ai", "mistralai": "mistral_ai",
    "moonshot": "moonshot_ai",
    "together": "together_ai", "togetherai": "together_ai",
    "voyageai": "voyage",
    "xai": "x_ai",
}  # fmt: skip

_PROVIDERS = {**{name: name for name in _NAMES}, **_ALIASES}


_APIS = frozenset({
    "chat", "completion", "embedding", "generative-ai", "image", "messages", "responses", "speech",
    "textembedding", "transcription",
})  # fmt: skip
"""What Vercel adds to a provider's name, as in `openai.responses` and `google.vertex.chat`."""


def provider_in(value: object) -> str | None:
    """The provider's one name; a name not known here stays as it was given."""
    text = text_in(value)
    if text is None:
        return None
    known = _PROVIDERS.get(text)
    if known is not None:
        return known
    name = text.lower()
    base, _, api = name.rpartition(".")
    if base and api in _APIS:
        return _PROVIDERS.get(base, base)
    return _PROVIDERS.get(name, text)
