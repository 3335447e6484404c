"""The endpoints, without a framework: a table of routes, and handlers from `Request` to `Reply`.

`serve/fastapi.py` and `serve/flask.py` turn their framework's requests into ours and back, so that
both answer with the same bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Protocol
from urllib.parse import parse_qsl

from otel_genapp.config import Settings
from otel_genapp.context import clean_id
from otel_genapp.quiet import quiet
from otel_genapp.read.sessions import DEFAULT_PAGE, STEPS_LIMIT
from otel_genapp.read.traces import Trace, is_id, traces_dict
from otel_genapp.semconv import HEADER_AUTH
from otel_genapp.serve.auth import Gate

JSON = "application/json"
MAX_LIMIT = 1000

_EPOCH_SECONDS = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?")
_LONGEST_TIME = 64  # characters: what is longer is no time, and would keep the pattern below busy
_LAST_EPOCH_S = 253_402_300_799.0  # the end of the year 9999
# A `+` of an offset that was not percent-encoded arrives as a space.
_SPACE_FOR_PLUS = re.compile(r"(.*T.*) ([0-9]{2}:?[0-9]{2})")
_STEP = re.compile(r"([0-9]{1,7})([smhd]?)")
_STEP_UNIT_S = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_MIN_STEP_S, _MAX_STEP_S = 60, 366 * 86400

PARAMETER = re.compile(r"\{(\w+)\}")
"""A parameter in the path of a route."""
_STRANGE_SEGMENT = "genapp-no-such-segment"


class Summary(Protocol):
    """What is known of one session."""

    def as_dict(self) -> dict[str, object]:
        """The session as JSON, ready to be encoded."""


class Page(Protocol):
    """Part of the list of sessions."""

    @property
    def ids(self) -> Sequence[str]: ...
    @property
    def total(self) -> int: ...
    @property
    def next(self) -> str | None: ...


class Sessions(Protocol):
    """The sessions of one running telemetry."""

    def get(self, session_id: str, /) -> Summary | None: ...
    def clear(self, session_id: str, /) -> bool:
        """Whether there was such a session; it is gone now."""

    def list(self, *, limit: int, cursor: str | None) -> Page:
        """At most `limit` sessions after `cursor`. Raises ValueError for a cursor it never gave."""


class Traces(Protocol):
    """What happened, by correlation id."""

    @property
    def notes(self) -> Sequence[str]:
        """What every answer lacks here."""

    def by_correlation_id(self, correlation_id: str, /) -> Sequence[Trace]: ...


class Reading(Protocol):
    """What the endpoints read; every call may block and is made off the event loop."""

    @property
    def sessions(self) -> Sessions: ...
    @property
    def traces(self) -> Traces: ...

    def totals(self, *, from_s: float | None, to_s: float | None, step_s: float | None) -> dict[str, object]:
        """Totals over the calls of [from_s, to_s), in epoch seconds; with `step_s` a series.

        Raises ValueError for a range that makes too many steps.
        """

    def exposition(self, accept: str, /) -> tuple[bytes, str]:
        """(body, content type) of the Prometheus exposition for an `Accept` header."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request as handlers see it; `path` holds the route's parameters, decoded."""

    path: Mapping[str, str]
    query: Mapping[str, str]
    accept: str

    @classmethod
    def of(cls, path: Mapping[str, str], *, query: bytes, accept: str) -> Request:
        """A request from the raw query string; of a parameter given twice the last counts."""
        pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
        return cls(path, dict(pairs), accept)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer as the adapters send it."""

    status: int
    body: bytes
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = (
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
    )

    @property
    def header_fields(self) -> dict[str, str]:
        """All header fields, the content type included."""
        return {"content-type": self.content_type, **dict(self.headers)}


class _BadRequestError(ValueError):
    """A parameter cannot be understood; the message says which and what is allowed."""


def prometheus(request: Request, reading: Reading) -> Reply:
    """The exposition, in the format the scraper asked for."""
    body, content_type = reading.exposition(request.accept)
    return Reply(200, body, content_type)


def totals(request: Request, reading: Reading) -> Reply:
    """Totals over every call, of a time range if asked, as a series if asked."""
    from_s = _time(request, "from")
    to_s = _time(request, "to")
    step_s = _step(request)
    if from_s is not None and to_s is not None and from_s >= to_s:
        raise _BadRequestError("from must be before to")
    try:
        found = reading.totals(from_s=from_s, to_s=to_s, step_s=step_s)
    except ValueError:
        if step_s is None:
            raise
        raise _BadRequestError(
            f"step must be longer: at most {STEPS_LIMIT} steps fit between from and to"
        ) from None
    return _json(200, found)


def list_sessions(request: Request, reading: Reading) -> Reply:
    """One page of session ids."""
    limit, cursor = _limit(request), request.query.get("cursor") or None
    try:
        page = reading.sessions.list(limit=limit, cursor=cursor)
    except ValueError:
        if cursor is None:
            raise
        raise _BadRequestError("cursor must be the next of an earlier answer") from None
    return _json(200, {"sessions": list(page.ids), "count": page.total, "next": page.next})


def get_session(request: Request, reading: Reading) -> Reply:
    """One session."""
    session_id = clean_id(request.path["id"])
    summary = reading.sessions.get(session_id) if session_id is not None else None
    return _json(200, summary.as_dict()) if summary is not None else _no_session(request)


def clear_session(request: Request, reading: Reading) -> Reply:
    """Forgets one session; totals keep it."""
    session_id = clean_id(request.path["id"])
    if session_id is None or not reading.sessions.clear(session_id):
        return _no_session(request)
    return _json(200, {"cleared": session_id})


def get_traces(request: Request, reading: Reading) -> Reply:
    """The traces of one correlation id."""
    correlation_id = request.path["correlation_id"]
    if not is_id(correlation_id):
        raise _BadRequestError("a correlation id is 1 to 128 of A-Z a-z 0-9 . _ : -")
    source = reading.traces
    traces = source.by_correlation_id(correlation_id)
    if not traces:
        missing = {"error": "no such trace", **traces_dict(correlation_id, (), notes=source.notes)}
        del missing["traces"]
        return _json(404, missing)
    return _json(200, traces_dict(correlation_id, traces, notes=source.notes))


@dataclass(frozen=True, slots=True)
class Route:
    """One line of the table; a `{name}` at the end of `path` takes any text, slashes included."""

    method: str
    path: str
    handler: Callable[[Request, Reading], Reply]
    guarded: bool = True

    @property
    def key(self) -> str:
        """The route as people write it: `GET /prometheus`."""
        return f"{self.method} {self.path}"

    def answer(self, request: Request, reading: Reading) -> Reply:
        """The handler's reply, or 400 or 500 with an error in JSON; no exception gets out."""
        reply = INTERNAL_ERROR
        with quiet("serve"):
            try:
                reply = self.handler(request, reading)
            except _BadRequestError as refused:
                reply = _json(400, {"error": str(refused)})
        return reply

    def examples(self) -> tuple[str, tuple[str, ...]]:
        """(a path of this route, paths that only a wider route would match too)."""
        segments = PARAMETER.sub(_STRANGE_SEGMENT, self.path).split("/")[1:]
        wider = tuple(
            "/" + "/".join((*segments[:place], _STRANGE_SEGMENT, *segments[place + 1 :]))
            for place, segment in enumerate(segments)
            if segment != _STRANGE_SEGMENT
        )
        return "/" + "/".join(segments), wider


ROUTES: tuple[Route, ...] = (
    Route("GET", "/prometheus", prometheus, guarded=False),
    Route("GET", "/events/metrics", totals),
    Route("GET", "/events/metrics/sessions", list_sessions),
    Route("GET", "/events/metrics/session/{id}", get_session),
    Route("DELETE", "/events/metrics/session/{id}", clear_session),
    Route("GET", "/events/traces/{correlation_id}", get_traces),
)


def select_routes(
    gate: Gate, settings: Settings, *, taken: Callable[[Route], bool]
) -> tuple[tuple[Route, ...], dict[str, str]]:
    """(the routes to mount, what became of each route of the table as `status()` shows it).

    Left out are guarded routes behind a closed gate, and those the app has itself: `taken`.
    """
    mounted: list[Route] = []
    status: dict[str, str] = {}
    for route in _routes(settings):
        if route.guarded and gate.closed:
            status[route.key] = f"not mounted: {gate.reason}"
        elif taken(route):
            status[route.key] = "not mounted: the app has a route of its own there"
        else:
            mounted.append(route)
            status[route.key] = "mounted"
    return tuple(mounted), status


def _routes(settings: Settings) -> Iterator[Route]:
    for route in ROUTES:
        if route.handler is prometheus and settings.prometheus_auth:
            yield replace(route, guarded=True)
        else:
            yield route


def _json(status: int, content: object) -> Reply:
    # ASCII only, so that an id of lone surrogates can be answered too.
    return Reply(status, json.dumps(content, ensure_ascii=True, allow_nan=False).encode("ascii"))


def _no_session(request: Request) -> Reply:
    return _json(404, {"error": "no such session", "session_id": request.path["id"][:256]})


def _time(request: Request, name: str) -> float | None:
    text = request.query.get(name, "").strip()
    if not text:
        return None
    seconds = -1.0
    if _EPOCH_SECONDS.fullmatch(text):
        seconds = float(text)
    elif len(text) <= _LONGEST_TIME:
        try:
            moment = datetime.fromisoformat(_SPACE_FOR_PLUS.sub(r"\1+\2", text))
            seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            seconds = -1.0
    if not 0.0 <= seconds <= _LAST_EPOCH_S:
        raise _BadRequestError(
            f"{name} must be a time in ISO 8601 (without an offset it is UTC) or in epoch seconds"
        )
    return seconds


def _step(request: Request) -> float | None:
    text = request.query.get("step", "").strip()
    if not text:
        return None
    found = _STEP.fullmatch(text)
    seconds = int(found[1]) * _STEP_UNIT_S[found[2]] if found else 0
    if not _MIN_STEP_S <= seconds <= _MAX_STEP_S:
        raise _BadRequestError("step must be whole seconds or a form like 60s, 5m, 1h, 1d, from 60s to 366d")
    return float(seconds)


def _limit(request: Request) -> int:
    text = request.query.get("limit", "").strip()
    if not text:
        return DEFAULT_PAGE
    limit = int(text) if re.fullmatch("[0-9]{1,6}", text) else 0
    if not 1 <= limit <= MAX_LIMIT:
        raise _BadRequestError(f"limit must be a whole number from 1 to {MAX_LIMIT}")
    return limit


DENIED = _json(401, {"error": f"missing or wrong {HEADER_AUTH} header"})
INTERNAL_ERROR = _json(500, {"error": "internal error"})
