"""The SERVER span made in our layer is the one FastAPI's native telemetry makes."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.telemetry import _asgi
from opentelemetry import trace
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, Sampler, TraceIdRatioBased

from otel_genapp.capture import asgi_request, fastapi_span
from tests.shop_apps import fastapi_shop
from tests.web_fakes import AsgiCall, watching

PARENT = (b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
UNSAMPLED = (b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")

CALLS: dict[str, dict[str, Any]] = {
    "plain": {"path": "/items/5"},
    "sync": {"path": "/sync/5"},
    "validation": {"path": "/items/five"},
    "unmatched": {"path": "/nowhere/at/all"},
    "not-allowed": {"path": "/items/5", "method": "DELETE"},
    "unknown-method": {"path": "/items/5", "method": "BREW"},
    "http-exception": {"path": "/missing"},
    "unhandled": {"path": "/broken"},
    "stream": {"path": "/stream"},
    "stream-broken": {"path": "/stream-broken"},
    "background-broken": {"path": "/background-broken"},
    "included": {"path": "/v1/outer/inner/k"},
    "wildcard": {"path": "/files/a/b/c"},
    "redirect": {"path": "/slash"},
    "body": {"path": "/orders", "method": "POST", "body": (b'{"count": 2}',)},
    "bad-body": {"path": "/orders", "method": "POST", "body": (b'{"count": "x"}',)},
    "parent": {"path": "/items/5", "headers": (PARENT, (b"tracestate", b"a=b"))},
}


def told(span: ReadableSpan) -> dict[str, Any]:
    """What a span says, but for its own id and times."""
    scope = span.instrumentation_scope
    assert scope is not None
    parent = span.parent
    return {
        "name": span.name,
        "kind": span.kind,
        "attributes": dict(span.attributes or {}),
        "status": (span.status.status_code, span.status.description),
        "events": [event.name for event in span.events],
        "parent": None if parent is None else (parent.trace_id, parent.span_id, parent.is_remote),
        "scope": (scope.name, scope.version, scope.schema_url),
    }


async def spans_of(app: FastAPI, call: dict[str, Any]) -> list[dict[str, Any]]:
    """The SERVER spans of one call; what the application raises is part of the game."""
    with watching("fastapi") as watch:
        with suppress(Exception):
            await AsgiCall(**call)(app)
        return [told(span) for span in watch.servers()]


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_the_span_is_the_native_one(
    call: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Name, attributes, status, parent and scope are equal, request by request."""
    made: list[str] = []
    original = fastapi_span.SpanMaker.start

    def start(*args: Any, **kwargs: Any) -> Any:
        made.append("here")
        return original(*args, **kwargs)

    monkeypatch.setattr(fastapi_span.SpanMaker, "start", start)
    ours = await spans_of(fastapi_shop(tmp_path), call)
    assert made == ["here"]
    monkeypatch.setattr("otel_genapp.capture.fastapi.make_for", lambda *_: None)
    native = await spans_of(fastapi_shop(tmp_path), call)
    assert (made, len(native)) == (["here"], 1)
    assert ours == native


@pytest.mark.parametrize(
    "host", ["shop.example", "shop.example:8443", "[::1]:80", "127.0.0.1", "u@shop", "a:port", "a/b", "", "["]
)
def test_the_server_is_read_as_natively(host: str) -> None:
    """Address and port come from the Host header by the same rules."""
    scope = {"type": "http", "scheme": "https", "headers": [(b"host", host.encode())]}
    assert fastapi_span._parse(host, "https") == _asgi._server_attributes(scope)


async def test_a_logger_provider_brings_native_telemetry_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With logs to report to, FastAPI traces itself: its log records are wanted."""
    monkeypatch.setattr(asgi_request, "logs_go_nowhere", lambda: False)
    monkeypatch.setattr(fastapi_span.SpanMaker, "start", None)
    assert len(await spans_of(fastapi_shop(tmp_path), CALLS["plain"])) == 1
    assert fastapi_span.logs_go_nowhere()
    monkeypatch.setattr(fastapi_span, "get_logger_provider", lambda: LoggerProvider(shutdown_on_exit=False))
    assert not fastapi_span.logs_go_nowhere()


@pytest.mark.parametrize(
    "options",
    [{"tracing": False}, {"exclude": lambda scope: True}, {"tracer_provider": trace.NoOpTracerProvider()}],
    ids=["off", "excluded", "own-provider"],
)
async def test_an_apps_own_choices_are_kept(options: Any) -> None:
    """Telemetry options given to FastAPI decide, as if we were not there."""
    app = FastAPI(telemetry=options)
    app.add_api_route("/items/{item_id}", lambda item_id: item_id)
    assert await spans_of(app, CALLS["plain"]) == []


@pytest.mark.parametrize(
    ("sampler", "headers", "sampled"),
    [
        (ALWAYS_OFF, (), False),
        (ParentBased(TraceIdRatioBased(1.0)), (UNSAMPLED,), False),
        (ParentBased(ALWAYS_OFF), (PARENT,), True),
    ],
)
async def test_the_sampler_decides(
    sampler: Sampler, headers: tuple[tuple[bytes, bytes], ...], *, sampled: bool, tmp_path: Path
) -> None:
    """A dropped request has no span and still a trace id, which its answer names."""
    with watching("fastapi", sampler=sampler) as watch:
        call = await AsgiCall("/items/5", headers=headers)(fastapi_shop(tmp_path))
        ids = dict(call.sent[0]["headers"])[b"x-correlation-id"]
        assert (len(watch.servers()), len(watch.counted())) == (int(sampled), 1)
    assert len(ids) == 32
    assert (ids == b"0af7651916cd43dd8448eb211c80319c") is bool(headers)
