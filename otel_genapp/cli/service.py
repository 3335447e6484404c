"""The source that asks a running service, by its HTTP endpoints."""

from __future__ import annotations

import argparse
import http.client
import json
import ssl
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from otel_genapp.cli.source import Call, Calls, Listing, Session
from otel_genapp.config import ENVIRONMENT, without_userinfo
from otel_genapp.errors import ConfigError, GenappError
from otel_genapp.ledger.rollup import SessionRollup
from otel_genapp.read.sessions import SessionSummary, call_dict
from otel_genapp.records import LLMCall
from otel_genapp.semconv import HEADER_AUTH, NO_SESSION

TIMEOUT_S = 10.0
_NEEDED = (
    "session_id", "total_requests", "failed_requests", "total_prompt_tokens", "total_completion_tokens",
    "failed_prompt_tokens", "failed_completion_tokens", "last_request_at", "requests",
)  # fmt: skip
_SESSION = dict.fromkeys(SessionSummary(SessionRollup("")).as_dict())
_CALL = dict.fromkeys(call_dict(LLMCall(call_id="", started_at_ns=0, duration_ms=0)))
ANSWER_BYTES = 64 * 1024 * 1024
SESSIONS_AT_ONCE = 50
"""Sessions looked into at once while following."""
_TOKENS = ENVIRONMENT["internal_auth"]


class ServiceError(GenappError):
    """A service does not answer as it should; the message says how, and what to do."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status
        """Of the answer; 0 where there was none."""


@dataclass(frozen=True, slots=True)
class Service:
    """Where a service is, and the token it is asked with. Redirections are not followed."""

    url: str
    token: str = field(default="", repr=False)
    timeout_s: float = TIMEOUT_S

    def get(self, path: str, **query: object) -> bytes:
        """The body of an answer with status 200.

        Raises:
            ServiceError: there is none.
        """
        given = {name: value for name, value in query.items() if value is not None}
        target = f"{urlsplit(self.url).path.rstrip('/')}{path}{f'?{urlencode(given)}' if given else ''}"
        headers = {HEADER_AUTH: self.token} if self.token else {}
        connection = self._connection()
        try:
            connection.request("GET", target, headers=headers)
            answer = connection.getresponse()
            body = answer.read(ANSWER_BYTES)
        except TimeoutError:
            raise ServiceError(f"{self.url} did not answer within {self.timeout_s:g} s") from None
        except (OSError, http.client.HTTPException) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
            raise ServiceError(
                f"{self.url} cannot be reached: {reason}; is the service running there?"
            ) from None
        finally:
            connection.close()
        if answer.status == 200:
            return body
        raise ServiceError(_told(answer.status, path, has_token=bool(self.token)), answer.status)

    def get_json(self, path: str, **query: object) -> Any:
        """As `get`, read as JSON."""
        body = self.get(path, **query)
        try:
            return json.loads(body)
        except ValueError:
            raise ServiceError(
                f"{self.url}{path} did not answer with JSON: is this an otel-genapp service?"
            ) from None

    def _connection(self) -> http.client.HTTPConnection:
        parts = urlsplit(self.url)
        if parts.scheme == "https":
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(
                parts.hostname or "", parts.port, timeout=self.timeout_s, context=context
            )
        return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=self.timeout_s)


def add_service_options(parser: argparse.ArgumentParser, meaning: str) -> None:
    """Add the options that name a service."""
    parser.add_argument("--url", default="", help=meaning)
    parser.add_argument("--token", default="", help=f"token for the service (default: {_TOKENS})")


def open_service(
    given: argparse.Namespace, environ: Mapping[str, str], *, timeout_s: float = TIMEOUT_S
) -> Service:
    """The service of the options `--url` and `--token`.

    Raises:
        ConfigError: they cannot work.
    """
    shown = without_userinfo(given.url)
    try:
        parts = urlsplit(given.url)
        is_address = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address or parts.query or parts.fragment or parts.username is not None:
        raise ConfigError(f"--url must be http://host:port, got {shown!r}")
    token = given.token or environ.get(_TOKENS, "").split(",")[0].strip()
    if not (token.isascii() and token.isprintable()):
        raise ConfigError(f"the token must be printable ASCII; check --token and {_TOKENS}")
    return Service(given.url.rstrip("/"), token, timeout_s)


def _told(status: int, path: str, *, has_token: bool) -> str:
    if status == 401:
        what = "refuses the token" if has_token else "wants a token"
        return (
            f"the service {what} (401): give --token or set {_TOKENS}; in dev it is in the file internal-auth "
            "of the state directory"
        )
    if status == 404:
        return f"the service has no {path} (404): without a token its guarded endpoints are not there, see its log"
    return f"the service answered {path} with status {status}"


@dataclass(frozen=True, slots=True)
class _Place:
    """What a service had when it was asked last."""

    total: int
    last_at: str
    """When the last call ended."""
    seen: Mapping[str, int]
    """Session -> its number of calls, of those that were active last."""
    ahead: int = 0
    """Calls that were shown and are not in `total` yet."""


class ServiceSource:
    """Asks a service; each call of a session is known from its newest ones only."""

    limits = (
        "a service tells the newest 20 calls of a session; what came in between two looks beyond that is "
        "counted, not shown"
    )

    def __init__(self, service: Service) -> None:
        self.shown = service.url
        self._service = service

    def sessions(self, *, limit: int, cursor: str | None) -> Listing:
        page = self._page(limit, cursor)
        found = (self.session(session_id) for session_id in page["sessions"])
        return Listing([each for each in found if each is not None], page["count"], page["next"])

    def session(self, session_id: str) -> Session | None:
        try:
            found = self._service.get_json(f"/events/metrics/session/{quote(session_id, safe='')}")
        except ServiceError as error:
            if error.status != 404:
                raise
            self._service.get_json("/events/metrics")  # which says so where the endpoints are not there
            return None
        known = self._known(found, *_NEEDED)
        # What an older service does not say is unknown.
        return {**_SESSION, **known, "requests": [{**_CALL, **call} for call in known["requests"]]}

    def calls(self, session_id: str, *, limit: int) -> Sequence[Call]:
        found = self.session(session_id)
        return _requests(found)[:limit] if found is not None else ()

    def newest(self, *, limit: int, session_id: str | None) -> Calls:
        sessions = list(self._recent(session_id))
        seen = {session["session_id"]: session["total_requests"] for session in sessions}
        calls = sorted((call for session in sessions for call in _requests(session)), key=_end)
        return Calls(calls[-limit:] if limit else (), _Place(*self._total(session_id), seen))

    def since(self, place: object, *, session_id: str | None) -> Calls:
        if not isinstance(place, _Place):
            return self.newest(limit=0, session_id=session_id)
        total, last_at = self._total(session_id)
        if total == place.total:
            return Calls((), place)
        # After the total: what it counts is in the sessions then.
        seen: dict[str, int] = {}
        calls: list[Call] = []
        for session in self._recent(session_id):
            name, number = session["session_id"], session["total_requests"]
            seen[name] = number
            if name not in place.seen:
                calls += [call for call in _requests(session) if _end(call) > place.last_at]
            else:
                new = number - place.seen[name]  # below 0 where it was cleared and began again
                calls += _requests(session)[: new if new >= 0 else number]
        calls.sort(key=_end)
        missed = total - place.total - len(calls) - place.ahead
        return Calls(calls, _Place(total, last_at, seen, max(-missed, 0)), max(missed, 0))

    def notes(self) -> Iterator[str]:
        return iter(())

    def close(self) -> None:
        """Nothing is kept open."""

    def _page(self, limit: int, cursor: str | None) -> Any:
        try:
            page = self._service.get_json("/events/metrics/sessions", limit=limit, cursor=cursor)
            return self._known(page, "sessions", "count", "next")
        except ServiceError as error:
            if error.status == 400:
                raise ValueError("the service refuses this --limit or --cursor") from None
            raise

    def _known(self, found: Any, *keys: str) -> dict[str, Any]:
        if not isinstance(found, dict) or not found.keys() >= set(keys):
            raise ServiceError(f"{self.shown} does not answer as an otel-genapp service does")
        return found

    def _total(self, session_id: str | None) -> tuple[int, str]:
        """How many calls there are, and when the last one ended."""
        if session_id is not None:
            found = self.session(session_id)
        else:
            found = self._known(
                self._service.get_json("/events/metrics"), "total_requests", "last_request_at"
            )
        return (found["total_requests"], found["last_request_at"] or "") if found is not None else (0, "")

    def _recent(self, session_id: str | None) -> Iterator[Session]:
        """The sessions that may have something new, calls without a session last."""
        ids = [session_id] if session_id is not None else self._page(SESSIONS_AT_ONCE, None)["sessions"]
        for each in ids if session_id is not None else [*ids, NO_SESSION]:
            found = self.session(each)
            if found is not None:
                yield found


def _requests(session: Session) -> list[Call]:
    return [{"session_id": session["session_id"], **request} for request in session["requests"]]


def _end(call: Call) -> str:
    """When a call ended, so that texts are in the order of time."""
    began = datetime.fromisoformat(call["at"])
    ended = began + timedelta(milliseconds=call["duration_ms"])
    return ended.isoformat(timespec="milliseconds").replace("+00:00", "Z")
