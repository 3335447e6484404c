"""The three HTTP families as one: a request is counted, timed and sized with one look-up."""

from __future__ import annotations

from threading import get_ident

from opentelemetry.context import Context

from otel_genapp import hub
from otel_genapp.metrics.bound import NO_EXEMPLAR, Record
from otel_genapp.metrics.family import MeasuredFamily
from otel_genapp.quiet import quiet

_guarded = quiet("metrics")
Labels = tuple[str, str, str, str]
_Cells = tuple[Record, Record, Record, Record]


class HttpFamilies:
    """`genapp_http_requests_total`, `…_duration_sec` and `…_size_bytes`, for both directions."""

    __slots__ = ("_cells", "_duration", "_requests", "_size", "recorded")

    def __init__(self, requests: MeasuredFamily, duration: MeasuredFamily, *, size: MeasuredFamily) -> None:
        self._requests = requests
        self._duration = duration
        self._size = size
        self._cells: dict[Labels, _Cells] = {}
        self.recorded = 0
        """Grows with every request: says whether there is something new."""

    def record(
        self,
        labels: Labels,
        seconds: float,
        *,
        request_bytes: int,
        response_bytes: int | None,
        context: Context | None,
    ) -> None:
        """Record one request. `labels` are method, status, resource and app_type.

        `response_bytes` is None where there was no answer; `context` holds the span, for exemplars.
        Never raises.
        """
        with _guarded:
            cells = self._cells.get(labels)
            running = hub.active
            if cells is None or (running is not None and running.collecting_thread == get_ident()):
                self._record_each(labels, seconds, sizes=(request_bytes, response_bytes), context=context)
                return
            count, duration, request, response = cells
            # The duration leads from a slow bucket to its trace; the same link on the other
            # families would cost as much as recording them.
            count(1, NO_EXEMPLAR)
            duration(seconds, context)
            request(request_bytes, NO_EXEMPLAR)
            if response_bytes is not None:
                response(response_bytes, NO_EXEMPLAR)
            self.recorded += 1

    def forget(self) -> None:
        """Drop what was resolved; for the child of a fork."""
        self._cells = {}

    def _record_each(
        self,
        labels: Labels,
        seconds: float,
        *,
        sizes: tuple[int, int | None],
        context: Context | None,
    ) -> None:
        method, status, resource, app_type = labels
        request_labels = (resource, status, method, "request", app_type)
        response_labels = (resource, status, method, "response", app_type)
        self._requests.record(1, labels, NO_EXEMPLAR)
        self._duration.record(seconds, labels, context)
        self._size.record(sizes[0], request_labels, NO_EXEMPLAR)
        if sizes[1] is not None:
            self._size.record(sizes[1], response_labels, NO_EXEMPLAR)
        cells = (
            self._requests.bound_cell(labels),
            self._duration.bound_cell(labels),
            self._size.bound_cell(request_labels),
            self._size.bound_cell(response_labels),
        )
        if cells[0] and cells[1] and cells[2] and cells[3]:
            self._cells[labels] = (cells[0], cells[1], cells[2], cells[3])
