"""Sampled spans on their way into the store, so that what happened can be seen without any backend.

keeping    what ends is queued, bounded in number and bytes; a thread of its own writes it
kept       a span as it is kept: cleaned at the choke point, bounded, of plain values
content    which attributes are prompts and answers: those are not kept
"""

from otel_genapp.pipeline.traces.keeping import TraceKeeping

__all__ = ["TraceKeeping"]
