"""`LLMHttpClient` under its old address."""

from __future__ import annotations

from otel_genapp.clients import LLMHttpClient

__all__ = ["LLMHttpClient"]
