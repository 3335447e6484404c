"""Whoever imports what first: one count and one span for each request."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import asyncio, importlib, sys
import wrapt
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from otel_genapp.capture import aiohttp_client, http_client
from tests.fakes import WireServer, telemetry

exporter = InMemorySpanExporter()
provider = TracerProvider(shutdown_on_exit=False)
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
assert not {"httpx", "httpx2", "aiohttp"} & set(sys.modules)
for name, capture in {"httpx": http_client, "httpx2": http_client, "aiohttp": aiohttp_client}.items():
    wrapt.register_post_import_hook(capture.instrument, name)

importlib.import_module(sys.argv[1])
import aiohttp, httpx, httpx2

async def aiohttp_get(url):
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        await response.read()

with WireServer() as server, telemetry() as families:
    url = server.url("/bytes?n=1")
    for module in (httpx, httpx2):
        for _ in range(2):
            with module.Client(trust_env=False) as client:
                client.get(url)
    for _ in range(2):
        asyncio.run(aiohttp_get(url))
    print(len(families.requests()), len(exporter.get_finished_spans()))
"""


@pytest.mark.parametrize(
    "first",
    [
        "httpx",
        "httpx2",
        "aiohttp",
        "opentelemetry.instrumentation.httpx",
        "opentelemetry.instrumentation.aiohttp_client",
    ],
)
def test_every_order_of_imports_counts_and_traces_once(first: str) -> None:
    """A library instrumented while its instrumentation is being imported loses no span of its clients."""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT, first],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("6 6\n", "")
