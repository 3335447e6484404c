"""Metrics, actions and the `/prometheus` endpoints under their old names.

Requests are counted by the recorders that `build_prometheus_metrics` installs, once each, with the
middleware or without it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import Enum
from typing import TYPE_CHECKING, Any

from otel_genapp.bootstrap import init_telemetry, running
from otel_genapp.bootstrap.telemetry import Telemetry
from otel_genapp.capture.actions import action_tracking, action_tracking_decorator
from otel_genapp.capture.server_request import MARK
from otel_genapp.errors import ConfigError, MissingDependencyError
from otel_genapp.llm_common.exposition import exposition
from otel_genapp.quiet import quiet

if TYPE_CHECKING:
    from flask import Response

    from otel_genapp.llm_common.fastapi_endpoint import fastapi_endpoint_for_prometheus

__all__ = [
    "action_tracking",
    "action_tracking_decorator",
    "build_prometheus_metrics",
    "fastapi_endpoint_for_prometheus",
    "fastapi_tracking_middleware",
    "flask_endpoint_for_prometheus",
]

_SYNONYMS = {
    "dev": ("dev", "devel", "develop", "development", "local", "localhost", "test", "testing", "debug"),
    "preprod": ("preprod", "preproduction", "stage", "stg", "staging", "uat", "preview"),
    "prod": ("prod", "production", "prd", "live"),
}
_ENVS = {name: env for env, names in _SYNONYMS.items() for name in names}

_guarded = quiet("serve")


def __getattr__(name: str) -> Any:
    # FastAPI reads an endpoint's annotations, and is imported for those who use it only.
    if name == "fastapi_endpoint_for_prometheus":
        from otel_genapp.llm_common.fastapi_endpoint import fastapi_endpoint_for_prometheus

        return fastapi_endpoint_for_prometheus
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def build_prometheus_metrics(project_name: str, env: str | None = None) -> Telemetry:
    """Start telemetry for `project_name`: `init_telemetry` with the old arguments.

    `env` may be any usual name (`production`, `staging`, `local`, …) and becomes dev, preprod or
    prod. Where telemetry runs for the same application and env already, that is what is returned.

    Raises:
        ConfigError: `env` is no known name, or the project's name cannot be one.
        AlreadyConfiguredError: telemetry runs for another application or env.
    """
    known = None if env is None else _env_of(env)
    found = running()
    if found is not None and found.settings.app == project_name and known in {None, found.settings.env}:
        return found
    return init_telemetry(project_name, known)


async def fastapi_tracking_middleware(request: Any, call_next: Callable[[Any], Awaitable[Any]]) -> Any:
    """For `app.middleware("http")(fastapi_tracking_middleware)`: passes every request on.

    A FastAPI application is watched without it, from the server to the last byte sent; so with the
    first request it steps out of the application's way, and later ones do not pay for it.
    """
    with _guarded:
        if MARK in request.scope:  # the application is watched
            _step_out(request.app)
    return await call_next(request)


def flask_endpoint_for_prometheus() -> Response:
    """For `app.route("/prometheus")(flask_endpoint_for_prometheus)`: the exposition.

    Raises:
        MissingDependencyError: Flask is not installed.
    """
    try:
        from flask import Response, request
    except ImportError as error:
        raise MissingDependencyError("flask", "flask") from error
    reply = exposition(request.headers.get("accept", ""))
    return Response(reply.body, status=reply.status, headers=reply.header_fields)


def _env_of(given: Any) -> str:
    said = given.value if isinstance(given, Enum) else given
    name = said.strip().lower().replace("-", "").replace("_", "") if isinstance(said, str) else ""
    if name not in _ENVS:
        raise ConfigError(
            f"env must be one of {', '.join(_SYNONYMS)}, or a usual name for one of them "
            f"({', '.join(sorted(set(_ENVS) - set(_SYNONYMS)))}), got {said!r}"
        )
    return _ENVS[name]


def _step_out(app: Any) -> None:
    """Take the middleware out of the chain that `app` has built; requests in it are not disturbed."""
    outer = app.middleware_stack
    while outer is not None:
        inner: Any = getattr(outer, "app", None)
        while getattr(inner, "dispatch_func", None) is fastapi_tracking_middleware:
            inner = outer.app = inner.app
        outer = inner
