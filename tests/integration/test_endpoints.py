"""The endpoints as clients see them: the same bytes from FastAPI and from Flask, over real servers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from urllib.parse import quote, unquote

import pytest
from fastapi import FastAPI
from flask import Flask

import otel_genapp.serve.fastapi
import otel_genapp.serve.flask
from otel_genapp.config import Settings
from otel_genapp.read.traces import is_id, traces_dict
from otel_genapp.serve.auth import Gate
from otel_genapp.state_directory import StateDirectory
from tests.conftest import OwnError
from tests.readings import BrokenReading, FakeReading, FakeSessions, FakeTraces
from tests.serving import Answer, Client, uvicorn_serving, werkzeug_serving

TOKEN = "Zt7-mask_Blue0Whale91Xo"
SETTINGS = Settings(app="shop", env="prod", internal_auth=("older", TOKEN))
GATE = Gate.open(SETTINGS, StateDirectory(None))
AUTH = {"x-internal-auth": TOKEN}
FRAMEWORKS = ("fastapi", "flask")
ALL_MOUNTED = {
    "GET /prometheus": "mounted",
    "GET /health": "mounted",
    "GET /health/{check}": "mounted",
    "GET /events/sla": "mounted",
    "GET /events/metrics": "mounted",
    "GET /events/metrics/sessions": "mounted",
    "GET /events/metrics/session/{id}": "mounted",
    "DELETE /events/metrics/session/{id}": "mounted",
    "GET /analytics/report/{period}": "mounted",
    "GET /analytics/export": "mounted",
    "GET /genapp/": "mounted",
    "GET /events/traces/{correlation_id}": "mounted",
    "GET /events/integrations": "mounted",
}
ODD_IDS = [
    "chat:42", "a/b", "/a", "a/", "//a//b//", "a b", "a+b", "a%2Fb", "a?b#c", ".", "..", "../../etc/passwd",
    "line\nfeed", "end\n", "\n", "\r\n\r\nGET /", "tab\t", "nul\0", "\u00e9", "\u4e2d\u6587", "\U0001f600",
    "'; DROP TABLE sessions; --", '" onload="x', "<script>alert(1)</script>", "\u2028", "{id}", "%", "x" * 256,
]  # fmt: skip


def serve(framework: str, reading: FakeReading | BrokenReading) -> Iterator[Client]:
    if framework == "fastapi":
        app = FastAPI()
        assert otel_genapp.serve.fastapi.mount(app, reading, gate=GATE, settings=SETTINGS) == ALL_MOUNTED
        with uvicorn_serving(app) as client:
            yield client
    else:
        other = Flask("shop")
        assert otel_genapp.serve.flask.mount(other, reading, gate=GATE, settings=SETTINGS) == ALL_MOUNTED
        with werkzeug_serving(other) as client:
            yield client


@pytest.fixture(scope="module", params=FRAMEWORKS)
def running(request: pytest.FixtureRequest) -> Iterator[tuple[Client, FakeReading]]:
    """One server of each framework for all tests."""
    reading = FakeReading()
    for client in serve(request.param, reading):
        yield client, reading


@pytest.fixture
def reading(running: tuple[Client, FakeReading]) -> FakeReading:
    running[1].sessions = FakeSessions([f"s{number}" for number in range(250)])
    running[1].traces = FakeTraces()
    return running[1]


@pytest.fixture
def client(running: tuple[Client, FakeReading], reading: FakeReading) -> Client:
    return running[0]


@pytest.fixture(params=FRAMEWORKS)
def broken(request: pytest.FixtureRequest) -> Iterator[Client]:
    yield from serve(request.param, BrokenReading())


def told(answer: Answer) -> tuple[int, object]:
    """(status, JSON) of an answer that carries every header field of ours."""
    ours = ("content-type", "cache-control", "x-content-type-options", "content-length")
    assert [answer.headers[name] for name in ours] == [
        "application/json",
        "no-store",
        "nosniff",
        str(len(answer.body)),
    ]
    assert answer.body.isascii()
    return answer.status, json.loads(answer.body)


def test_prometheus_is_open_and_negotiates(client: Client) -> None:
    """A scrape needs no token and gets the format it asks for."""
    formats = [
        client.ask("/prometheus"),
        client.ask("/prometheus", headers={"Accept": "application/openmetrics-text;version=1.0.0,*/*;q=0.1"}),
    ]
    assert [(answer.status, answer.body, answer.headers["content-type"]) for answer in formats] == [
        (200, b"up 1\n", "text/plain; version=0.0.4; charset=utf-8"),
        (200, b"up 1\n# EOF\n", "application/openmetrics-text; version=1.0.0; charset=utf-8"),
    ]
    assert {answer.headers["cache-control"] for answer in formats} == {"no-store"}


def test_every_guarded_route_wants_a_token(client: Client, reading: FakeReading) -> None:
    """Without a token each guarded route answers the same 401 and does nothing; both tokens are good."""
    routes = [
        key.replace("{id}", "s1").replace("{correlation_id}", "cid").split()
        for key in ALL_MOUNTED
        if "/events/" in key
    ]
    refused = [client.ask(path, method=method) for method, path in routes]
    assert [told(answer) for answer in refused] == [
        (401, {"error": "missing or wrong x-internal-auth header"})
    ] * len(routes)
    assert "s1" in reading.sessions.ids
    admitted = [
        client.ask("/events/metrics", headers={name: token}).status
        for name in ("x-internal-auth", "X-Internal-AUTH")
        for token in ("older", TOKEN)
    ]
    assert admitted == [200] * 4


@pytest.mark.parametrize(
    ("query", "asked"),
    [
        ("", {"from_s": None, "to_s": None, "step_s": None}),
        ("?from=&to=&step=", {"from_s": None, "to_s": None, "step_s": None}),
        ("?from=1700000000&to=1700003600.5", {"from_s": 1.7e9, "to_s": 1700003600.5, "step_s": None}),
        ("?from=2023-11-14T22:13:20Z", {"from_s": 1.7e9, "to_s": None, "step_s": None}),
        ("?from=2023-11-14T22:13:20", {"from_s": 1.7e9, "to_s": None, "step_s": None}),
        ("?from=2023-11-15T00:13:20%2B02:00", {"from_s": 1.7e9, "to_s": None, "step_s": None}),
        ("?from=2023-11-15T00:13:20+02:00", {"from_s": 1.7e9, "to_s": None, "step_s": None}),
        ("?to=2023-11-14", {"from_s": None, "to_s": 1699920000.0, "step_s": None}),
        ("?from=1e9&from=1700000000&other=x", {"from_s": 1.7e9, "to_s": None, "step_s": None}),
        ("?from=60&step=60", {"from_s": 60.0, "to_s": None, "step_s": 60.0}),
        ("?from=60&step=5m", {"from_s": 60.0, "to_s": None, "step_s": 300.0}),
        ("?from=60&step=1h", {"from_s": 60.0, "to_s": None, "step_s": 3600.0}),
        ("?from=60&step=1d", {"from_s": 60.0, "to_s": None, "step_s": 86400.0}),
    ],
)
def test_totals_take_a_range_and_a_step(client: Client, query: str, asked: dict[str, object]) -> None:
    """Times are ISO 8601 or epoch seconds, a step is seconds or has a unit, and nothing given is no limit."""
    answer = client.ask(f"/events/metrics{query}", headers=AUTH)
    assert told(answer) == (200, {"of": "first", **asked})


TIME = "must be a time in ISO 8601 (without an offset it is UTC) or in epoch seconds"
STEP = "step must be whole seconds or a form like 60s, 5m, 1h, 1d, from 60s to 366d"
LIMIT = "limit must be a whole number from 1 to 1000"


@pytest.mark.parametrize(
    ("target", "error"),
    [
        ("?from=yesterday", f"from {TIME}"),
        ("?from=-1", f"from {TIME}"),
        ("?from=1700000000000", f"from {TIME}"),
        ("?from=nan", f"from {TIME}"),
        ("?from=%00", f"from {TIME}"),
        ("?to=9999999999999999999999", f"to {TIME}"),
        ("?to=0001-01-01T00:00:00%2B14:00", f"to {TIME}"),
        ("?to=%D9%A1%D9%A7", f"to {TIME}"),
        ("?from=2&to=1", "from must be before to"),
        ("?from=1&to=1", "from must be before to"),
        ("?step=0", STEP),
        ("?step=59s", STEP),
        ("?step=1.5h", STEP),
        ("?step=-60", STEP),
        ("?step=367d", STEP),
        ("?step=5w", STEP),
        ("?step=60", "step must be longer: at most 10000 steps fit between from and to"),
        ("/sessions?limit=0", LIMIT),
        ("/sessions?limit=1001", LIMIT),
        ("/sessions?limit=-1", LIMIT),
        ("/sessions?limit=ten", LIMIT),
        ("/sessions?limit=1e2", LIMIT),
        ("/sessions?limit=%D9%A1", LIMIT),
        (f"/sessions?limit={'9' * 5000}", LIMIT),
        ("/sessions?cursor=';--", "cursor must be the next of an earlier answer"),
    ],
)
def test_bad_parameters_are_named(client: Client, target: str, error: str) -> None:
    """A parameter that cannot be understood is a 400 that names it, its value in short, and what is allowed."""
    got = " and ".join(
        repr(unquote(one.partition("=")[2])[:40]) for one in target.partition("?")[2].split("&")
    )
    error = f"{error}, got {got}"
    assert told(client.ask(f"/events/metrics{target}", headers=AUTH)) == (400, {"error": error})


def test_sessions_are_listed_page_by_page(client: Client, reading: FakeReading) -> None:
    """The cursor of each page leads to the next one, to the end, a hundred at a time unless asked."""
    sizes, ids, cursor = [], [], ""
    while True:
        status, page = told(client.ask(f"/events/metrics/sessions?cursor={cursor}", headers=AUTH))
        assert status == 200
        assert isinstance(page, dict)
        assert (list(page), page["count"]) == (["sessions", "count", "next"], 250)
        sizes.append(len(page["sessions"]))
        ids += page["sessions"]
        if page["next"] is None:
            break
        cursor = page["next"]
    assert (sizes, ids) == ([100, 100, 50], reading.sessions.ids)
    asked = told(client.ask("/events/metrics/sessions?limit=2&cursor=3", headers=AUTH))
    assert asked == (200, {"sessions": ["s3", "s4"], "count": 250, "next": "5"})


def test_session_is_read_and_cleared(client: Client) -> None:
    """A session is there until it is cleared; then, and for ever unknown ones, 404 says which was meant."""
    url = "/events/metrics/session/s7"
    assert [
        told(client.ask(url, method=method, headers=AUTH)) for method in ("GET", "DELETE", "GET", "DELETE")
    ] == [
        (200, {"session_id": "s7", "total_requests": 2, "cost_usd": None}),
        (200, {"cleared": "s7"}),
        (404, {"error": "no such session", "session_id": "s7"}),
        (404, {"error": "no such session", "session_id": "s7"}),
    ]


def test_any_text_is_a_session_id(client: Client, reading: FakeReading) -> None:
    """Ids of any text find their own session, whatever slash, newline or quote is in them, and no other."""
    reading.sessions.ids = ODD_IDS.copy()
    for session_id in ODD_IDS:
        url = f"/events/metrics/session/{quote(session_id, safe='')}"
        status, session = told(client.ask(url, headers=AUTH))
        assert (status, session) == (200, {"session_id": session_id, "total_requests": 2, "cost_usd": None})
        left = [known for known in reading.sessions.ids if known != session_id]
        assert told(client.ask(url, method="DELETE", headers=AUTH)) == (200, {"cleared": session_id})
        assert reading.sessions.ids == left


@pytest.mark.parametrize(
    "session_id", ["", "unknown", "s1\n", "s1/", "S1", " s1", "<b>", "x" * 300, "\ufffd"]
)
def test_unknown_session_is_named(client: Client, session_id: str, reading: FakeReading) -> None:
    """A 404 says which session was not found, as JSON and not at any length."""
    url = f"/events/metrics/session/{quote(session_id, safe='')}"
    expected = (404, {"error": "no such session", "session_id": session_id[:256]})
    assert [told(client.ask(url, method=method, headers=AUTH)) for method in ("GET", "DELETE")] == [
        expected
    ] * 2
    assert len(reading.sessions.ids) == 250


def test_bytes_that_are_no_text_are_an_unknown_session(client: Client) -> None:
    """An id that is not UTF-8 is answered like any other unknown one."""
    answer = client.ask("/events/metrics/session/%ff%fe", headers=AUTH)
    assert told(answer) == (404, {"error": "no such session", "session_id": "\ufffd\ufffd"})


def test_traces_of_a_correlation_id(client: Client) -> None:
    """A list of its traces; 404 when there is none, and 400 for what can be no correlation id."""
    found = told(client.ask("/events/traces/cid", headers=AUTH))
    assert found == (200, traces_dict("cid", FakeTraces().by_correlation_id("cid"), notes=()))
    unknown = {"error": "no such trace", "correlation_id": "a.b:c-d_1"}
    assert told(client.ask("/events/traces/a.b:c-d_1", headers=AUTH)) == (404, unknown)
    refused = "a correlation id is 1 to 128 of A-Z a-z 0-9 . _ : -, got"
    for odd in ODD_IDS:
        if not is_id(odd) and odd:
            url = f"/events/traces/{quote(odd, safe='')}"
            assert told(client.ask(url, headers=AUTH)) == (400, {"error": f"{refused} {odd[:40]!r}"})


def test_integrations(client: Client, reading: FakeReading) -> None:
    """The services the application calls, behind the token."""
    answer = client.ask("/events/integrations", headers=AUTH)
    assert told(answer) == (200, {"integrations": [{"host": reading.name}]})
    assert client.ask("/events/integrations").status == 401


def test_an_answer_says_what_it_lacks(client: Client, reading: FakeReading) -> None:
    """Where spans or calls cannot be found, found and unknown ids say so."""
    reading.traces = FakeTraces(notes=("spans are not kept here",))
    answers = [json.loads(client.ask(f"/events/traces/{one}", headers=AUTH).body) for one in ("cid", "other")]
    assert [answer["notes"] for answer in answers] == [["spans are not kept here"]] * 2


def test_head_and_other_methods(client: Client) -> None:
    """HEAD is GET without the body, what is not in the table is a 405 with the methods that are."""
    head = client.ask("/events/metrics", method="HEAD", headers=AUTH)
    assert (head.status, head.body, head.headers["content-type"]) == (200, b"", "application/json")
    assert int(head.headers["content-length"]) > 0
    refused = client.ask("/events/metrics/session/s1", method="POST", headers=AUTH)
    assert (refused.status, set(refused.headers["allow"].split(", "))) == (405, {"DELETE", "GET", "HEAD"})


def test_own_errors_say_nothing(broken: Client, expected_own_errors: list[OwnError]) -> None:
    """Whatever fails behind an endpoint is a 500 without a word of it, reported as an own error."""
    targets = [
        "/prometheus", "/events/metrics", "/events/metrics/sessions", "/events/metrics/session/s1",
        "/events/traces/cid", "/events/integrations",
    ]  # fmt: skip
    answers = [told(broken.ask(target, headers=AUTH)) for target in targets]
    assert answers == [(500, {"error": "internal error"})] * 6
    assert [(own.site, type(own.error)) for own in expected_own_errors] == [
        ("serve", ValueError),
        ("serve", ValueError),
        *[("serve", RuntimeError)] * 4,
    ]


@pytest.mark.parametrize(
    ("target", "status", "said"),
    [
        ("/health", 200, {"status": "degraded", "services": {"asked": None}}),
        ("/health/database", 503, {"status": "unhealthy", "services": {"asked": "database"}}),
        ("/health/a%2Fb", 200, {"status": "healthy", "services": {"asked": "a/b"}}),
        ("/health/a/b", 200, {"status": "healthy", "services": {"asked": "a/b"}}),
        ("/health/", 404, {"error": "no such check"}),
        ("/health/%0d%0anothing", 404, {"error": "no such check"}),
        ("/events/sla", 200, {"window_s": None}),
        ("/events/sla?window=7d", 200, {"window_s": 604800.0}),
        ("/events/sla?window=90", 200, {"window_s": 90.0}),
    ],
)
def test_health_and_sla(client: Client, target: str, status: int, said: object) -> None:
    """Health is 503 where unhealthy, and the window of the SLA is understood."""
    assert told(client.ask(target, headers=AUTH)) == (status, said)


@pytest.mark.parametrize("window", ["soon", "-1d", "1", "367d", "1e9", "7d7d"])
def test_a_window_is_a_time(client: Client, window: str) -> None:
    """A window that is none is refused with what is allowed."""
    error = f"window must be whole seconds or a form like 60s, 5m, 1h, 1d, from 60s to 366d, got {window!r}"
    assert told(client.ask(f"/events/sla?window={window}", headers=AUTH)) == (400, {"error": error})


@pytest.mark.usefixtures("expected_own_errors")
def test_a_fault_behind_health_says_nothing(broken: Client) -> None:
    """An internal error is 500 without a word of what it was."""
    answers = [broken.ask(path, headers=AUTH) for path in ("/health", "/health/x", "/events/sla")]
    assert [told(answer) for answer in answers] == [(500, {"error": "internal error"})] * 3
