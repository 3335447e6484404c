"""Our ready-made clients of both libraries, sync and async, for tests that are written once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from otel_genapp.clients import AuthHttpClient, LLMHttpClient, SyncAuthHttpClient, SyncLLMHttpClient
from tests.http_flavours import Flavour

_CLASSES: dict[tuple[str, str], Any] = {
    ("llm", "sync"): SyncLLMHttpClient,
    ("llm", "async"): LLMHttpClient,
    ("auth", "sync"): SyncAuthHttpClient,
    ("auth", "async"): AuthHttpClient,
}


@asynccontextmanager
async def ready_client(kind: str, flavour: Flavour, **options: Any) -> AsyncIterator[Any]:
    """A client of that kind (`llm`, `auth`) made of the flavour's library."""
    made = _CLASSES[kind, flavour.style](backend=flavour.name, trust_env=False, timeout=5, **options)
    if flavour.style == "sync":
        with made as client:
            yield client
    else:
        async with made as client:
            yield client


def hook(flavour: Flavour, work: Any) -> Any:
    """`work(message)`, sync, as an event hook of the flavour."""
    if flavour.style == "sync":
        return work

    async def hooked(message: Any) -> None:
        work(message)

    return hooked
