"""One attempt to deliver a request, over whatever the SDK's exporter speaks.

The exporter knows endpoint, headers, compression, certificates and credentials from `OTEL_*`; what
it lacks is an answer: its `export` retries by itself, by the wall clock, and says success or
failure. So its connection is used and its retries are not. The names used are private to the SDK;
where they are not as expected, and for any other exporter, the public `export` gets the spans,
made from the request again.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final, Protocol

from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from otel_genapp.pipeline.export.answers import Answer, Verdict, grpc_answer, http_answer
from otel_genapp.pipeline.export.packing import Parcel
from otel_genapp.pipeline.export.unpacking import unpacked

TIMEOUT_S: Final = 10.0
_STALE_S: Final = 1.0


class Wire(Protocol):
    """A way to the collector."""

    timeout_s: float
    """How long an attempt may take, all in all."""

    def send(self, parcel: Parcel) -> Answer:
        """Make one attempt; blocks for `timeout_s`, or somewhat more where the other side dawdles."""

    def close(self) -> None:
        """Let go of the connection."""


def wire_of(exporter: Any) -> Wire:
    """The best way that this exporter offers."""
    client = getattr(exporter, "_client", None)
    if _HttpWire.fits(client):
        return _HttpWire(exporter, client)
    if _GrpcWire.fits(exporter):
        return _GrpcWire(exporter)
    return _PublicWire(exporter)


class _HttpWire:
    """The connection, and the way to compress, of the SDK's HTTP exporter."""

    def __init__(self, exporter: SpanExporter, client: Any) -> None:
        self._exporter = exporter
        self._client = client
        self._transport = client._transport  # noqa: SLF001 - no public way to a request's answer
        self._has_worked = False
        self.timeout_s = _seconds(client._timeout)  # noqa: SLF001 - as above

    @staticmethod
    def fits(client: Any) -> bool:
        """Whether the exporter's client is what this class knows."""
        transport = getattr(client, "_transport", None)
        return (
            callable(getattr(transport, "request", None))
            and callable(getattr(transport, "is_connection_error", None))
            and isinstance(getattr(client, "_endpoint", None), str)
            and isinstance(getattr(client, "_headers", None), Mapping)
            and callable(getattr(client, "_compress", None))
            and hasattr(client, "_timeout")
        )

    def send(self, parcel: Parcel) -> Answer:
        data = self._client._compress(parcel.data)  # noqa: SLF001 - see above
        began = time.monotonic()
        result = self._ask(data, self.timeout_s)
        took_s = time.monotonic() - began
        if self._is_stale(result.error) and took_s < min(_STALE_S, self.timeout_s):
            result = self._ask(data, self.timeout_s - took_s)
        self._has_worked = result.error is None
        if result.error is not None or result.status_code is None:
            return Answer(Verdict.LATER, type(result.error).__name__)
        return http_answer(result.status_code, result.headers(), body=result.content())

    def close(self) -> None:
        self._exporter.shutdown()

    def _ask(self, data: bytes, timeout_s: float) -> Any:
        client = self._client
        return self._transport.request(
            "POST",
            client._endpoint,  # noqa: SLF001 - see above
            headers=client._headers,  # noqa: SLF001 - see above
            data=data,
            timeout=timeout_s,
        )

    def _is_stale(self, error: Exception | None) -> bool:
        """Whether a connection that was kept open has been closed by the other side meanwhile."""
        return error is not None and self._has_worked and self._transport.is_connection_error(error)


class _GrpcWire:
    """The stub of the SDK's gRPC exporter."""

    def __init__(self, exporter: Any) -> None:
        self._exporter = exporter
        self.timeout_s = _seconds(exporter._timeout)  # noqa: SLF001 - no public way to a call's status

    @staticmethod
    def fits(exporter: Any) -> bool:
        """Whether the exporter is what this class knows."""
        return (
            callable(getattr(getattr(exporter, "_client", None), "Export", None))
            and isinstance(getattr(exporter, "_headers", None), tuple)
            and hasattr(exporter, "_timeout")
        )

    def send(self, parcel: Parcel) -> Answer:
        import grpc  # type: ignore[import-untyped] # ships no types
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        try:
            response = self._exporter._client.Export(  # noqa: SLF001 - see above
                request=ExportTraceServiceRequest.FromString(parcel.data),
                metadata=self._exporter._headers,  # noqa: SLF001 - see above
                timeout=self.timeout_s,
            )
        except grpc.RpcError as error:
            told: Any = error
            return grpc_answer(
                told.code().name, dict(told.trailing_metadata() or ()), details=told.details() or ""
            )
        return Answer(Verdict.TAKEN, rejected=max(response.partial_success.rejected_spans, 0))

    def close(self) -> None:
        self._exporter.shutdown()


class _PublicWire:
    """The public `export` of any exporter: it retries by itself and gives no reason for a failure."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self.timeout_s = 3 * TIMEOUT_S

    def send(self, parcel: Parcel) -> Answer:
        if self._exporter.export(unpacked(parcel.data)) is SpanExportResult.SUCCESS:
            return Answer(Verdict.TAKEN)
        return Answer(Verdict.BROKEN, "no reason given")

    def close(self) -> None:
        self._exporter.shutdown()


def _seconds(timeout: Any) -> float:
    return float(timeout) if isinstance(timeout, int | float) and timeout > 0 else TIMEOUT_S
