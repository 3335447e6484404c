"""What an instrumentation's span says about an LLM call, whatever words it uses.

One table (`keys`) for all dialects: the OpenTelemetry GenAI conventions with the names they
replaced, OpenLLMetry, OpenInference, Vercel's `ai`, pydantic-ai and logfire, langfuse, langsmith,
strands, litellm, openlit, Google ADK, the SDKs that trace themselves, and what resembles them.
`kinds` says which of their spans is a call and which one may repeat the sum of calls below it,
`scopes` which instrumentations say so only after the start of a span.

The SDK drops a span's oldest attributes past its limit. What a span starts with is remembered by
the processor; what is set later cannot be seen by anybody before the span ends, and is kept by the
limit of 1024 attributes that our own provider has. On a foreign provider with the SDK's 128 a model
with tokens, which instrumentations set last, still makes a call of the span.
"""

from otel_genapp.pipeline.dialects.facts import Facts, read, told
from otel_genapp.pipeline.dialects.keys import SESSION_KEYS
from otel_genapp.pipeline.dialects.kinds import SpanClass, classify
from otel_genapp.pipeline.dialects.scopes import is_dialect_scope

__all__ = ["SESSION_KEYS", "Facts", "SpanClass", "classify", "is_dialect_scope", "read", "told"]
