"""From a number to the conversation: by correlation id, by session, and through exemplars."""

from __future__ import annotations

from otel_genapp import semconv
from otel_genapp.dashboards.boards import SECONDS, Board, Panel, Row, Variable
from otel_genapp.dashboards.queries import Query, increase, quantile

_TAGS = f"%7B%22{semconv.CORRELATION_ID}%22%3A%22${{correlation_id:percentencode}}%22%7D"
_JAEGER = f"${{jaeger_url}}/search?service=${{service:percentencode}}&tags={_TAGS}&lookback=2d&limit=20"
_TRACE_PAGE = "${app_url}/genapp/trace/${correlation_id:percentencode}"
_SESSION_PAGE = "${app_url}/genapp/session/${session_id:percentencode}"
_BY_ID = f"""
Every answer of an app carries its correlation id in the header `{semconv.HEADER_CORRELATION}`, and so does
every line of its log. Put one above, then:

- [the trace in Jaeger]({_JAEGER}): all services that took part (choose one of them above)
- [the trace in the app's own pages]({_TRACE_PAGE}): spans and LLM calls, with tokens and cost
- in a terminal: `otel-genapp trace ${{correlation_id}}`
"""
_BY_SESSION = f"""
A session is what the header `{semconv.HEADER_SESSION}` or `bind(session_id=…)` said. Put one above, then:

- [the session in the app's own pages]({_SESSION_PAGE}): each call, its tokens, its cost, its trace
- [all sessions](${{app_url}}/genapp/sessions), the dearest or the slowest first
- in a terminal: `otel-genapp session ${{session_id}}`
"""


def make_board() -> Board:
    """The board to find one conversation on."""
    services = f'label_values({semconv.TELEMETRY_ERRORS.name}{{env=~"$env"}}, app)'
    return Board(
        "explorer",
        "Gen apps: sessions and traces",
        "From a correlation id or a session to its trace, and from a slow point to the request behind it.",
        rows=(_find(), _start()),
        variables=(
            Variable("service", "Service in Jaeger", services, "Jaeger searches one service.", single=True),
            Variable("correlation_id", "Correlation id", description="As in the header or the log."),
            Variable("session_id", "Session", description="As in the header or the log."),
            Variable("jaeger_url", "Jaeger", value="http://127.0.0.1:16686"),
            Variable("app_url", "App", value="http://127.0.0.1:8000"),
        ),
        links=(
            ("Jaeger by correlation id", _JAEGER),
            ("Trace page", _TRACE_PAGE),
            ("Session page", _SESSION_PAGE),
        ),
    )


def _find() -> Row:
    return Row(
        "Find one",
        (
            Panel(
                "By correlation id", "Where the trace of one request is.", kind="text", width=12, text=_BY_ID
            ),
            Panel(
                "By session", "Where the calls of one session are.", kind="text", width=12, text=_BY_SESSION
            ),
        ),
    )


def _start() -> Row:
    return Row(
        "Where to start: each point is an exemplar and opens its trace",
        (
            Panel(
                "Slow requests", "p95 of served requests by resource. Take a point far above the line: it is one "
                "request, and its trace says where the time went.",
                (Query(quantile(0.95, semconv.HTTP_DURATION, "resource", where={"app_type": "=~fastapi|flask"}),
                       "{{resource}}"),),
                unit=SECONDS, width=12, seen_after_demo=True,
            ),
            Panel(
                "Slow LLM calls", "p95 of LLM calls by model. A point's trace has the session, the tokens and the "
                "attempts of that call.",
                (Query(quantile(0.95, semconv.LLM_DURATION, "model"), "{{model}}"),),
                unit=SECONDS, width=12, seen_after_demo=True,
            ),
            Panel(
                "Slow actions", "p95 of actions by name.",
                (Query(quantile(0.95, semconv.ACTION_DURATION, "name"), "{{name}}"),),
                unit=SECONDS, width=12, seen_after_demo=True,
            ),
            Panel(
                "What failed", "Errors by type and service in the time shown. Each has a span with the status "
                "error: search Jaeger for `error=true` and the service.",
                (Query(increase(semconv.ERRORS, "error_type", "service"), "{{service}} {{error_type}}"),),
                "bars", width=12, decimals=0, seen_after_demo=True,
            ),
        ),
    )  # fmt: skip
