"""Instrumentations whose spans may be LLM spans without saying so at their start."""

from __future__ import annotations

_INSTRUMENTED = (
    "agno", "alephalpha", "anthropic", "bedrock", "botocore", "claude_agent_sdk", "cohere", "crewai",
    "genai", "google_genai", "google_generativeai", "groq", "haystack", "langchain", "llamaindex",
    "mistralai", "ollama", "openai", "openai_agents", "openai_agents_v2", "openai_v2", "replicate",
    "sagemaker", "together", "transformers", "vertexai", "voyageai", "watsonx", "writer",
)  # fmt: skip
"""Under `opentelemetry.instrumentation.`, which HTTP and database instrumentations share."""

_SCOPES = frozenset({
    *(f"opentelemetry.instrumentation.{name}" for name in _INSTRUMENTED),
    "opentelemetry.util.genai",
    "agent_framework", "ai", "autogen-core", "com.anthropic.sdk.python", "gcp.vertex.agent", "gen_ai",
    "genkit-tracer", "haystack", "langfuse-sdk", "langsmith", "litellm", "logfire",
    "mistralai_sdk_tracer", "openinference", "openlit", "pydantic-ai", "semantic_kernel", "strands",
    "strands-agents", "traceloop", "vllm",
})  # fmt: skip


def is_dialect_scope(scope: str) -> bool:
    """Whether spans of this instrumentation scope are kept from sampling until they end."""
    while scope not in _SCOPES:
        scope = scope.rpartition(".")[0]
        if not scope:
            return False
    return True
