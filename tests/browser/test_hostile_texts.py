"""Texts of applications, models and visitors are shown as texts: none of them runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest
from opentelemetry import trace

from otel_genapp import bind
from otel_genapp.records import LLMCall, Usage
from tests.browser.conftest import Open, Service, Window, serving
from tests.builders import START_NS, call
from tests.conversing import message
from tests.xss import PAYLOADS

pytestmark = pytest.mark.slow

AT_ONCE = 25
"""A page shows more than one payload, so that not every one needs its own."""


@pytest.fixture
def hostile_service(tmp_path: Path) -> Iterator[Service]:
    """Every payload in every field of a call, in a span and in its events."""
    tmp_path.chmod(0o700)
    with serving("fastapi", f"sqlite:///{tmp_path}/ledger.db") as service:
        service.telemetry._machinery.store.apply(
            hostile_call(number, text) for number, text in enumerate(PAYLOADS)
        )
        service.telemetry._machinery.store.apply(
            message(f"m{number}", number % 80_000, platform=text, intent=text, session_id=text, user_id=text)
            for number, text in enumerate(PAYLOADS)
        )
        for number in range(0, len(PAYLOADS), AT_ONCE):
            with bind(correlation_id=f"hostile-{number}"):
                make_spans(PAYLOADS[number : number + AT_ONCE])
        assert service.telemetry.flush()
        yield service


def hostile_call(number: int, text: str) -> LLMCall:
    return replace(
        call(
            f"c{number}", session_id=f"{number} {text}", provider=text, model=text, response_model=text, operation=text,
            usage=Usage(1, 1), tool_names=(text,), tool_calls=1, error_type=text, user_id=text, finish_reasons=(text,),
            service_tier=text, response_id=text, trace_id=f"{number:032x}", attempts=(text, text),
        ),
        correlation_id=f"call-{number}",
        status="fail" if number % 2 else "success",
    )  # fmt: skip


def make_spans(texts: tuple[str, ...]) -> None:
    tracer = trace.get_tracer(texts[0])
    with tracer.start_as_current_span("root"):
        for text in texts:
            with tracer.start_as_current_span(text, attributes={text: text, "text": [text]}) as span:
                span.add_event(text, {text: text})
                span.set_status(trace.StatusCode.ERROR, text)
                span.record_exception(RuntimeError(text))


def targets() -> Iterator[str]:
    """Every page that shows what somebody else has written, and every parameter."""
    yield from ("", "?range=24h", "traces", "traces?errors=1")
    for number, text in enumerate(PAYLOADS):
        if number % 50 == 0:
            yield f"sessions?by={('recent', 'cost', 'tokens', 'failed')[number // 50 % 4]}"
        yield f"session/{quote(f'{number} {text}', safe='')}"
        if number % 6 == 0:
            yield f"sessions?{urlencode({'search': text})}"
            yield f"find?{urlencode({'id': text})}"
            yield f"trace/call-{number}"
    for number in range(0, len(PAYLOADS), AT_ONCE):
        yield f"trace/hostile-{number}"
    day = datetime.fromtimestamp(START_NS / 1e9, tz=UTC).date().isoformat()
    for kind in ("daily", "weekly", "monthly"):
        yield f"report/{kind}?date={day}"
        for name in ("date", "tz", "step", "detail", "format"):
            yield from (f"report/{kind}?{urlencode({name: text})}" for text in PAYLOADS[::75])
    for name in ("range", "by", "cursor", "next"):
        for text in PAYLOADS[::50]:
            for place in ("", "sessions", "traces", "login"):
                yield f"{place}?{urlencode({name: text})}"


def ran(window: Window) -> bool:
    """Whether a payload ran, and not what else was shown."""
    return bool(window.page.evaluate("window.ran === 1"))


def test_no_text_runs(hostile_service: Service, open_window: Open) -> None:
    """300 payloads in every field that reaches a page, and in every parameter: no script runs, no policy is hurt."""
    window = open_window()
    window.log_in(hostile_service)
    window.page.on("dialog", lambda dialog: window.complaints.append(f"dialog {dialog.message}"))
    window.complaints.clear()
    looked = 0
    for target in targets():
        answer = window.page.goto(hostile_service.url(target), wait_until="domcontentloaded")
        assert answer is not None
        assert answer.status in {200, 400, 404}, (answer.status, target)
        assert not ran(window), target
        looked += 1
    assert [said for said in window.complaints if "404" not in said and "400" not in said] == []
    assert looked > 400
    text = PAYLOADS[0]
    window.page.goto(hostile_service.url(f"session/{quote(f'0 {text}', safe='')}"))
    assert window.page.locator("h1 .id").inner_text() == f"0 {text}"
