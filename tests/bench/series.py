"""What both scrape arms hold: 10,000 lines of `genapp_` families, half counters, half histograms.

Plain data, so that the peer's environment can read it without our package.
"""

from __future__ import annotations

from itertools import product
from typing import TypedDict

FILE = "families.json"
COUNTER_LINES = HISTOGRAM_LINES = 5000
TOLERANCE = 50
"""Lines either half may be off: a histogram has 18 to 19 of them, and some series always exist."""

MODELS = [f"model-{number}" for number in range(50)]
PROVIDERS = ["openai", "anthropic", "mistral_ai", "ollama"]
NAMES = [f"step_{number}_task" for number in range(200)]
RESOURCES = [f"/shop/{number}/items/{{item_id}}" for number in range(20)]
METHODS = ["GET", "POST", "PUT", "DELETE"]
STATUSES = ["200", "201", "204", "301", "400", "401", "404", "429", "500", "503"]


class Family(TypedDict):
    """One family: how its instrument is made, and the label values of its series."""

    name: str
    instrument: str
    unit: str
    help: str
    kind: str
    buckets: list[float]
    labels: list[str]
    series: list[list[str]]


def families() -> list[Family]:
    """The families, as our vocabulary describes them."""
    from otel_genapp import semconv

    requests = [list(labels) for labels in product(METHODS, STATUSES, RESOURCES, ["fastapi", "httpx"])]
    models = [list(labels) for labels in product(PROVIDERS, MODELS)]
    calls = [[*model, operation] for model in models for operation in ("chat", "embeddings")]
    names = [[name] for name in NAMES]
    chosen = (
        (semconv.HTTP_REQUESTS, requests),
        (
            semconv.LLM_REQUESTS,
            [[*call, status] for call in calls for status in ("success", "fail", "cancelled")],
        ),
        (semconv.LLM_TOKENS, [[*model, kind] for model in models for kind in semconv.TOKEN_TYPES]),
        (semconv.ACTION_COUNT, [[*name, status] for name in names for status in ("success", "fail")]),
        (semconv.ACTION_SIZE, names),
        (semconv.LLM_TOOL_CALLS, models),
        (semconv.LLM_UNPRICED, models),
        (semconv.LLM_UNKNOWN_USAGE, models),
        (semconv.HTTP_DURATION, requests[:160]),
        (semconv.LLM_DURATION, calls[:60]),
        (semconv.ACTION_DURATION, names[:52]),
    )
    return [
        Family(
            name=metric.name,
            instrument=metric.instrument,
            unit=metric.instrument_unit,
            help=metric.help,
            kind=metric.kind,
            buckets=list(metric.buckets),
            labels=list(metric.labels),
            series=series,
        )
        for metric, series in chosen
    ]


def check_size(exposition: bytes) -> None:
    """Both halves are there.

    Raises:
        RuntimeError: the text has another number of lines.
    """
    histograms = counters = 0
    for line in exposition.decode().splitlines():
        if line.startswith("genapp_"):
            histogram = line.partition("{")[0].endswith(("_bucket", "_sum", "_count"))
            histograms += histogram
            counters += not histogram
    if abs(counters - COUNTER_LINES) > TOLERANCE or abs(histograms - HISTOGRAM_LINES) > TOLERANCE:
        raise RuntimeError(f"scraped {counters} counter and {histograms} histogram lines")
