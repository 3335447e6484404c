"""What a collector's answer says about the request: taken, refused, or to be sent again later.

After the OTLP specification's "Failures" (429, 502, 503, 504 and their gRPC counterparts are sent
again, `Retry-After` and `RetryInfo` are obeyed). It says of all other errors that the same data must
not be sent again; here that holds for errors that speak of the data. A wrong token, a wrong path or
a server that broke say nothing about the spans, which wait for somebody to repair it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import Any, Final

from otel_genapp import foreign_json

RETRY_AFTER_LIMIT_S: Final = 60.0

_REFUSED_STATUSES = frozenset({400, 422})
_TOO_LARGE_STATUS = 413
_BROKEN_CLIENT_STATUSES = frozenset({406, 409, 410, 411, 412, 418, 451})
_WAITING_SERVER_STATUSES = frozenset({502, 503, 504})
_REFUSED_CODES = frozenset({"INVALID_ARGUMENT"})
_BROKEN_CODES = frozenset({"ALREADY_EXISTS", "FAILED_PRECONDITION", "INTERNAL", "UNKNOWN"})
_TOO_LARGE_MARKS = ("larger than max", "message too large")


class Verdict(Enum):
    """What is to be done with a request."""

    TAKEN = "it arrived"
    REFUSED = "the collector will not have it"
    TOO_LARGE = "the collector will not have so much at once"
    LATER = "again, later"
    BROKEN = "again, later; but what is in it may be the cause"


@dataclass(frozen=True, slots=True)
class Answer:
    """The verdict, what was said in a word or two, and what more the collector told."""

    verdict: Verdict
    said: str = ""
    rejected: int = 0
    """Spans of a request that was taken but for these."""
    retry_after_s: float | None = None


def http_answer(status: int, headers: Mapping[str, str], *, body: bytes) -> Answer:
    """What an HTTP response says; the names of the headers must be in lower case or match in any."""
    if 200 <= status < 300:
        return Answer(Verdict.TAKEN, rejected=_rejected_in(headers.get("content-type", ""), body))
    said = f"status {status}"
    if status == _TOO_LARGE_STATUS:
        return Answer(Verdict.TOO_LARGE, said)
    if status in _REFUSED_STATUSES:
        return Answer(Verdict.REFUSED, said)
    is_broken = status in _BROKEN_CLIENT_STATUSES or (
        status >= 500 and status not in _WAITING_SERVER_STATUSES
    )
    return Answer(
        Verdict.BROKEN if is_broken else Verdict.LATER,
        said,
        retry_after_s=retry_after_s(headers.get("retry-after"), headers.get("date")),
    )


def grpc_answer(code: str, metadata: Mapping[str, Any], *, details: str) -> Answer:
    """What the status of a gRPC call that failed says, by the code's name and the trailing metadata."""
    said = f"gRPC status {code}"
    wait_s = _retry_info_s(metadata)
    if code in _REFUSED_CODES:
        return Answer(Verdict.REFUSED, said)
    if code == "RESOURCE_EXHAUSTED" and wait_s is None and any(mark in details for mark in _TOO_LARGE_MARKS):
        return Answer(Verdict.TOO_LARGE, said)
    return Answer(Verdict.BROKEN if code in _BROKEN_CODES else Verdict.LATER, said, retry_after_s=wait_s)


def retry_after_s(value: str | None, date: str | None = None) -> float | None:
    """Seconds to wait by a `Retry-After` header, 60 at most; None where there is none or it is junk.

    A date counts from the response's own `Date`, so that our clock need not be right.
    """
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        at, now = _timestamp(value), _timestamp(date or "")
        if at is None:
            return None
        seconds = max(at - (time.time() if now is None else now), 0.0)
    if not math.isfinite(seconds) or seconds < 0:
        return None
    return min(seconds, RETRY_AFTER_LIMIT_S)


def _timestamp(text: str) -> float | None:
    try:
        at = parsedate_to_datetime(text)
        return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()
    except (IndexError, OverflowError, TypeError, ValueError):
        return None


def _rejected_in(content_type: str, body: bytes) -> int:
    """How many spans a response of success says were rejected; what cannot be read says none."""
    if not body:
        return 0
    if "json" in content_type:
        try:
            told = foreign_json.loads(body)["partialSuccess"]["rejectedSpans"]
            return max(int(told), 0)
        except (LookupError, TypeError, ValueError):
            return 0
    if content_type and "protobuf" not in content_type:
        return 0
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped] # ships no types
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

    try:
        return max(int(ExportTraceServiceResponse.FromString(body).partial_success.rejected_spans), 0)
    except DecodeError:
        return 0


def _retry_info_s(metadata: Mapping[str, Any]) -> float | None:
    """The delay of a `RetryInfo`, as its own metadata or among the details of the status."""
    from google.protobuf.message import DecodeError
    from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped] # as above
    from google.rpc.status_pb2 import Status  # type: ignore[import-untyped] # as above

    info = RetryInfo()
    try:
        if "google.rpc.retryinfo-bin" in metadata:
            info.ParseFromString(metadata["google.rpc.retryinfo-bin"])
        elif "grpc-status-details-bin" in metadata:
            status = Status.FromString(metadata["grpc-status-details-bin"])
            if not any(detail.Unpack(info) for detail in status.details):
                return None
        else:
            return None
    except (DecodeError, TypeError):
        return None
    seconds = info.retry_delay.seconds + info.retry_delay.nanos / 1e9
    return min(seconds, RETRY_AFTER_LIMIT_S) if seconds >= 0 else None
