"""Ready-made health checks for `telemetry.health.add`.

    telemetry.health.add("database", checks.database(engine))
    telemetry.health.add("llm", checks.llm("https://api.openai.com/v1", api_key), every_s=60, critical=False)

Each keeps what it connects with from run to run. None spends tokens, none raises when it is made unless a
library is missing, and none says in a note where it connects to.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import time
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from otel_genapp import semconv
from otel_genapp.clients.library import load_library
from otel_genapp.errors import ConfigError, MissingDependencyError
from otel_genapp.health.results import HealthResult, Sources
from otel_genapp.metrics.exact import total

__all__ = ["HealthResult", "auth_errors", "database", "http", "llm", "rate_limit_headroom", "redis"]

_CLIENTS = frozenset({"httpx", "httpx2", "aiohttp"})
_REFUSED = frozenset({"401", "403"})
_LONGEST_S = 60.0
_BODY_BYTES = 1_000_000
_STALE_S = 120.0
"""Rate limits are given back within a minute or two: what was left longer ago says nothing."""


def database(target: Any) -> Callable[[], Any]:
    """A database answers `SELECT 1`; `target` is SQLAlchemy's URL, its `Engine` or its `AsyncEngine`.

    Raises:
        MissingDependencyError: SQLAlchemy's driver for the URL is not installed.
    """
    import sqlalchemy

    engine = _engine(target) if isinstance(target, str | sqlalchemy.URL) else target
    if hasattr(engine, "sync_engine"):
        engine = _apart(engine)
    statement = sqlalchemy.text("SELECT 1")

    def ask() -> bool:
        with engine.connect() as connection:
            return bool(connection.execute(statement).scalar() == 1)

    async def ask_async() -> bool:
        async with engine.connect() as connection:
            return bool((await connection.execute(statement)).scalar() == 1)

    return ask_async if hasattr(engine, "sync_engine") else ask


def redis(target: Any) -> Callable[[], Awaitable[bool]]:
    """A Redis answers `PING`; `target` is its URL, or a client, sync or async.

    Raises:
        ConfigError: an async client of a kind whose connections cannot be told, a cluster's for one.
        MissingDependencyError: a URL is given and redis is not installed.
    """
    client = target
    if isinstance(target, str):
        try:
            library: Any = importlib.import_module("redis")
        except ModuleNotFoundError:
            raise MissingDependencyError("redis", "redis") from None
        client = library.Redis.from_url(target, socket_timeout=_LONGEST_S, socket_connect_timeout=_LONGEST_S)

    if any(kind.__module__.startswith("redis.asyncio") for kind in type(client).__mro__):
        return _asked_apart(client)

    async def ask() -> bool:
        answer = client.ping()
        return bool(await answer if inspect.isawaitable(answer) else answer)

    return ask


def _asked_apart(client: Any) -> Callable[[], Awaitable[bool]]:
    """`PING` by a connection of its own: those of an async client belong to the application's event loop."""
    library: Any = importlib.import_module("redis.asyncio")
    pool: Any = getattr(client, "connection_pool", None)
    if type(pool) not in {library.ConnectionPool, library.BlockingConnectionPool}:
        raise ConfigError(
            f"a check cannot use a {type(client).__name__} of redis.asyncio from its own thread: give checks.redis "
            "the URL, or telemetry.health.add a coroutine function that makes its own client"
        )
    kind, settings = pool.connection_class, dict(pool.connection_kwargs)

    async def ask() -> bool:
        own = library.Redis(connection_pool=library.ConnectionPool(connection_class=kind, **settings))
        try:
            return bool(await own.ping())
        finally:
            await own.connection_pool.disconnect()

    return ask


def http(
    url: str,
    *,
    expect: int | Collection[int] | None = None,
    contains: str = "",
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
) -> Callable[[], Awaitable[HealthResult]]:
    """A partner's API or a webhook's endpoint answers; made with httpx2, else httpx.

    Args:
        url: what is asked. Redirects are answers, not followed.
        expect: the status or statuses that are good; unless given, every one below 400.
        contains: a text the first megabyte of the body must have.
        method: how it is asked.
        headers: what is sent with it, tokens for example.

    Raises:
        MissingDependencyError: neither httpx2 nor httpx is installed.
    """
    wanted = {expect} if isinstance(expect, int) else set(expect) if expect is not None else None
    return _Asked(load_library(None), url, method, dict(headers or {}), wanted, contains.encode())


def llm(
    base_url: str, api_key: str | None = None, *, headers: Mapping[str, str] | None = None
) -> Callable[[], Awaitable[HealthResult]]:
    """An LLM service lists its models (`GET {base_url}/models`), which costs no tokens.

    `api_key` is sent as a bearer token; a service that wants another header gets it by `headers`.

    Raises:
        MissingDependencyError: neither httpx2 nor httpx is installed.
    """
    sent = {"authorization": f"Bearer {api_key}"} if api_key else {}
    return http(f"{base_url.rstrip('/')}/models", headers={**sent, **(headers or {})})


def auth_errors(
    max_share: float = 0.1, *, window_s: float = 300.0, min_requests: int = 10, resource: str = ""
) -> AuthErrors:
    """At most such a share of the app's outgoing requests was refused with 401 or 403 in the window.

    All workers are looked at, and all hosts, or those resources that begin with `resource`. Fewer
    requests than `min_requests` say nothing, and pass.
    """
    return AuthErrors(max_share, window_s, min_requests, resource)


def rate_limit_headroom(min_ratio: float = 0.1, *, provider: str = "") -> Headroom:
    """Each provider's last answer left at least such a part of its rate limits, or said nothing lately."""
    return Headroom(min_ratio, provider)


@dataclass(slots=True)
class _Asked:
    """An HTTP request with a client that lives as long as the event loop it runs in."""

    library: Any
    url: str = field(repr=False)
    method: str
    headers: dict[str, str] = field(repr=False)
    wanted: set[int] | None
    contains: bytes
    _client: Any = None
    _loop: Any = None

    async def __call__(self) -> HealthResult:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._client, self._loop = self.library.AsyncClient(timeout=_LONGEST_S), loop
        async with self._client.stream(self.method, self.url, headers=self.headers) as response:
            status = response.status_code
            if status not in self.wanted if self.wanted is not None else status >= 400:
                return HealthResult(healthy=False, note=f"answered {status}")
            if self.contains and self.contains not in await _beginning(response):
                return HealthResult(healthy=False, note="answered something else")
        return HealthResult(healthy=True)


@dataclass(frozen=True, slots=True)
class AuthErrors:
    """See `auth_errors`."""

    max_share: float
    window_s: float
    min_requests: int
    resource: str

    def bound(self, sources: Sources) -> Callable[[], HealthResult]:
        """The check over what was counted."""
        seen: deque[tuple[float, int, int]] = deque()

        def check(clock: Callable[[], float] = time.monotonic) -> HealthResult:
            now_s = clock()
            requests, refused = self._count(sources)
            seen.append((now_s, requests, refused))
            while len(seen) > 1 and seen[1][0] <= now_s - self.window_s:
                seen.popleft()
            requests, refused = requests - seen[0][1], refused - seen[0][2]
            if requests < max(self.min_requests, 1) or refused <= self.max_share * requests:
                return HealthResult(healthy=True)
            return HealthResult(healthy=False, note=f"{refused} of {requests} requests were refused")

        return check

    def _count(self, sources: Sources) -> tuple[int, int]:
        requests = refused = 0
        for labels, value in sources.counted().get(semconv.HTTP_REQUESTS.name, {}).items():
            _, status, resource, app_type = labels
            if app_type in _CLIENTS and resource.startswith(self.resource) and not isinstance(value, tuple):
                requests += int(total(value))
                refused += int(total(value)) if status in _REFUSED else 0
        return requests, refused


@dataclass(frozen=True, slots=True)
class Headroom:
    """See `rate_limit_headroom`."""

    min_ratio: float
    provider: str

    def bound(self, sources: Sources) -> Callable[[], HealthResult]:
        """The check over what providers said."""

        def check() -> HealthResult:
            low = [
                f"{labels[0]} {labels[1]} {left:.0%}"
                for labels, (left, age_s) in sources.remaining().items()
                if left < self.min_ratio and age_s <= _STALE_S and self.provider in {"", labels[0]}
            ]
            return HealthResult(healthy=not low, note=", ".join(sorted(low)))

        return check


def _engine(url: Any) -> Any:
    import sqlalchemy

    parsed = sqlalchemy.make_url(url)
    try:
        if parsed.get_dialect().is_async:
            from sqlalchemy.ext.asyncio import create_async_engine

            return create_async_engine(parsed, poolclass=sqlalchemy.pool.NullPool)
        # A pool that makes the connection it needs, and takes no second one for a run that hangs.
        return sqlalchemy.create_engine(parsed, poolclass=sqlalchemy.pool.NullPool)
    except ModuleNotFoundError as error:
        raise MissingDependencyError(error.name or parsed.drivername, "postgres") from error


def _apart(engine: Any) -> Any:
    """An `AsyncEngine` that connects as `engine` does, and keeps nothing.

    Connections belong to the event loop they were made in: one that a check had used would fail the
    application that takes it from the pool next.
    """
    import sqlalchemy
    from sqlalchemy.ext.asyncio import create_async_engine

    sync = engine.sync_engine
    creator = sync.pool._creator  # noqa: SLF001 - with its arguments and listeners; public is only the URL
    return create_async_engine(sync.url, poolclass=sqlalchemy.pool.NullPool, creator=creator)


async def _beginning(response: Any) -> bytes:
    body = b""
    async for part in response.aiter_bytes():
        body += part
        if len(body) >= _BODY_BYTES:
            break
    return body[:_BODY_BYTES]
