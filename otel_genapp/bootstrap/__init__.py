"""`init_telemetry`: the one call at start-up, and the only module that knows both ends."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from otel_genapp.bootstrap import lifecycle
from otel_genapp.config import Settings, prefer_stable_http_conventions, read_settings
from otel_genapp.errors import AlreadyConfiguredError, ConfigError

if TYPE_CHECKING:
    from otel_genapp.bootstrap.telemetry import Telemetry


class Given(TypedDict, total=False):
    """Settings `init_telemetry` takes by name; each has its `GENAPP_*` variable (README)."""

    version: str
    internal_auth: str | tuple[str, ...]
    store: str
    state_dir: str
    instance: str
    trust_incoming: str
    propagate_to: str
    client_paths: str | tuple[str, ...]
    fastapi_spans: str
    llm_wire: bool
    prometheus_auth: bool
    health_auth: bool
    session_limit: int
    retention_days: int
    retention_megabytes: int
    prices: str
    trace_days: int
    trace_megabytes: int
    trace_url: str
    critical_words: str | tuple[str, ...]
    keep_comments: bool
    repeat_hours: int
    user_id_key: str
    sla_uptime: float
    sla_response_ms: float
    sla_response_share: float
    sla_window_days: int
    logging: str
    otlp_logs: bool
    profile_actions: str | tuple[str, ...]


_lock = threading.RLock()
_telemetry: Telemetry | None = None


def init_telemetry(
    name: str | None = None, env: str | None = None, *, app: Any = None, **settings: Unpack[Given]
) -> Telemetry:
    """Start telemetry: OpenTelemetry providers, the `genapp_` metrics, FastAPI, Flask and HTTP clients.

    Args:
        name: the application's name, `service.name`; else `GENAPP_APP`.
        env: dev, preprod or prod; else `GENAPP_ENV`, else dev.
        app: a FastAPI or Flask application to instrument and to mount the endpoints on.
        settings: see `Given`.

    Returns:
        The running telemetry. Called again with equal arguments, the same one.

    Raises:
        ConfigError: a setting cannot work; the message names the value and the remedy.
        AlreadyConfiguredError: it runs already with other settings.
        MissingDependencyError: what a setting needs is not installed.
    """
    global _telemetry  # noqa: PLW0603 - the one running telemetry of the process
    if isinstance(app, str) and name is None:
        name, app = app, None
    if name is not None and not isinstance(name, str):
        raise ConfigError(f"name must be text, got {type(name).__name__}; pass an application as app=…")
    found = read_settings(app=name, env=env, **settings)
    if app is not None:
        from otel_genapp.bootstrap.web import framework_of

        framework_of(app)  # what is wrong is said before anything starts
    with _lock:
        telemetry = _telemetry
        if telemetry is not None and (telemetry.running or telemetry.settings.otel.disabled):
            _require_equal(telemetry.settings, found)
        else:
            # Half of all there is: imported once it is wanted.
            from otel_genapp.bootstrap.telemetry import Telemetry

            prefer_stable_http_conventions()
            telemetry = Telemetry(found)
            telemetry.start()
            _telemetry = telemetry
            if telemetry.running:
                lifecycle.install(lambda: _telemetry, restart=_restart_in_child)
    if app is not None:
        telemetry.mount(app)
    return telemetry


def shutdown(timeout_s: float = 5.0) -> bool:
    """Shut the running telemetry down, if there is one; afterwards `init_telemetry` may start another.

    True if everything pending arrived within `timeout_s` seconds.
    """
    global _telemetry
    with _lock:
        telemetry, _telemetry = _telemetry, None
    return telemetry.shutdown(timeout_s) if telemetry is not None else True


def running() -> Telemetry | None:
    """The running telemetry, if there is one."""
    found = _telemetry
    return found if found is not None and found.running else None


def _restart_in_child() -> None:
    """Start over in the child of a fork, with a lock nobody holds."""
    global _lock  # noqa: PLW0603
    _lock = threading.RLock()
    if _telemetry is not None:
        _telemetry.restart_in_child()


def _require_equal(known: Settings, asked: Settings) -> None:
    if known == asked:
        return
    differing = [
        name for name in Settings.__dataclass_fields__ if getattr(known, name) != getattr(asked, name)
    ]
    raise AlreadyConfiguredError(
        f"telemetry is already running for app={known.app!r}, env={known.env!r} with another "
        f"{', '.join(differing)}; a process has one telemetry: give a further application to "
        "telemetry.mount(), or call shutdown() first"
    )
