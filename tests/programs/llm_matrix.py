"""Calls to a model in every way one client has, each in a session of its own; says what was counted.

    python -m tests.programs.llm_matrix '{"client": "openai", "cells": [{"url": "http://127.0.0.1:…"}]}'

It runs in the environment of a peer (see tests/environments.py). Each cell is a process of its own,
forked when the libraries are imported: with `"provider": "foreign"` there are a TracerProvider and
the instrumentations named under `instrument` before ours, else after; `sampler` is a value of
OTEL_TRACES_SAMPLER. `dump` adds every finished span, every record, and what the context holds while
a request is sent; `ways` picks a few of the client's.
"""

from __future__ import annotations

import asyncio
import contextvars
import importlib
import inspect
import json
import multiprocessing
import os
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from multiprocessing.connection import Connection
from typing import Any

from opentelemetry import context, trace
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from prometheus_client.parser import text_string_to_metric_families

from otel_genapp import bind, init_telemetry, quiet, shutdown
from otel_genapp.records import UsageRecord
from tests.programs import llm_matrix_clients

INSTRUMENTORS = {
    "genai-openai": ("opentelemetry.instrumentation.genai.openai", "OpenAIInstrumentor"),
    "genai-langchain": ("opentelemetry.instrumentation.genai.langchain", "LangChainInstrumentor"),
    "openllmetry-openai": ("opentelemetry.instrumentation.openai", "OpenAIInstrumentor"),
    "openllmetry-langchain": ("opentelemetry.instrumentation.langchain", "LangchainInstrumentor"),
    "openinference-openai": ("openinference.instrumentation.openai", "OpenAIInstrumentor"),
    "openinference-langchain": ("openinference.instrumentation.langchain", "LangChainInstrumentor"),
}
IMPORTS = {
    "openai": ("openai",),
    "langchain": ("langchain_openai",),
    "anthropic": ("anthropic",),
    "gemini": ("google.genai",),
    "httpx": ("httpx",),
    "httpx2": ("httpx2",),
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


def counted(telemetry: Any, records: list[UsageRecord]) -> dict[str, Any]:
    """What is known of each session and of the calls in none, and what the counters say."""
    totals = telemetry.totals()  # folds what is still queued
    attempts: Counter[str] = Counter()
    for record in records:
        attempts[record.session_id or "no_session"] += len(record.attempts)
    body, _ = telemetry.exposition()
    tokens: Counter[str] = Counter()
    attempts_counted = 0.0
    for family in text_string_to_metric_families(body.decode()):
        for sample in family.samples:
            if sample.name == "genapp_llm_attempts_total":
                attempts_counted += sample.value
            elif sample.name == "genapp_llm_tokens_total":
                tokens[sample.labels["type"]] += int(sample.value)
    return {
        "sessions": {
            session: telemetry.sessions.get(session).as_dict()
            for session in telemetry.sessions.list(limit=100).ids
        },
        "attempts": attempts,
        "attempts_counted": attempts_counted,
        "tokens_counted": tokens,
        "totals": totals,
    }


def measure(spec: dict[str, Any], cell: dict[str, Any]) -> dict[str, Any]:
    """Make the calls `spec` names in one cell; what was counted."""
    errors: list[str] = []
    quiet.observe(lambda site, error: errors.append(f"{site}: {error!r}"))
    os.environ["OTEL_TRACES_SAMPLER"] = cell.get("sampler", "always_on")
    foreign = cell.get("provider") == "foreign"
    if foreign:
        trace.set_tracer_provider(TracerProvider())
        instrument(spec.get("instrument", []))
    telemetry = init_telemetry("matrix", env="dev", store="memory://", instance=str(os.getpid()))
    if not foreign:
        instrument(spec.get("instrument", []))
    records = _watch_records(telemetry)
    spans, sends = SpanDump(), SendDump() if spec.get("dump") else None
    provider: Any = trace.get_tracer_provider()
    provider.add_span_processor(spans)
    ways = getattr(llm_matrix_clients, spec["client"])(cell["url"])
    with asyncio.Runner() as loop:  # one, as langchain keeps the HTTP clients of all its models
        for session, call in ways.items():
            if session in spec.get("ways", ways):
                run(call, session, loop=loop)
    found = counted(telemetry, records)
    shutdown()
    found["spans_by_scope"] = Counter(span["scope"] for span in spans.spans)
    if sends is not None:
        found |= {"spans": spans.spans, "sends": sends.sends, "records": [asdict(one) for one in records]}
    return {**found, "own_errors": errors}


def _watch_records(telemetry: Any) -> list[UsageRecord]:
    store, seen = telemetry._machinery.store, []
    apply = store.apply

    def watched(records: Any, **positions: Any) -> int:
        fresh = list(records)
        seen.extend(fresh)
        number: int = apply(fresh, **positions)
        return number

    store.apply = watched
    return seen


def _send_measured(spec: dict[str, Any], cell: dict[str, Any], *, sink: Connection) -> None:
    with sink:
        sink.send_bytes(json.dumps(measure(spec, cell), default=str).encode())


def main(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """What was counted in each cell; a cell that dies says why on stderr, and all of it ends."""
    for name in IMPORTS[spec["client"]]:
        importlib.import_module(name)
    for name in spec.get("instrument", []):
        importlib.import_module(INSTRUMENTORS[name][0])
    fork = multiprocessing.get_context("fork")
    running = []
    for cell in spec["cells"]:
        source, sink = fork.Pipe(duplex=False)
        process = fork.Process(target=_send_measured, args=(spec, cell), kwargs={"sink": sink})
        process.start()
        sink.close()
        running.append((process, source))
    found = [json.loads(source.recv_bytes()) for _, source in running]
    for process, _ in running:
        process.join()
    return found


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))  # noqa: T201 - its answer
