"""Ready-made HTTP clients: `LLMHttpClient` for models, `AuthHttpClient` for internal services.

They are `AsyncClient`s of httpx2 or httpx, their `Sync…` siblings `Client`s, with every argument of
those. Requests are measured and traced as any other's, below them, once `init_telemetry` has run.
Neither library is imported before the first client is made.
"""

from __future__ import annotations

from otel_genapp.clients.auth_client import AuthHttpClient, SyncAuthHttpClient
from otel_genapp.clients.llm_client import LLMHttpClient, SyncLLMHttpClient
from otel_genapp.clients.usage_request import USAGE_HOSTS

__all__ = ["USAGE_HOSTS", "AuthHttpClient", "LLMHttpClient", "SyncAuthHttpClient", "SyncLLMHttpClient"]
