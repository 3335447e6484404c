"""Reports as pages: at `/genapp/report/…`, and as a file that needs nothing beside it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from markupsafe import Markup

from otel_genapp.read.reports import DETAILS, KINDS, STEPS, Report, parse_day
from otel_genapp.read.reports.markdown import heading
from otel_genapp.read.reports.period import UTC_NAME
from otel_genapp.read.reports.tables import UNKNOWN, shown, tables_of
from otel_genapp.serve.exchange import BadRequestError, Reply, Request
from otel_genapp.serve.pages.rendering import page, text_of
from otel_genapp.serve.reading import Reading

_STYLE = Path(__file__).parent / "static" / "pages.css"
_TILES = (
    ("Messages", "messages", ""), ("Users", "users", ""), ("Conversations", "conversations.begun", ""),
    ("Resolved", "conversations.resolved_rate", "rate"), ("Escalated", "conversations.escalated_rate", "rate"),
    ("CSAT", "feedback.csat.mean", ""), ("NPS", "feedback.nps.score", ""),
    ("Response p95", "response_time_ms.p95", "ms"), ("LLM calls", "llm.total_requests", ""),
    ("LLM cost", "llm.priced_cost_usd", "usd"), ("Cache hit rate", "llm.cache_hit_rate", "rate"),
    ("Critical reviews", "feedback.critical", ""),
)  # fmt: skip
_MOST_BARS = 200
_BAR, _HEIGHT = 10, 120


def report(request: Request, reading: Reading) -> Reply:
    """A report of a day, a week or a month, with links to those around it."""
    kind = request.path["id"]
    if kind not in KINDS:
        return page("nothing.html", request, status=404, wanted=kind[:256], live=False)
    said = {name: request.query.get(name, "").strip() for name in ("date", "tz", "step", "detail")}
    try:
        found = reading.reports.make(
            kind,
            day=parse_day(said["date"], "date") if said["date"] else None,
            zone=said["tz"] or UTC_NAME,
            step=said["step"],
            detail=said["detail"] or "full",
        )
    except ValueError as refused:
        raise BadRequestError(str(refused)) from None
    return page(
        "report.html", request, **_content(found), kinds=KINDS, said=said, step_names=tuple(STEPS),
        details=DETAILS, chosen=kind, live=False,
    )  # fmt: skip


def report_file(report: Report) -> bytes:
    """A report as one HTML file in UTF-8, its style within; it loads nothing and runs nothing."""
    style = _STYLE.read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode("ascii")
    policy = f"default-src 'none'; style-src 'sha256-{digest}'"
    # Our own style sheet: escaped it would be another text than the one hashed.
    text = text_of("report_file.html", style=Markup(style), policy=policy, **_content(report))  # noqa: S704
    return text.encode("utf-8", "replace")


def _content(report: Report) -> dict[str, Any]:
    found = report.found
    tables = {table.name: table for table in tables_of(report)}
    tables.pop("summary")
    return {
        "heading": heading(found),
        "period": found["period"],
        "notes": found["notes"],
        "advice": found.get("advice"),
        "rule": found["trends"]["rule"] if "trends" in found else "",
        "tiles": [(title, shown(_at(found["summary"], path), unit)) for title, path, unit in _TILES],
        "unpriced": found["summary"]["llm"]["unpriced_requests"],
        "tables": [table for name, table in tables.items() if name != "advice"],
        "bars": _bars(found["steps"]["rows"]),
        "step": found["steps"]["step"],
        "unknown": UNKNOWN,
    }


def _at(figures: Any, path: str) -> Any:
    for name in path.split("."):
        figures = figures[name]
    return figures


def _bars(rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Messages by step as bars; of more steps than fit, several together make a bar."""
    if not any(row["messages"] for row in rows):
        return None
    together = -(-len(rows) // _MOST_BARS)
    bars = list(_joined(rows, together))
    most = max(bar["messages"] for bar in bars)
    for place, bar in enumerate(bars):
        height = round(_HEIGHT * bar["messages"] / most, 1)
        bar |= {"x": place * _BAR + 1, "y": _HEIGHT - height, "height": height}
    return {"bars": bars, "width": len(bars) * _BAR, "height": _HEIGHT, "bar": _BAR - 2, "most": most}


def _joined(rows: list[dict[str, Any]], together: int) -> Iterator[dict[str, Any]]:
    for start in range(0, len(rows), together):
        some = rows[start : start + together]
        yield {"from": some[0]["from"], "messages": sum(row["messages"] for row in some)}
