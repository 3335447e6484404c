"""`AuthHttpClient` under its old address."""

from __future__ import annotations

from otel_genapp.clients import AuthHttpClient

__all__ = ["AuthHttpClient"]
