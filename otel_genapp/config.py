"""Settings of one running telemetry, and the only reader of the environment.

A value is looked for in the arguments, then in `GENAPP_*` (the table `ENVIRONMENT`), then in the
default. `OTEL_*` variables keep their OpenTelemetry meaning; the ones decided here are listed in
`OtelEnvironment`, the rest is read by the SDK itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from otel_genapp.errors import ConfigError
from otel_genapp.network import HostRule

ENVS, LOGGINGS, SPAN_SOURCES = ("dev", "preprod", "prod"), ("off", "json"), ("native", "contrib")
LOCAL_HOSTS = "loopback,private"
MEMORY_STORE = "memory://"
CLICKHOUSE_STORE = "clickhouse://"
STORES = (MEMORY_STORE, "sqlite:///", "postgresql+psycopg://", CLICKHOUSE_STORE)
"""How the URL of a store begins."""
CRITICAL_WORDS = (
    "complaint", "fraud", "lawyer", "refund", "scam", "terrible", "unacceptable",
    "жалоб", "мошен", "обман", "ужас", "верните деньги",
)  # fmt: skip

ENVIRONMENT: dict[str, str] = {
    "app": "GENAPP_APP",
    "env": "GENAPP_ENV",
    "version": "GENAPP_VERSION",
    "internal_auth": "GENAPP_INTERNAL_AUTH",
    "store": "GENAPP_STORE",
    "state_dir": "GENAPP_STATE_DIR",
    "instance": "GENAPP_INSTANCE",
    "trust_incoming": "GENAPP_TRUST_INCOMING",
    "propagate_to": "GENAPP_PROPAGATE_TO",
    "client_paths": "GENAPP_CLIENT_PATHS",
    "fastapi_spans": "GENAPP_FASTAPI_SPANS",
    "llm_wire": "GENAPP_LLM_WIRE",
    "prometheus_auth": "GENAPP_PROMETHEUS_AUTH",
    "health_auth": "GENAPP_HEALTH_AUTH",
    "session_limit": "GENAPP_SESSION_LIMIT",
    "retention_days": "GENAPP_RETENTION_DAYS",
    "retention_megabytes": "GENAPP_RETENTION_MEGABYTES",
    "prices": "GENAPP_PRICES",
    "trace_days": "GENAPP_TRACE_DAYS",
    "trace_megabytes": "GENAPP_TRACE_MEGABYTES",
    "trace_url": "GENAPP_TRACE_URL",
    "critical_words": "GENAPP_CRITICAL_WORDS",
    "keep_comments": "GENAPP_KEEP_COMMENTS",
    "repeat_hours": "GENAPP_REPEAT_HOURS",
    "user_id_key": "GENAPP_USER_ID_KEY",
    "sla_uptime": "GENAPP_SLA_UPTIME",
    "sla_response_ms": "GENAPP_SLA_RESPONSE_MS",
    "sla_response_share": "GENAPP_SLA_RESPONSE_SHARE",
    "sla_window_days": "GENAPP_SLA_WINDOW_DAYS",
    "logging": "GENAPP_LOGGING",
    "otlp_logs": "GENAPP_OTLP_LOGS",
    "profile_actions": "GENAPP_PROFILE_ACTIONS",
}
"""Setting -> environment variable, all there are."""
COMMAND_ENVIRONMENT: dict[str, str] = {
    "telegram_token": "GENAPP_TELEGRAM_TOKEN",
    "telegram_chat": "GENAPP_TELEGRAM_CHAT",
    "telegram_api": "GENAPP_TELEGRAM_API",
}
"""What only commands read."""
_WHOLE = frozenset({
    "session_limit", "retention_days", "retention_megabytes", "trace_days", "trace_megabytes", "repeat_hours",
    "sla_window_days",
})  # fmt: skip
_NUMBERS = {"sla_uptime": 1.0, "sla_response_ms": 600_000.0, "sla_response_share": 1.0}
"""Settings that are numbers above 0, and what they are at most."""


@dataclass(frozen=True, slots=True)
class OtelEnvironment:
    """What this package decides from `OTEL_*` variables."""

    disabled: bool = False
    traces_endpoint: str = field(default="", repr=False)
    metrics_endpoint: str = field(default="", repr=False)
    logs_endpoint: str = field(default="", repr=False)
    traces_protocol: str = "http/protobuf"
    metrics_protocol: str = "http/protobuf"
    logs_protocol: str = "http/protobuf"
    logs_wanted: bool = False
    """Whether `OTEL_LOGS_EXPORTER` asks for OTLP in so many words."""
    log_queue_size: int = 2048
    log_batch_size: int = 512
    log_delay_s: float = 1.0
    attribute_limit_set: bool = False
    span_queue_size: int = 2048
    excluded_system_metrics: tuple[str, ...] = ()
    capture_content: bool = False
    """Whether prompts and answers that instrumentations record may be kept with traces."""

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> OtelEnvironment:
        def lookup(name: str) -> str:
            return environ.get(name, "").strip()

        def endpoint(signal: str) -> str:
            if lookup(f"OTEL_{signal}_EXPORTER").lower() == "none":
                return ""
            own = lookup(f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")
            return own or lookup("OTEL_EXPORTER_OTLP_ENDPOINT")

        def protocol(signal: str) -> str:
            own = lookup(f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL")
            return own or lookup("OTEL_EXPORTER_OTLP_PROTOCOL") or "http/protobuf"

        return cls(
            disabled=lookup("OTEL_SDK_DISABLED").lower() == "true",
            traces_endpoint=endpoint("TRACES"),
            metrics_endpoint=endpoint("METRICS"),
            logs_endpoint=endpoint("LOGS"),
            traces_protocol=protocol("TRACES"),
            metrics_protocol=protocol("METRICS"),
            logs_protocol=protocol("LOGS"),
            logs_wanted="otlp" in lookup("OTEL_LOGS_EXPORTER").lower().split(","),
            log_queue_size=_count(lookup("OTEL_BLRP_MAX_QUEUE_SIZE"), otherwise=2048),
            log_batch_size=_count(lookup("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE"), otherwise=512),
            log_delay_s=_count(lookup("OTEL_BLRP_SCHEDULE_DELAY"), otherwise=1000) / 1000,
            attribute_limit_set=bool(
                lookup("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT") or lookup("OTEL_ATTRIBUTE_COUNT_LIMIT")
            ),
            span_queue_size=_count(lookup("OTEL_BSP_MAX_QUEUE_SIZE"), otherwise=2048),
            excluded_system_metrics=tuple(
                pattern.strip()
                for pattern in lookup("OTEL_PYTHON_SYSTEM_METRICS_EXCLUDED_METRICS").split(",")
                if pattern.strip()
            ),
            capture_content=lookup("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT").lower()
            in {"true", "span_only", "span_and_event"},
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Everything `init_telemetry` was told, checked. Equal settings mean the same telemetry.

    Raises:
        ConfigError: a value cannot work; the message names it and says what to write.
    """

    app: str
    env: str = "dev"
    version: str = ""
    internal_auth: tuple[str, ...] = field(default=(), repr=False)
    store: str = field(default="", repr=False)
    """Empty for SQLite in the state directory."""
    state_dir: str = ""
    instance: str = ""
    trust_incoming: str = LOCAL_HOSTS
    propagate_to: str = LOCAL_HOSTS
    client_paths: tuple[str, ...] = ()
    fastapi_spans: str = "native"
    llm_wire: bool = True
    prometheus_auth: bool = False
    health_auth: bool = False
    session_limit: int = 10_000
    retention_days: int = 30
    """How long a session's detail is kept after its last call; totals stay for ever."""
    retention_megabytes: int = -1
    """How much detail is kept, in units of 1e6 bytes; 0 for any amount, -1 for what suits the store."""
    prices: str = ""
    """Path of the price file; it is read and checked where telemetry starts."""
    trace_days: int = 7
    """How long a trace is kept after its last span, at most `retention_days`."""
    trace_megabytes: int = 256
    """How much room kept traces may take; 0 keeps none."""
    trace_url: str = ""
    """Where a tracing backend shows a trace: a URL with {trace_id} in it."""
    critical_words: tuple[str, ...] = CRITICAL_WORDS
    """What makes a comment a critical review, in any case."""
    keep_comments: bool = False
    """Whether the texts of comments are kept."""
    repeat_hours: int = 24
    """How soon after the end of a conversation another one of the same person is a repeated contact."""
    user_id_key: str = field(default="", repr=False)
    """Where it is set, user ids are kept as keyed hashes only."""
    sla_uptime: float = 0.999
    """The share of the time in which the app is to be up."""
    sla_response_ms: float = 3000.0
    sla_response_share: float = 0.95
    """The share of the requests that are to be answered within `sla_response_ms`."""
    sla_window_days: int = 30
    """How far back both are looked at, and how long their history is kept."""
    logging: str = "off"
    """`json`: everything that is logged is written as lines of JSON, see `logs.configure_logging`."""
    otlp_logs: bool = False
    """Whether log records leave over OTLP too: what an application and its libraries log may name people."""
    profile_actions: tuple[str, ...] = ()
    """Names of the blocks of `profile_action` that are profiled every time; `*` for all."""
    otel: OtelEnvironment = field(default_factory=OtelEnvironment)

    @property
    def exports_logs(self) -> bool:
        """Whether log records leave over OTLP: an endpoint is there, and it was asked for."""
        return bool(self.otel.logs_endpoint) and (self.otlp_logs or self.otel.logs_wanted)

    def __post_init__(self) -> None:
        if not self.app or not self.app.strip() or len(self.app) > 128 or not self.app.isprintable():
            raise ConfigError(
                f"app must be 1 to 128 printable characters, got {self.app!r}; pass a name or set GENAPP_APP"
            )
        if self.env not in ENVS:
            raise ConfigError(f"env must be one of {', '.join(ENVS)}, got {self.env!r}")
        if self.fastapi_spans not in SPAN_SOURCES:
            raise ConfigError(
                f"fastapi_spans must be one of {', '.join(SPAN_SOURCES)}, got {self.fastapi_spans!r}"
            )
        self._check_store()
        if self.session_limit < 1:
            raise ConfigError(f"session_limit must be at least 1, got {self.session_limit}")
        self._check_traces()
        self._check_conversations()
        for token in self.internal_auth:
            if not token or len(token.encode("utf-8", "surrogatepass")) > 1024:
                raise ConfigError("internal_auth has an empty token or one over 1024 bytes")
        for path in self.client_paths:
            if not path.startswith("/"):
                raise ConfigError(f"client_paths has {path!r}; a template starts with /")
        if self.logging not in LOGGINGS:
            raise ConfigError(f"logging must be one of {', '.join(LOGGINGS)}, got {self.logging!r}")
        for name in ("traces", "metrics", *(["logs"] if self.exports_logs else [])):
            self._check_endpoint(name)
        HostRule(self.trust_incoming, "trust_incoming")
        HostRule(self.propagate_to, "propagate_to")

    def _check_store(self) -> None:
        if self.store and not self.store.startswith(STORES):
            raise ConfigError(
                f"store must begin with one of {', '.join(STORES)}, got {without_userinfo(self.store)!r}"
            )
        if self.store.startswith(MEMORY_STORE) and self.store != MEMORY_STORE:
            raise ConfigError(f"store must be {MEMORY_STORE} and nothing more, got {self.store!r}")
        if not 1 <= self.retention_days <= 36_500:
            raise ConfigError(f"retention_days must be 1 to 36500, got {self.retention_days}")
        if not -1 <= self.retention_megabytes <= 10**9:
            raise ConfigError(
                f"retention_megabytes must be 1 to 1000000000, or 0 for no limit, got {self.retention_megabytes}"
            )

    def _check_traces(self) -> None:
        if not 1 <= self.trace_days <= 36_500:
            raise ConfigError(f"trace_days must be 1 to 36500, got {self.trace_days}")
        if not 0 <= self.trace_megabytes <= 10**6:
            raise ConfigError(
                f"trace_megabytes must be 0 (keep no traces) to 1000000, got {self.trace_megabytes}"
            )
        url = self.trace_url
        if not url:
            return
        is_url = url.startswith(("http://", "https://")) and url.isprintable() and " " not in url
        if not is_url or "{trace_id}" not in url.partition("://")[2] or len(url) > 2048:
            raise ConfigError(
                "trace_url must be an http or https URL with {trace_id} where the id of the trace belongs, "
                f"got {without_userinfo(url)[:100]!r}"
            )

    def _check_conversations(self) -> None:
        if not 1 <= self.repeat_hours <= 24 * 366:
            raise ConfigError(f"repeat_hours must be 1 to 8784, got {self.repeat_hours}")
        if self.user_id_key and len(self.user_id_key) < 16:
            raise ConfigError("user_id_key must be at least 16 characters long; a random one is best")
        for setting, most in _NUMBERS.items():
            if not 0 < getattr(self, setting) <= most:
                raise ConfigError(
                    f"{setting} must be above 0 and at most {most:g}, got {getattr(self, setting)}"
                )
        if not 1 <= self.sla_window_days <= 366:
            raise ConfigError(f"sla_window_days must be 1 to 366, got {self.sla_window_days}")

    def _check_endpoint(self, signal: str) -> None:
        endpoint = getattr(self.otel, f"{signal}_endpoint")
        protocol = getattr(self.otel, f"{signal}_protocol")
        variable = f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT or OTEL_EXPORTER_OTLP_ENDPOINT"
        if not endpoint:
            return
        if protocol not in {"http/protobuf", "grpc"}:
            raise ConfigError(f"OTLP protocol of {signal} must be http/protobuf or grpc, got {protocol!r}")
        if protocol == "http/protobuf" and not endpoint.startswith(("http://", "https://")):
            raise ConfigError(f"{variable} must be an http or https URL, got {without_userinfo(endpoint)!r}")

    def trust_rule(self) -> HostRule:
        """The peers whose trace context and session id count."""
        return HostRule(self.trust_incoming, "trust_incoming")

    def propagate_rule(self) -> HostRule:
        """The hosts that get our trace context, correlation and session ids."""
        return HostRule(self.propagate_to, "propagate_to")


def read_settings(environ: Mapping[str, str] | None = None, **given: Any) -> Settings:
    """Settings from the arguments given, the environment and the defaults, in that order.

    `environ` is the process environment unless a mapping is given. Arguments that are `None`
    count as not given.

    Raises:
        ConfigError: an unknown setting or a value that cannot work.
    """
    environ = os.environ if environ is None else environ
    known = set(ENVIRONMENT)
    unknown = sorted(set(given) - known)
    if unknown:
        raise ConfigError(f"unknown setting {unknown[0]!r}; known are {', '.join(sorted(known))}")
    values: dict[str, Any] = {"otel": OtelEnvironment.read(environ)}
    for setting, variable in ENVIRONMENT.items():
        if given.get(setting) is not None:
            values[setting] = _typed(setting, given[setting], source=setting)
        elif environ.get(variable, "").strip():
            values[setting] = _typed(setting, environ[variable].strip(), source=variable)
    if "app" not in values:
        raise ConfigError("app is missing; pass init_telemetry('my-app') or set GENAPP_APP")
    return Settings(**values)


def process_environment() -> Mapping[str, str]:
    """A copy of the environment, for what examines it."""
    return dict(os.environ)


def said_by_environment(setting: str, environ: Mapping[str, str] | None = None) -> str:
    """What the environment says of one setting, for commands that need no other; empty for nothing."""
    environ = os.environ if environ is None else environ
    return environ.get({**ENVIRONMENT, **COMMAND_ENVIRONMENT}[setting], "").strip()


def state_home(environ: Mapping[str, str] | None = None) -> tuple[Path, ...]:
    """Where state directories may live, best first: the XDG state home, then the temp directory."""
    environ = os.environ if environ is None else environ
    candidates = []
    xdg = environ.get("XDG_STATE_HOME", "")
    home = environ.get("HOME", "")
    if xdg.startswith("/"):
        candidates.append(Path(xdg) / "otel-genapp")
    elif home.startswith("/"):
        candidates.append(Path(home) / ".local" / "state" / "otel-genapp")
    temp = environ.get("TMPDIR") or environ.get("TEMP") or "/tmp"  # noqa: S108 - checked by the state directory itself
    uid = getattr(os, "getuid", lambda: "user")()
    candidates.append(Path(temp) / f"otel-genapp-{uid}")
    return tuple(candidates)


def prefer_stable_http_conventions() -> None:
    """Make OTel instrumentors emit today's HTTP conventions, unless the user chose otherwise.

    They read the choice from the environment, once, when the first of them starts.
    """
    os.environ.setdefault("OTEL_SEMCONV_STABILITY_OPT_IN", "http")


def _count(text: str, *, otherwise: int) -> int:
    is_count = text.isascii() and text.isdigit() and len(text) <= 8
    return int(text) if is_count and 0 < int(text) <= 10**7 else otherwise


def _typed(setting: str, value: Any, *, source: str) -> Any:
    if setting in {"internal_auth", "client_paths", "critical_words", "profile_actions"}:
        given = value.split(",") if isinstance(value, str) else value
        parts = tuple(given) if isinstance(given, Iterable) else (given,)
        if not all(isinstance(part, str) for part in parts):
            raise ConfigError(f"{source} must be text or a sequence of texts")
        return tuple(part.strip() for part in parts if part.strip())
    if setting in _WHOLE or setting in _NUMBERS:
        kind, said = (int, "a whole number") if setting in _WHOLE else (float, "a number")
        try:
            return kind(value)
        except (OverflowError, TypeError, ValueError):
            raise ConfigError(f"{source} must be {said}, got {value!r}") from None
    if setting in {"llm_wire", "prometheus_auth", "health_auth", "keep_comments", "otlp_logs"}:
        if isinstance(value, bool):
            return value
        if str(value).lower() in {"1", "true", "yes", "on"}:
            return True
        if str(value).lower() in {"0", "false", "no", "off"}:
            return False
        raise ConfigError(f"{source} must be true or false, got {value!r}")
    if isinstance(value, Path):
        return str(value)
    if setting in {"trust_incoming", "propagate_to"} and isinstance(value, list | tuple):
        return ",".join(str(part) for part in value)
    if not isinstance(value, str):
        raise ConfigError(f"{source} must be text, got {type(value).__name__}")
    return value


def without_userinfo(url: str) -> str:
    """A URL as it may be shown: without user, password and query."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return scheme.rpartition("@")[2]
    return f"{scheme}://{rest.rpartition('@')[2].partition('?')[0]}"
