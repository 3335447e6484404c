"""Where a command reads: the state directory of an app on this host, any store, or a running service.

Reading disturbs nobody: no telemetry is started and no record is brought into the store. What living
workers have in their journals is added to what the store says, so that numbers are exact.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, urlencode

from otel_genapp.cli.stores import SourceError, require_readable
from otel_genapp.config import ENVIRONMENT, Settings, read_settings, said_by_environment, state_home
from otel_genapp.errors import ConfigError
from otel_genapp.ledger.opening import open_store
from otel_genapp.ledger.rollup import SessionRollup
from otel_genapp.ledger.store import RANKINGS, FindsCalls
from otel_genapp.ledger.waiting import Waiting
from otel_genapp.pipeline.pricing import Prices
from otel_genapp.read.export import Exports
from otel_genapp.read.reports import About, Reports
from otel_genapp.read.sessions import SessionSummary, sums_dict
from otel_genapp.read.traces import Trace, Traces, is_id, traces_dict
from otel_genapp.records import LLMCall, Record, UsageRecord, parted
from otel_genapp.semconv import HEADER_AUTH, NO_SESSION
from otel_genapp.state_directory import directory_name, open_state_directory

_ANSWER_S = 20.0
_ANSWER_BYTES = 64 * 2**20
_STREAM_S = 300.0
_PART_BYTES = 64 * 1024


class Source(Protocol):
    """What commands read, as the JSON of the endpoints."""

    def sessions(self, *, by: str, limit: int) -> list[dict[str, Any]]:
        """The first sessions in that order, each with its sums."""

    def session(self, session_id: str) -> dict[str, Any] | None:
        """One session, None when it is unknown."""

    def trace(self, correlation_id: str) -> dict[str, Any] | None:
        """What happened under a correlation id, None when nothing is known of it."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where to read."""
    where = parser.add_argument_group("where to read")
    where.add_argument("--app", help=f"the app on this host ({ENVIRONMENT['app']})")
    where.add_argument("--env", help=f"its environment ({ENVIRONMENT['env']})")
    where.add_argument("--state-dir", help=f"where its state directory is ({ENVIRONMENT['state_dir']})")
    where.add_argument("--store", help=f"a store instead, by its URL ({ENVIRONMENT['store']})")
    where.add_argument("--url", help="a running service instead, such as http://localhost:8000")
    where.add_argument(
        "--token",
        help=f"for the service; better in {ENVIRONMENT['internal_auth']}, where nobody else sees it",
    )


def open_source(given: argparse.Namespace) -> Source:
    """The source that the options name.

    Raises:
        ConfigError: they cannot be understood.
        SourceError: nothing is there.
    """
    if given.url:
        return Service.of(given.url, given.token)
    return Kept(_settings_of(given))


@dataclass(frozen=True, slots=True)
class Service:
    """A running service, by its endpoints."""

    url: str
    token: str

    @classmethod
    def of(cls, url: str, token: str | None) -> Service:
        """The service at an address.

        Raises:
            ConfigError: it is no address, or there is no token.
        """
        if not url.startswith(("http://", "https://")):
            raise ConfigError(f"--url must begin with http:// or https://, got {url[:100]!r}")
        tokens = read_settings(app="any", internal_auth=token).internal_auth
        if not tokens:
            raise ConfigError(f"a service wants a token: set {ENVIRONMENT['internal_auth']} or give --token")
        return cls(url.rstrip("/"), tokens[0])

    def sessions(self, *, by: str, limit: int) -> list[dict[str, Any]]:
        if by != "recent":
            raise SourceError(
                "a service lists its sessions by last activity; for other orders read its store"
            )
        page = self._ask(f"/events/metrics/sessions?{urlencode({'limit': limit})}") or {}
        found = [self.session(one) for one in page.get("sessions", ())]
        return [one for one in found if one is not None]

    def session(self, session_id: str) -> dict[str, Any] | None:
        return self._ask(f"/events/metrics/session/{quote(session_id, safe='')}")

    def trace(self, correlation_id: str) -> dict[str, Any] | None:
        return self._ask(f"/events/traces/{quote(correlation_id, safe='')}")

    def stream(self, path: str) -> Iterator[bytes]:
        """What an endpoint answers, in parts.

        Raises:
            SourceError: it answers something else, or not to the end.
        """
        asked = urllib.request.Request(self.url + path, headers={HEADER_AUTH: self.token})  # noqa: S310 - http or https
        try:
            with urllib.request.urlopen(asked, timeout=_STREAM_S) as answer:  # noqa: S310 - as above
                while part := answer.read(_PART_BYTES):
                    yield part
        except urllib.error.HTTPError as error:
            self._require_known(error)
            raise SourceError(f"{self.url} has no such report") from None
        except http.client.HTTPException:
            raise SourceError(f"{self.url} broke off: what came is not whole") from None
        except OSError as error:
            raise SourceError(f"{self.url} does not answer: {getattr(error, 'reason', error)}") from None

    def _ask(self, path: str) -> dict[str, Any] | None:
        asked = urllib.request.Request(self.url + path, headers={HEADER_AUTH: self.token})  # noqa: S310 - http or https
        try:
            with urllib.request.urlopen(asked, timeout=_ANSWER_S) as answer:  # noqa: S310 - as above
                found: dict[str, Any] = json.loads(answer.read(_ANSWER_BYTES))
                return found
        except urllib.error.HTTPError as error:
            self._require_known(error)
            return None
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise SourceError(f"{self.url} does not answer as a service should: {reason}") from None

    def _require_known(self, error: urllib.error.HTTPError) -> None:
        """Let an answer pass that says the id is unknown.

        Raises:
            SourceError: it says something else.
        """
        said: Mapping[str, Any] = {}
        with suppress(OSError, ValueError):
            said = json.loads(error.read(_ANSWER_BYTES))
        if error.code == 404 and "error" in said:
            return
        if error.code == 401:
            raise SourceError(
                f"{self.url} does not take this token: it is one of its internal_auth that is wanted"
            )
        if error.code == 404:
            raise SourceError(
                f"{self.url} has no such endpoint: telemetry.mount(app), and a token in preprod and prod"
            )
        raise SourceError(f"{self.url} answers {error.code} {said.get('error', '')}".rstrip())


def _pricing(settings: Settings) -> Callable[[Record], Record]:
    prices = Prices(settings.prices)
    return lambda record: prices.priced(record) if isinstance(record, UsageRecord) else record


class Kept:
    """A store, and what waits for it in a state directory's journals."""

    def __init__(self, settings: Settings) -> None:
        state = open_state_directory(settings)
        if state.path is None and not settings.store:
            raise SourceError(state.problem)
        opened = open_store(settings, state, on_evict=lambda: None)
        require_readable(opened)
        self._store = opened.store
        self._calls = opened.calls
        self._waiting = Waiting(opened.store, state, price=_pricing(settings))
        self._spans = opened.shown_spans
        self._url = settings.trace_url
        self._settings = settings

    def reports(self) -> Reports:
        """Reports over the store."""
        settings = self._settings
        return Reports(
            self._store,
            About(
                settings.app, settings.env, retention_days=settings.retention_days,
                repeat_hours=settings.repeat_hours,
            ),
        )  # fmt: skip

    def exports(self) -> Exports:
        """Exports of the store."""
        return Exports(self._store)

    def waiting(self) -> int:
        """How many records wait in journals."""
        return self._waiting.look(len)

    def sessions(self, *, by: str, limit: int) -> list[dict[str, Any]]:
        def read(waiting: Sequence[Record]) -> list[SessionRollup]:
            found = {
                one.session_id: one for one in self._store.ranked(by=by, limit=limit, cursor=None).sessions
            }
            usage, _ = parted(waiting)
            for record in usage:
                if record.session_id is not None and record.session_id not in found:
                    session_id = record.session_id
                    found[session_id] = self._store.session(session_id) or SessionRollup(session_id)
            for record in usage:
                if record.session_id is not None:
                    found[record.session_id].add(record)
            return sorted(found.values(), key=lambda one: RANKINGS[by](one.sums), reverse=True)[:limit]

        return [{"session_id": one.session_id, **sums_dict(one.sums)} for one in self._waiting.look(read)]

    def session(self, session_id: str) -> dict[str, Any] | None:
        def read(waiting: Sequence[Record]) -> SessionRollup | None:
            found = self._store.session(session_id)
            for record in parted(waiting)[0]:
                if (record.session_id or NO_SESSION) == session_id:
                    found = found or SessionRollup(session_id)
                    found.add(record)
            return found

        found = self._waiting.look(read)
        return SessionSummary(found).as_dict() if found is not None else None

    def trace(self, correlation_id: str) -> dict[str, Any] | None:
        if not is_id(correlation_id):
            raise SourceError("a correlation id is 1 to 128 of A-Z a-z 0-9 . _ : -")

        def read(waiting: Sequence[Record]) -> tuple[list[Trace], Sequence[str]]:
            calls = _Calls(waiting, self._calls) if self._calls is not None else None
            traces = Traces(self._spans, calls, catch_up=lambda: None, url=self._url)
            found = traces.by_correlation_id(correlation_id)
            one = traces.by_trace_id(correlation_id) if not found else None
            return found or ([one] if one is not None else []), traces.notes

        found, notes = self._waiting.look(read)
        return traces_dict(correlation_id, found, notes=notes) if found else None


@dataclass(frozen=True, slots=True)
class _Calls:
    """Those that wait, and those of the store."""

    waiting: Sequence[Record]
    kept: FindsCalls

    def calls_by_correlation(self, correlation_id: str, *, limit: int) -> tuple[LLMCall, ...]:
        waiting = [
            one
            for one in reversed(self.waiting)
            if isinstance(one, LLMCall) and one.correlation_id == correlation_id
        ]
        return (*waiting, *self.kept.calls_by_correlation(correlation_id, limit=limit))[:limit]


def _settings_of(given: argparse.Namespace) -> Settings:
    """The settings of the app that is meant: the named one, or the only one there is on this host."""
    named = {"env": given.env, "state_dir": given.state_dir, "store": given.store}
    if given.app or said_by_environment("app"):
        settings = read_settings(app=given.app, **named)
        if not settings.store:
            _require(settings)
        return settings
    if given.store:
        return read_settings(app="any", **named)
    found = _apps(given.state_dir)
    if len(found) != 1:
        listed = ", ".join(found) or "none"
        raise SourceError(f"which app? name one with --app and --env; on this host there are: {listed}")
    app, _, env = found[0].rpartition("-")
    return read_settings(app=app, **{**named, "env": env})


def apps_here(state_dir: str | None = None) -> list[str]:
    """The names of the state directories on this host, `<app>-<env>`."""
    given = state_dir or said_by_environment("state_dir")
    for base in (Path(given).expanduser(),) if given else state_home():
        with suppress(OSError):
            return sorted(one.name for one in base.iterdir() if one.is_dir() and (one / "ledger.db").exists())
    return []


def _require(settings: Settings) -> None:
    """Make no directory for an app that was never here.

    Raises:
        SourceError: it was not.
    """
    name = directory_name(settings.app, settings.env)
    found = _apps(settings.state_dir)
    if name not in found:
        raise SourceError(
            f"{settings.app} in {settings.env} has no state directory here; on this host there are: "
            f"{', '.join(found) or 'none'}"
        )


def _apps(state_dir: str | None) -> list[str]:
    """Those of `apps_here`.

    Raises:
        SourceError: the directory that is named is none.
    """
    given = state_dir or said_by_environment("state_dir")
    if given and not os.path.isdir(Path(given).expanduser()):  # noqa: PTH112 - a Path raises where it may not look
        raise SourceError(
            f"{given} does not exist, or is no directory: correct --state-dir or {ENVIRONMENT['state_dir']}"
        )
    return apps_here(state_dir)
