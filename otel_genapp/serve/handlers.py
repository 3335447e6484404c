"""The endpoints for machines, without a framework: handlers from `Request` to `Reply`."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from otel_genapp.context import clean_id
from otel_genapp.read.sessions import DEFAULT_PAGE, STEPS_LIMIT
from otel_genapp.read.traces import is_id, traces_dict
from otel_genapp.serve.exchange import BadRequestError, Reply, Request, json_reply
from otel_genapp.serve.reading import Reading

MAX_LIMIT = 1000

_EPOCH_SECONDS = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?")
_LONGEST_TIME = 64  # characters: what is longer is no time, and would keep the pattern below busy
_LAST_EPOCH_S = 253_402_300_799.0  # the end of the year 9999
# A `+` of an offset that was not percent-encoded arrives as a space.
_SPACE_FOR_PLUS = re.compile(r"(.*T.*) ([0-9]{2}:?[0-9]{2})")
_STEP = re.compile(r"([0-9]{1,7})([smhd]?)")
_STEP_UNIT_S = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_MIN_STEP_S, _MAX_STEP_S = 60, 366 * 86400


def prometheus(request: Request, reading: Reading) -> Reply:
    """The exposition, in the format the scraper asked for."""
    body, content_type = reading.exposition(request.accept)
    return Reply(200, body, content_type)


def health(request: Request, reading: Reading) -> Reply:
    """How the app and what it needs are, or one of its checks if asked; 503 when unhealthy."""
    found = reading.health(request.path.get("check"))
    if found is None:
        return json_reply(404, {"error": "no such check"})
    return json_reply(503 if found["status"] == "unhealthy" else 200, found)


def sla(request: Request, reading: Reading) -> Reply:
    """Uptime and response time over a window of recorded history."""
    return json_reply(200, reading.sla(window_s=_step(request, "window")))


def totals(request: Request, reading: Reading) -> Reply:
    """Totals over every call, of a time range if asked, as a series if asked."""
    from_s = _time(request, "from")
    to_s = _time(request, "to")
    step_s = _step(request)
    if from_s is not None and to_s is not None and from_s >= to_s:
        raise BadRequestError(
            f"from must be before to, got {_got(request, 'from')} and {_got(request, 'to')}"
        )
    try:
        found = reading.totals(from_s=from_s, to_s=to_s, step_s=step_s)
    except ValueError:
        if step_s is None:
            raise
        raise BadRequestError(
            f"step must be longer: at most {STEPS_LIMIT} steps fit between from and to, "
            f"got {_got(request, 'step')}"
        ) from None
    return json_reply(200, found)


def list_sessions(request: Request, reading: Reading) -> Reply:
    """One page of session ids."""
    limit, cursor = _limit(request), request.query.get("cursor") or None
    try:
        page = reading.sessions.list(limit=limit, cursor=cursor)
    except ValueError:
        if cursor is None:
            raise
        raise BadRequestError(f"cursor must be the next of an earlier answer, got {cursor[:40]!r}") from None
    return json_reply(200, {"sessions": list(page.ids), "count": page.total, "next": page.next})


def get_session(request: Request, reading: Reading) -> Reply:
    """One session."""
    session_id = clean_id(request.path["id"])
    summary = reading.sessions.get(session_id) if session_id is not None else None
    return json_reply(200, summary.as_dict()) if summary is not None else _no_session(request)


def clear_session(request: Request, reading: Reading) -> Reply:
    """Forgets one session; totals keep it."""
    session_id = clean_id(request.path["id"])
    if session_id is None or not reading.sessions.clear(session_id):
        return _no_session(request)
    return json_reply(200, {"cleared": session_id})


def get_traces(request: Request, reading: Reading) -> Reply:
    """The traces of one correlation id."""
    correlation_id = request.path["correlation_id"]
    if not is_id(correlation_id):
        raise BadRequestError(
            f"a correlation id is 1 to 128 of A-Z a-z 0-9 . _ : -, got {correlation_id[:40]!r}"
        )
    source = reading.traces
    traces = source.by_correlation_id(correlation_id)
    if not traces:
        missing = {"error": "no such trace", **traces_dict(correlation_id, (), notes=source.notes)}
        del missing["traces"]
        return json_reply(404, missing)
    return json_reply(200, traces_dict(correlation_id, traces, notes=source.notes))


def get_integrations(request: Request, reading: Reading) -> Reply:  # noqa: ARG001 - as every handler
    """The services the application calls, by host."""
    return json_reply(200, {"integrations": reading.integrations()})


def _no_session(request: Request) -> Reply:
    return json_reply(404, {"error": "no such session", "session_id": request.path["id"][:256]})


def _got(request: Request, name: str) -> str:
    return repr(request.query.get(name, "").strip()[:40])


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
        raise BadRequestError(
            f"{name} must be a time in ISO 8601 (without an offset it is UTC) or in epoch seconds, "
            f"got {text[:40]!r}"
        )
    return seconds


def _step(request: Request, name: str = "step") -> float | None:
    text = request.query.get(name, "").strip()
    if not text:
        return None
    found = _STEP.fullmatch(text)
    seconds = int(found[1]) * _STEP_UNIT_S[found[2]] if found else 0
    if not _MIN_STEP_S <= seconds <= _MAX_STEP_S:
        raise BadRequestError(
            f"{name} must be whole seconds or a form like 60s, 5m, 1h, 1d, from 60s to 366d, got {text[:40]!r}"
        )
    return float(seconds)


def _limit(request: Request) -> int:
    text = request.query.get("limit", "").strip()
    if not text:
        return DEFAULT_PAGE
    limit = int(text) if re.fullmatch("[0-9]{1,6}", text) else 0
    if not 1 <= limit <= MAX_LIMIT:
        raise BadRequestError(f"limit must be a whole number from 1 to {MAX_LIMIT}, got {text[:40]!r}")
    return limit
