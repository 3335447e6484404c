"""What a test compares of a fake server's ledger entry: no ids, times, sizes and headers."""

from __future__ import annotations

from typing import Any

from otel_genapp.fake_llm import Served

_NAMES = (
    "operation", "protocol", "session", "model", "stream", "attempt", "status", "outcome", "tool_calls",
)  # fmt: skip
_TOKENS = ("input", "output", "cached", "cache_write", "reasoning")
_PLAIN = {
    "operation": "chat",
    "session": None,
    "stream": False,
    "attempt": 1,
    "status": 200,
    "outcome": "ok",
    "tool_calls": (),
}


def facts(served: Served) -> dict[str, Any]:
    """The entry by name; `tokens` are those told, by kind."""
    tokens = {kind: getattr(served, f"{kind}_tokens") for kind in _TOKENS}
    told = {kind: value for kind, value in tokens.items() if value is not None}
    return {**{name: getattr(served, name) for name in _NAMES}, "tokens": told}


def expected(protocol: str, model: str, **changes: Any) -> dict[str, Any]:
    """The facts of a complete answer without tokens, changed by name; tokens are given as `input=…`."""
    tokens = {kind: changes.pop(kind) for kind in _TOKENS if kind in changes}
    return {**_PLAIN, "protocol": protocol, "model": model, "tokens": tokens, **changes}
