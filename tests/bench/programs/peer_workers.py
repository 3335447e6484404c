"""The same with prometheus_client's multiprocess mode."""

from __future__ import annotations

from flask import Flask, Response
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from otel_genapp import semconv
from tests.bench.worker_arms import label_sets

app = Flask(__name__)
requests = Counter("genapp_llm_requests", "LLM calls.", (*semconv.LLM_REQUESTS.labels, "env", "app"))
duration = Histogram(
    semconv.LLM_DURATION.name, "Seconds.", (*semconv.LLM_DURATION.labels, "env", "app"),
    buckets=semconv.LLM_DURATION.buckets,
)  # fmt: skip
for labels in label_sets():
    requests.labels(*labels, "success", "dev", "bench").inc()
    duration.labels(*labels, "dev", "bench").observe(0.8)


@app.get("/prometheus")
def prometheus() -> Response:
    """The sum over the workers."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    return Response(generate_latest(registry), mimetype="text/plain")
