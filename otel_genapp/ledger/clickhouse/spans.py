"""Spans of a fleet: read from the table that the OpenTelemetry Collector's ClickHouse exporter fills.

Nothing is written here, and nothing removed: the table is the collector's (`collector/clickhouse/traces.sql`),
in the same database. It holds every value of an attribute as text, so numbers come back as text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final

from otel_genapp import semconv
from otel_genapp.ledger.clickhouse.server import Server
from otel_genapp.ledger.spans import SPANS_PER_TRACE, SPANS_SHOWN, TRACES_SHOWN, KeptTrace, Trace, TracePage
from otel_genapp.ledger.store import rank_in
from otel_genapp.records import KeptEvent, KeptSpan

TABLE: Final = "otel_traces"
_OF_IDS, _OF_TRACES = f"{TABLE}_correlation_id_ts", f"{TABLE}_trace_id_ts"
"""Which traces a correlation id has, and when a trace was: beside the table, where its maker has made them."""
NO_COLLECTOR: Final = (
    f"no OpenTelemetry Collector fills {TABLE} in the store's database: traces show LLM calls only; "
    "collector/clickhouse/traces.sql makes the table"
)
_HOUR_NS = 3_600 * 10**9
_LOOK_BACK_NS = (_HOUR_NS, 24 * _HOUR_NS, 31 * 24 * _HOUR_NS, 2**62)
"""How far back a page of the list is looked for; further only where that does not fill it."""
_LONGEST_NS = 24 * _HOUR_NS
"""A trace is over by then; of a longer one the end is not seen in the list."""
_EVENTS = 4
_EXCEPTION = "exception"

_THERE = f"""\
SELECT table FROM system.columns WHERE database = currentDatabase()
    AND (table = '{TABLE}' AND name = 'CorrelationId' OR table IN ('{_OF_IDS}', '{_OF_TRACES}') AND name = 'TraceId')"""  # noqa: S608 - our own names
_AT = "toUnixTimestamp64Nano(Timestamp)"
_FAILED = f"lower(StatusCode) LIKE '%error' OR SpanAttributes['{semconv.ERROR_TYPE}'] != '' OR has(Events.Name, '{_EXCEPTION}')"
# What a summary is made of; all copies of a span are one.
_LIGHT = f"""\
SELECT TraceId, SpanId, ParentSpanId, CorrelationId, SpanName, SpanKind, ServiceName, {_AT}, Duration, {_FAILED}
FROM {TABLE} WHERE TraceId IN {{ids:Array(String)}} <time>
ORDER BY Timestamp, SpanId LIMIT 1 BY TraceId, SpanId"""  # noqa: S608 - as above
_WHOLE = f"""\
SELECT * FROM (
SELECT TraceId, SpanId, ParentSpanId, CorrelationId, SpanName, SpanKind, ServiceName, {_AT} AS at, Duration,
    StatusCode, StatusMessage, ScopeName, SpanAttributes, length(Links.TraceId),
    arrayMap(at -> toUnixTimestamp64Nano(at), Events.Timestamp), Events.Name, Events.Attributes
FROM {TABLE} WHERE TraceId IN {{ids:Array(String)}} <time>
ORDER BY Timestamp, SpanId LIMIT 1 BY TraceId, SpanId
) LIMIT {SPANS_PER_TRACE} BY TraceId"""  # noqa: S608 - as above
# With a second to spare: the exporter's own table of times has whole ones.
_TIME = f"""\
AND Timestamp >= (SELECT toDateTime64(min(Start), 9) - INTERVAL 1 SECOND FROM {_OF_TRACES} WHERE TraceId IN {{ids:Array(String)}})
    AND Timestamp <= (SELECT toDateTime64(max(End), 9) + INTERVAL 1 SECOND FROM {_OF_TRACES} WHERE TraceId IN {{ids:Array(String)}})"""  # noqa: S608 - as above
_OF_ID = f"""\
SELECT TraceId FROM <table> WHERE CorrelationId = {{id:String}}
GROUP BY TraceId ORDER BY min(<start>) DESC, TraceId DESC LIMIT {TRACES_SHOWN}"""  # noqa: S608 - as above
_NEWEST = f"SELECT toUnixTimestamp64Nano(max(Timestamp)) FROM {TABLE}"  # noqa: S608 - as above
_PAGE = f"""\
SELECT TraceId, started FROM (
    SELECT TraceId, min({_AT}) AS started, countIf({_FAILED}) AS failures FROM {TABLE}
    WHERE Timestamp >= fromUnixTimestamp64Nano({{from_ns:Int64}}) AND Timestamp <= fromUnixTimestamp64Nano({{to_ns:Int64}})
    GROUP BY TraceId
)
WHERE (started, TraceId) < ({{at_ns:Int64}}, {{trace_id:String}}) AND failures >= {{failures:UInt8}}
ORDER BY started DESC, TraceId DESC LIMIT {{limit:UInt64}}"""  # noqa: S608 - as above

Place = tuple[int, str]
_END: Place = (2**63 - 1, "")


class FleetSpans:
    """The spans in a collector's table; `working` gives its server for some reading."""

    def __init__(self, working: Callable[[], AbstractContextManager[Server]]) -> None:
        self._working = working
        self._there: frozenset[str] | None = None

    @property
    def problem(self) -> str:
        """Why there are no spans, as far as is known; "" if there may be some."""
        return NO_COLLECTOR if self._there is not None and TABLE not in self._there else ""

    def look(self, server: Server) -> bool:
        """See whether there is a table of spans."""
        self._there = frozenset(name for (name,) in server.rows(_THERE))
        return TABLE in self._there

    def by_correlation_id(self, correlation_id: str) -> tuple[KeptTrace, ...]:
        """The newest traces with a span of that correlation id, whole, the newest first."""
        with self._working() as server:
            if not self.look(server):
                return ()
            kept_apart = _OF_IDS in (self._there or ())
            table, start = (_OF_IDS, "Start") if kept_apart else (TABLE, "Timestamp")
            query = _OF_ID.replace("<table>", table).replace("<start>", start)
            ids = [trace_id for (trace_id,) in server.rows(query, {"id": correlation_id})]
            traces = self._traces(server, [*ids, correlation_id])
            # A span that was given no correlation id has its trace's id for one.
            if correlation_id in traces and correlation_id not in ids:
                light = self._rows(server, _LIGHT, ids=[correlation_id])
                if all(row[3] for row in light):
                    del traces[correlation_id]
            room, shown = SPANS_SHOWN, list[str]()
            newest = sorted(traces.values(), key=_place_of, reverse=True)[:TRACES_SHOWN]
            for trace in newest:
                if trace.spans <= room:
                    room -= trace.spans
                    shown.append(trace.trace_id)
            spans = self._spans(server, shown)
        return tuple(KeptTrace(trace.summary(), tuple(spans.get(trace.trace_id, ()))) for trace in newest)

    def by_trace_id(self, trace_id: str) -> KeptTrace | None:
        """One trace, or None when it is unknown."""
        with self._working() as server:
            if not self.look(server):
                return None
            trace = self._traces(server, [trace_id]).get(trace_id)
            if trace is None:
                return None
            return KeptTrace(trace.summary(), tuple(self._spans(server, [trace_id])[trace_id]))

    def recent(self, *, limit: int, cursor: str | None, only_errors: bool = False) -> TracePage:
        """A page of the list of traces, by their starts.

        Raises:
            ValueError: the cursor is not one this store gave.
        """
        before = _cursor_in(cursor)
        with self._working() as server:
            if not self.look(server):
                return TracePage((), None)
            traces = self._page(server, before, limit=limit + 1, only_errors=only_errors)
        more = len(traces) > limit > 0
        shown = traces[:limit]
        last = f"{shown[-1].started_at_ns}.{int(shown[-1].trace_id, 16)}" if more else None
        return TracePage(tuple(trace.summary() for trace in shown), last)

    def _page(self, server: Server, before: Place, *, limit: int, only_errors: bool) -> list[Trace]:
        """The traces before a place, as many as are wanted or there are."""
        ((newest_ns,),) = server.rows(_NEWEST)
        end_ns = min(before[0], newest_ns)
        found: list[Trace] = []
        for back_ns in _LOOK_BACK_NS:
            from_ns = max(end_ns - back_ns, 0)
            said_by = {
                "from_ns": from_ns,
                "to_ns": min(end_ns + _LONGEST_NS, 2**63 - 1),
                "at_ns": before[0],
                "trace_id": before[1],
                "failures": int(only_errors),
                "limit": limit,
            }
            ids = [trace_id for trace_id, _ in server.rows(_PAGE, said_by)]
            # One that began before then is shown here by its first span since: it belongs further back.
            traces = self._traces(server, ids).values()
            found = sorted(
                (one for one in traces if one.started_at_ns >= from_ns), key=_place_of, reverse=True
            )
            if len(found) >= limit or not from_ns:
                break
        return found

    def _traces(self, server: Server, ids: Sequence[str]) -> dict[str, Trace]:
        """What is known of each trace there is."""
        traces: dict[str, Trace] = {}
        for row in self._rows(server, _LIGHT, ids=ids):
            trace = traces.setdefault(row[0], Trace(row[0]))
            trace.add(_span_of(row[:9], status="error" if row[9] else "unset"), size=0)
        return traces

    def _spans(self, server: Server, ids: Sequence[str]) -> Mapping[str, Sequence[KeptSpan]]:
        spans: dict[str, list[KeptSpan]] = {one: [] for one in ids}
        for row in self._rows(server, _WHOLE, ids=ids):
            spans[row[0]].append(_whole(row))
        return spans

    def _rows(self, server: Server, query: str, *, ids: Sequence[str]) -> Sequence[Any]:
        if not ids:
            return ()
        time = _TIME if _OF_TRACES in (self._there or ()) else ""
        return server.rows(query.replace("<time>", time), {"ids": list(ids)})


def _span_of(row: Sequence[Any], **more: Any) -> KeptSpan:
    """The span in the first columns of a row."""
    trace_id, span_id, parent_id, correlation_id, name, kind, service, at_ns, duration_ns = row
    return KeptSpan(
        trace_id=trace_id,
        span_id=span_id,
        parent_id=parent_id or None,
        correlation_id=correlation_id or trace_id,
        name=name,
        kind=_lower(kind) if kind != "Unspecified" else "internal",
        service=service,
        started_at_ns=at_ns,
        duration_ms=duration_ns / 1e6,
        **more,
    )


def _whole(row: Sequence[Any]) -> KeptSpan:
    status, message, scope, attributes, links, times, names, said = row[9:]
    events = tuple(_exceptions(zip(times, names, said, strict=True)))
    raised = events[-1].attributes.get("exception.type") if events else None
    return _span_of(
        row[:9],
        status=_lower(status),
        status_message=message,
        error_type=attributes.get(semconv.ERROR_TYPE) or raised or None,
        scope=scope,
        attributes=dict(attributes),
        events=events[-_EVENTS:],
        links=links,
        cut=max(len(events) - _EVENTS, 0),
    )


def _exceptions(events: Iterable[tuple[int, str, Mapping[str, str]]]) -> Iterable[KeptEvent]:
    for at_ns, name, said in events:
        if name == _EXCEPTION:
            yield KeptEvent(name=name, at_ns=at_ns, attributes=dict(said))


def _lower(word: str) -> str:
    """A kind or status in our spelling: exporters of other versions write SPAN_KIND_SERVER for Server."""
    return word.lower().removeprefix("span_kind_").removeprefix("status_code_")


def _place_of(trace: Trace) -> Place:
    return trace.started_at_ns, trace.trace_id


def _cursor_in(cursor: str | None) -> Place:
    found = rank_in(cursor)
    if found is None:
        return _END
    at_ns, number = found
    if at_ns >= _END[0] or number >= 2**128:
        raise ValueError(f"cursor must be one that an earlier page gave, got {cursor!r}")
    return at_ns, f"{number:032x}"
