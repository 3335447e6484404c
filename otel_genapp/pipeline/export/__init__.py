"""Spans and metrics on their way out over OTLP: cleaned, counted, never waited for.

spans      what ends is queued, bounded in number and bytes; `flush` is answered with the truth
weight     what a queued span costs in memory, and long text cut before it is kept
dispatch   the two threads between the queue and the collector: one packs, one sends
packing    spans become encoded requests, small enough for any receiver
outbox     requests on their way: in memory while all is well, on disk while the collector is away
spool      the files, taken over from processes that died
delivery   sending: one request at a time, waits between failures, a poisoned span found by halving
wire       one attempt over HTTP, gRPC or what else the SDK's exporter speaks
answers    what a collector's answer says about the request
account    every span is delivered, lost for a reason, on disk or under way
silence    what our own threads do makes no spans and no logs
metrics    the metrics' own way: the current values, at intervals
"""

from otel_genapp.pipeline.export.metrics import MetricExport
from otel_genapp.pipeline.export.spans import SpanExport

__all__ = ["MetricExport", "SpanExport"]
