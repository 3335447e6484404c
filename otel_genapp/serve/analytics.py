"""Reports and exports: `/analytics/…`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import date, timedelta

from otel_genapp.read.export import FORMATS, TYPES
from otel_genapp.read.reports import KINDS, Report, parse_day
from otel_genapp.read.reports.delimited import report_csv
from otel_genapp.read.reports.markdown import report_markdown
from otel_genapp.read.reports.period import UTC_NAME, range_of
from otel_genapp.read.reports.xlsx import report_xlsx
from otel_genapp.serve.exchange import BadRequestError, Chunks, Reply, Request, json_reply
from otel_genapp.serve.pages.reports import report_file
from otel_genapp.serve.reading import Reading

DEFAULT_DAYS = 30
_HEADERS = (("cache-control", "no-store"), ("x-content-type-options", "nosniff"))

WRITERS: Mapping[str, tuple[str, Callable[[Report], Iterator[bytes]]]] = {
    "html": ("text/html; charset=utf-8", lambda report: iter((report_file(report),))),
    "md": ("text/markdown; charset=utf-8", lambda report: iter((report_markdown(report).encode(),))),
    "csv": (TYPES["csv"], lambda report: iter((report_csv(report),))),
    "xlsx": (TYPES["xlsx"], report_xlsx),
}
"""Form -> its content type, and what writes a report in it; JSON is the usual one."""


def report(request: Request, reading: Reading) -> Reply:
    """A report, as JSON or in one of `WRITERS`."""
    kind, form = request.path["period"], request.query.get("format", "json")
    if kind not in KINDS:
        return json_reply(404, {"error": f"a report is one of {', '.join(KINDS)}, got {kind[:40]!r}"})
    if form != "json" and form not in WRITERS:
        raise BadRequestError(f"format must be one of json, {', '.join(WRITERS)}, got {form[:40]!r}")
    found = make_report(request, reading, kind=kind)
    if form == "json":
        return json_reply(200, found.as_dict())
    content_type, write = WRITERS[form]
    zone = found.as_dict()["period"]["time_zone"]
    return _download(f"{found.name}.{form}", content_type, made=write(found), zone=zone)


def make_report(request: Request, reading: Reading, *, kind: str) -> Report:
    """The report that `date`, `tz`, `step` and `detail` ask for.

    Raises:
        BadRequestError: one of them cannot be understood.
    """
    said = {name: request.query.get(name, "").strip() for name in ("date", "tz", "step", "detail")}
    try:
        return reading.reports.make(
            kind,
            day=parse_day(said["date"], "date") if said["date"] else None,
            zone=said["tz"] or UTC_NAME,
            step=said["step"],
            detail=said["detail"] or "full",
        )
    except ValueError as refused:
        raise BadRequestError(str(refused)) from None


def export(request: Request, reading: Reading) -> Reply:
    """Every message from `start_date` to `end_date`, both included, and what is known of it."""
    form = request.query.get("format", "json")
    if form not in FORMATS:
        raise BadRequestError(f"format must be one of {', '.join(FORMATS)}, got {form[:40]!r}")
    try:
        period = range_of(*_days(request, reading), zone_name=request.query.get("tz", "").strip() or UTC_NAME)
    except ValueError as refused:
        raise BadRequestError(str(refused)) from None
    found = reading.exports.write(period, form)
    return _download(found.file_name, found.content_type, made=found.chunks)


def _days(request: Request, reading: Reading) -> tuple[date, date]:
    """The days asked for; without an end today, without a start 30 days up to the end."""
    start, end = (request.query.get(name, "").strip() for name in ("start_date", "end_date"))
    last = parse_day(end, "end_date") if end else reading.reports.today()
    return parse_day(start, "start_date") if start else last - timedelta(days=DEFAULT_DAYS - 1), last


def _download(name: str, content_type: str, *, made: Iterator[bytes], zone: str = UTC_NAME) -> Reply:
    """A file; its times are those of `zone`."""
    headers = (
        *_HEADERS,
        ("content-disposition", f'attachment; filename="{name}"'),
        ("x-time-zone", zone),
    )
    return Reply(200, b"", content_type, headers, Chunks(made))
