"""Calls to a model in every way one client has, each in a session of its own; says what was counted.

    python -m tests.programs.llm_matrix '{"client": "openai", "url": "http://127.0.0.1:…"}'

It runs in the environment of a peer (see tests/environments.py): OpenTelemetry's instrumentations
named under `instrument` are put on, and with `"provider": "foreign"` there is a TracerProvider
before ours. `dump` adds every finished span, every record, and what the context holds while a
request is sent; `ways` picks a few of the client's.
"""

from __future__ import annotations

import asyncio
import contextvars
import importlib
import inspect
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from opentelemetry import context, trace
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider

from otel_genapp import bind, init_telemetry, quiet, shutdown
from otel_genapp.records import Record
from tests.programs import llm_matrix_clients

INSTRUMENTORS = {
    "genai-openai": ("opentelemetry.instrumentation.genai.openai", "OpenAIInstrumentor"),
    "genai-langchain": ("opentelemetry.instrumentation.genai.langchain", "LangChainInstrumentor"),
    "openllmetry-openai": ("opentelemetry.instrumentation.openai", "OpenAIInstrumentor"),
    "openllmetry-langchain": ("opentelemetry.instrumentation.langchain", "LangchainInstrumentor"),
    "openinference-openai": ("openinference.instrumentation.openai", "OpenAIInstrumentor"),
    "openinference-langchain": ("openinference.instrumentation.langchain", "LangChainInstrumentor"),
}


class SpanDump(SpanProcessor):
    """Every span that ends, in the words of JSON."""

    def __init__(self) -> None:
        self.spans: list[dict[str, Any]] = []

    def on_start(self, span: Span, parent_context: context.Context | None = None) -> None:
        """Only finished spans are shown."""

    def on_end(self, span: ReadableSpan) -> None:
        own = span.get_span_context()
        scope = span.instrumentation_scope
        self.spans.append(
            {
                "name": span.name,
                "scope": scope.name if scope is not None else None,
                "kind": span.kind.name,
                "trace_id": f"{own.trace_id:032x}" if own is not None else None,
                "span_id": f"{own.span_id:016x}" if own is not None else None,
                "parent_id": f"{span.parent.span_id:016x}" if span.parent is not None else None,
                "status": span.status.status_code.name,
                "attributes": {key: str(value)[:120] for key, value in (span.attributes or {}).items()},
            }
        )


class SendDump:
    """What the context holds when a client hands a request to its transport."""

    def __init__(self) -> None:
        self.sends: list[dict[str, Any]] = []
        for name in ("httpx", "httpx2"):
            library: Any = importlib.import_module(name)
            self._watch(library.Client, is_async=False)
            self._watch(library.AsyncClient, is_async=True)

    def _watch(self, client: Any, *, is_async: bool) -> None:
        send = client.send

        def watched(owner: Any, request: Any, **more: Any) -> Any:
            self._note(request)
            return send(owner, request, **more)

        async def watched_async(owner: Any, request: Any, **more: Any) -> Any:
            self._note(request)
            return await send(owner, request, **more)

        client.send = watched_async if is_async else watched

    def _note(self, request: Any) -> None:
        current: Any = trace.get_current_span()
        scope = getattr(current, "instrumentation_scope", None)
        self.sends.append(
            {
                "url": str(request.url),
                "user": json.loads(request.content).get("user"),
                "span": getattr(current, "name", None),
                "scope": scope.name if scope is not None else None,
                "span_id": f"{current.get_span_context().span_id:016x}",
                "keys": sorted(str(key) for key in context.get_current()),
            }
        )


def instrument(names: list[str]) -> None:
    """Put the instrumentations on, on whatever provider is the global one."""
    for name in names:
        module, kind = INSTRUMENTORS[name]
        getattr(importlib.import_module(module), kind)().instrument()


def run(call: Callable[[], Any], session: str, *, loop: asyncio.Runner) -> None:
    """One way to call, in its session."""
    with bind(session_id=session):
        outcome = call()
        if inspect.iscoroutine(outcome):
            loop.run(outcome, context=contextvars.copy_context())


def counted(telemetry: Any, records: list[Record]) -> dict[str, Any]:
    """What is known of each session, and of what is in none."""
    totals = telemetry.totals()  # folds what is still queued
    attempts: dict[str, int] = {}
    for record in records:
        session = record.session_id or "no_session"
        attempts[session] = attempts.get(session, 0) + len(record.attempts)
    return {
        "sessions": {
            session: telemetry.sessions.get(session).as_dict()
            for session in telemetry.sessions.list(limit=100).ids
        },
        "attempts": attempts,
        "totals": totals,
    }


def main(spec: dict[str, Any]) -> dict[str, Any]:
    """Make the calls `spec` names; what was counted."""
    errors: list[str] = []
    quiet.observe(lambda site, error: errors.append(f"{site}: {error!r}"))
    ours_first = spec.get("provider") != "foreign"
    if not ours_first:
        trace.set_tracer_provider(TracerProvider())
        instrument(spec.get("instrument", []))
    telemetry = init_telemetry("matrix", env="dev")
    if ours_first:
        instrument(spec.get("instrument", []))
    records = _watch_records(telemetry)
    spans, sends = SpanDump(), SendDump() if spec.get("dump") else None
    provider: Any = trace.get_tracer_provider()
    provider.add_span_processor(spans)
    ways = getattr(llm_matrix_clients, spec["client"])(spec["url"])
    with asyncio.Runner() as loop:  # one, as langchain keeps the HTTP clients of all its models
        for session, call in ways.items():
            if session in spec.get("ways", ways):
                run(call, session, loop=loop)
    found = counted(telemetry, records)
    shutdown()
    if sends is not None:
        found |= {"spans": spans.spans, "sends": sends.sends, "records": [asdict(one) for one in records]}
    return {**found, "own_errors": errors}


def _watch_records(telemetry: Any) -> list[Record]:
    store = telemetry._machinery.store
    apply, seen = store.apply, []

    def watched(records: Any) -> int:
        fresh = list(records)
        seen.extend(fresh)
        counted: int = apply(fresh)
        return counted

    store.apply = watched
    return seen


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1])), default=str))  # noqa: T201 - its answer
