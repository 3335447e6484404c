"""What a collector's answer means for the request it answers."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage  # type: ignore[import-untyped] # ships no types
from google.protobuf.duration_pb2 import Duration  # type: ignore[import-untyped] # as above
from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped] # as above
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped] # as above
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from otel_genapp.pipeline.export.answers import Answer, Verdict, grpc_answer, http_answer, retry_after_s

STATUSES = {
    Verdict.TAKEN: (200, 202, 204),
    Verdict.REFUSED: (400, 422),
    Verdict.TOO_LARGE: (413,),
    Verdict.LATER: (301, 307, 401, 403, 404, 405, 407, 408, 415, 429, 502, 503, 504),
    Verdict.BROKEN: (409, 418, 500, 501, 505, 520, 599),
}
CODES = {
    Verdict.REFUSED: ("INVALID_ARGUMENT",),
    Verdict.LATER: (
        "ABORTED", "CANCELLED", "DATA_LOSS", "DEADLINE_EXCEEDED", "OUT_OF_RANGE", "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED", "UNAUTHENTICATED", "UNAVAILABLE", "UNIMPLEMENTED",
    ),
    Verdict.BROKEN: ("FAILED_PRECONDITION", "INTERNAL", "UNKNOWN"),
}  # fmt: skip


@pytest.mark.parametrize(("verdict", "status"), [(v, one) for v, some in STATUSES.items() for one in some])
def test_http_statuses(verdict: Verdict, status: int) -> None:
    """What speaks of the data is final; what speaks of the way there, or of the server, is not."""
    said = "" if verdict is Verdict.TAKEN else f"status {status}"
    assert http_answer(status, {}, body=b"") == Answer(verdict, said)


@pytest.mark.parametrize(("verdict", "code"), [(v, one) for v, some in CODES.items() for one in some])
def test_grpc_codes(verdict: Verdict, code: str) -> None:
    """As over HTTP."""
    assert grpc_answer(code, {}, details="no") == Answer(verdict, f"gRPC status {code}")


def test_too_large_for_grpc() -> None:
    """A request that is larger than the receiver allows has a status that means other things too."""
    details = "SERVER: Received message larger than max (5000000 vs. 4194304)"
    assert grpc_answer("RESOURCE_EXHAUSTED", {}, details=details).verdict is Verdict.TOO_LARGE
    assert grpc_answer("RESOURCE_EXHAUSTED", {}, details="queue is full").verdict is Verdict.LATER


def test_retry_info() -> None:
    """The delay is found where the SDK looks for it, and among the details of the status."""
    info, detail = RetryInfo(retry_delay=Duration(seconds=2, nanos=500_000_000)), AnyMessage()
    detail.Pack(info)
    status = Status(code=14, details=[detail])
    for metadata, expected in (
        ({"google.rpc.retryinfo-bin": info.SerializeToString()}, 2.5),
        ({"grpc-status-details-bin": status.SerializeToString()}, 2.5),
        ({"grpc-status-details-bin": Status(code=14).SerializeToString()}, None),
        ({"grpc-status-details-bin": b"\xff\xff"}, None),
        ({"google.rpc.retryinfo-bin": "text"}, None),
        (
            {"google.rpc.retryinfo-bin": RetryInfo(retry_delay=Duration(seconds=10**6)).SerializeToString()},
            60,
        ),
    ):
        assert grpc_answer("UNAVAILABLE", metadata, details="").retry_after_s == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None), ("", None), ("0", 0.0), ("2", 2.0), (" 1.5 ", 1.5), ("60", 60.0), ("61", 60.0),
        ("1000000000", 60.0), ("-1", None), ("nan", None), ("inf", None), ("soon", None), ("1, 2", None),
        ("9" * 5000, None), ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0), ("Fri, 31 Dec 9999 23:59:59 GMT", 60.0),
        ("Fri, 99 Foo 9999", None), ("Mon, 01 Jan 0001 00:00:00 +2359", 0.0),
    ],
)  # fmt: skip
def test_retry_after(value: str | None, expected: float | None) -> None:
    """Seconds or a date count, up to a minute; junk does not."""
    assert retry_after_s(value) == expected


def test_a_date_counts_from_the_servers_own() -> None:
    """A clock that is an hour off makes no wait longer or shorter."""
    hour_off = time.time() + 3600
    assert retry_after_s(formatdate(hour_off + 20, usegmt=True), formatdate(hour_off, usegmt=True)) == 20
    assert 18 <= (retry_after_s(formatdate(time.time() + 20, usegmt=True), "junk") or 0) <= 20


def protobuf(rejected: int) -> bytes:
    answer = ExportTraceServiceResponse()
    answer.partial_success.rejected_spans = rejected
    written: bytes = answer.SerializeToString()
    return written


@pytest.mark.parametrize(
    ("kind", "body", "rejected"),
    [
        ("application/x-protobuf", protobuf(3), 3), ("", protobuf(3), 3), ("text/html", protobuf(3), 0),
        ("application/x-protobuf", protobuf(-3), 0), ("application/x-protobuf", b"\xff\xff", 0),
        ("application/json", b'{"partialSuccess":{"rejectedSpans":"3","errorMessage":"no"}}', 3),
        ("application/json; charset=utf-8", b'{"partialSuccess":{"rejectedSpans":3}}', 3),
        ("application/json", b"{}", 0), ("application/json", b'{"partialSuccess":null}', 0),
        ("application/json", b"[" * 100_000, 0), ("application/json", b"not json", 0), ("", b"", 0),
    ],
)  # fmt: skip
def test_partial_success(kind: str, body: bytes, rejected: int) -> None:
    """Rejected spans are found in both encodings; a body nobody can read says nothing."""
    assert http_answer(200, {"content-type": kind}, body=body) == Answer(Verdict.TAKEN, rejected=rejected)
