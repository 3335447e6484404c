"""A report as a short message: HTML as Telegram takes it."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from otel_genapp.read.cells import clean
from otel_genapp.read.reports.markdown import heading
from otel_genapp.read.reports.report import Report
from otel_genapp.read.reports.tables import shown
from otel_genapp.read.reports.trends import numbers_of

LIMIT = 4096
"""UTF-16 units of a message after its markup is read; ours counts the markup too, so it is always shorter."""
_TEXT_LIMIT = 300
_ANOMALIES, _ADVICE = 5, 6
_MEASURES = (
    ("messages", "messages", ""), ("users", "users", ""), ("conversations", "conversations", ""),
    ("resolved_rate", "resolved", "rate"), ("escalated_rate", "escalated", "rate"), ("csat", "CSAT", ""),
    ("nps", "NPS", ""), ("response_p95_ms", "response p95", "ms"), ("llm_calls", "LLM calls", ""),
    ("llm_tokens", "LLM tokens", ""), ("llm_cost_usd", "LLM cost", "usd"),
)  # fmt: skip


def digest_of(report: Report) -> str:
    """The main figures with their changes, what is unusual, and what to do; below 4096 UTF-16 units."""
    kept: list[str] = []
    left = LIMIT - 2
    for line in _lines(report):
        left -= units(line) + 1
        if left < 0:
            kept.append("\u2026")
            break
        kept.append(line)
    return "\n".join(kept)


def units(text: str) -> int:
    """The length of a text in UTF-16 units, as Telegram counts."""
    return len(text.encode("utf-16-le")) // 2


def _lines(report: Report) -> Iterator[str]:
    found = report.found
    yield f"<b>{_text(heading(found))}</b> ({_text(found['period']['time_zone'])})"
    numbers = numbers_of(found["summary"])
    trends = found.get("trends")
    changes = (
        {one["measure"]: one["change_percent"] for one in trends["previous"]["measures"]} if trends else {}
    )
    for name, title, unit in _MEASURES:
        if numbers[name] is not None:
            change = changes.get(name)
            beside = f" ({shown(change, 'percent')})" if change is not None else ""
            yield f"{title}: <b>{shown(numbers[name], unit)}</b>{beside}"
    if trends and trends["anomalies"]:
        yield "<b>Unusual</b>"
        for one in trends["anomalies"][:_ANOMALIES]:
            value, usual = (shown(one[name], one["unit"]) for name in ("value", "expected"))
            yield f"\u2022 {one['day']}: {one['title']} {value}, usually {usual}"
    advice = found.get("advice", ())
    if advice:
        yield "<b>What to do</b>"
        for item in advice[:_ADVICE]:
            yield f"\u2022 {_text(item['text'])}"
        if len(advice) > _ADVICE:
            yield f"\u2026 and {len(advice) - _ADVICE} more"
    for note in found["notes"]:
        yield f"<i>{_text(note)}</i>"


def _text(text: str) -> str:
    return escape(clean(text[:_TEXT_LIMIT]), quote=False)
