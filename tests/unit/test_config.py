"""Settings: arguments before environment before defaults, and errors that say what to write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from otel_genapp.config import (
    ENVIRONMENT,
    OtelEnvironment,
    Settings,
    prefer_stable_http_conventions,
    read_settings,
    said_by_environment,
    state_home,
)
from otel_genapp.errors import AlreadyConfiguredError, ConfigError, GenappError, MissingDependencyError

DEFAULTS = Settings(
    app="shop",
    env="dev",
    version="",
    internal_auth=(),
    store="",
    state_dir="",
    instance="",
    trust_incoming="loopback,private",
    propagate_to="loopback,private",
    client_paths=(),
    fastapi_spans="native",
    prometheus_auth=False,
    session_limit=10_000,
    retention_days=30,
    retention_megabytes=-1,
    prices="",
    trace_days=7,
    trace_megabytes=256,
    trace_url="",
    otel=OtelEnvironment(
        disabled=False,
        traces_endpoint="",
        metrics_endpoint="",
        traces_protocol="http/protobuf",
        metrics_protocol="http/protobuf",
        attribute_limit_set=False,
        span_queue_size=2048,
        excluded_system_metrics=(),
        capture_content=False,
    ),
)

FULL = {
    "GENAPP_APP": "shop",
    "GENAPP_ENV": "prod",
    "GENAPP_VERSION": "1.4.0",
    "GENAPP_INTERNAL_AUTH": " one , two,,",
    "GENAPP_STORE": "memory://",
    "GENAPP_STATE_DIR": "/var/lib/shop",
    "GENAPP_INSTANCE": "blue",
    "GENAPP_TRUST_INCOMING": "10.0.0.0/8",
    "GENAPP_PROPAGATE_TO": "*.shop.internal",
    "GENAPP_CLIENT_PATHS": "/v1/chat/completions, /v1/files/{id}",
    "GENAPP_FASTAPI_SPANS": "contrib",
    "GENAPP_LLM_WIRE": "off",
    "GENAPP_RETENTION_DAYS": "90",
    "GENAPP_RETENTION_MEGABYTES": "200",
    "GENAPP_PROMETHEUS_AUTH": "Yes",
    "GENAPP_SESSION_LIMIT": "500",
    "GENAPP_PRICES": "/etc/shop/prices.toml",
    "GENAPP_TRACE_DAYS": "3",
    "GENAPP_TRACE_MEGABYTES": "0",
    "GENAPP_TRACE_URL": "https://jaeger.example.com/trace/{trace_id}?uiEmbed={x}",
    "GENAPP_CRITICAL_WORDS": "lawyer, refund",
    "GENAPP_KEEP_COMMENTS": "true",
    "GENAPP_REPEAT_HOURS": "48",
    "GENAPP_USER_ID_KEY": "sixteen or longer",
    "GENAPP_HEALTH_AUTH": "1",
    "GENAPP_SLA_UPTIME": "0.99",
    "GENAPP_SLA_RESPONSE_MS": "800",
    "GENAPP_SLA_RESPONSE_SHARE": "0.9",
    "GENAPP_SLA_WINDOW_DAYS": "7",
    "GENAPP_LOGGING": "json",
    "GENAPP_OTLP_LOGS": "yes",
    "GENAPP_PROFILE_ACTIONS": "digest_task, menu_handler",
}


def test_defaults() -> None:
    """A name is all that must be given."""
    assert read_settings({}, app="shop") == DEFAULTS


def test_every_setting_has_its_variable() -> None:
    """Each setting can come from the environment, under the name the table says."""
    assert set(ENVIRONMENT.values()) == set(FULL)
    assert read_settings(FULL) == Settings(
        app="shop",
        env="prod",
        version="1.4.0",
        internal_auth=("one", "two"),
        store="memory://",
        state_dir="/var/lib/shop",
        instance="blue",
        trust_incoming="10.0.0.0/8",
        propagate_to="*.shop.internal",
        client_paths=("/v1/chat/completions", "/v1/files/{id}"),
        fastapi_spans="contrib",
        llm_wire=False,
        prometheus_auth=True,
        session_limit=500,
        retention_days=90,
        retention_megabytes=200,
        prices="/etc/shop/prices.toml",
        trace_days=3,
        trace_megabytes=0,
        trace_url="https://jaeger.example.com/trace/{trace_id}?uiEmbed={x}",
        critical_words=("lawyer", "refund"),
        keep_comments=True,
        repeat_hours=48,
        user_id_key="sixteen or longer",
        health_auth=True,
        sla_uptime=0.99,
        sla_response_ms=800.0,
        sla_response_share=0.9,
        sla_window_days=7,
        logging="json",
        otlp_logs=True,
        profile_actions=("digest_task", "menu_handler"),
    )


def test_the_price_file_by_itself() -> None:
    """A command that needs nothing else finds the price file without a name of the app."""
    assert said_by_environment("prices", {"GENAPP_PRICES": " prices.toml "}) == "prices.toml"
    assert said_by_environment("prices", {}) == ""


def test_arguments_win() -> None:
    """What is given beats the environment; None and blank count as not given."""
    found = read_settings(
        {"GENAPP_APP": "other", "GENAPP_ENV": " ", "GENAPP_VERSION": "2"},
        app="shop",
        env=None,
        state_dir=Path("/srv"),
        internal_auth=(part for part in ("one", " ")),
        session_limit=7.0,
        prometheus_auth=True,
        trust_incoming=["loopback", "10.0.0.0/8"],
    )
    assert found == Settings(
        app="shop",
        version="2",
        state_dir="/srv",
        internal_auth=("one",),
        session_limit=7,
        prometheus_auth=True,
        trust_incoming="loopback,10.0.0.0/8",
    )


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a mapping the process's own variables are read."""
    monkeypatch.setenv("GENAPP_APP", "from the process")
    assert read_settings().app == "from the process"


ERRORS: list[tuple[dict[str, Any], str]] = [
    ({}, "app is missing; pass init_telemetry('my-app') or set GENAPP_APP"),
    ({"app": " "}, "app must be 1 to 128 printable characters, got ' '; pass a name or set GENAPP_APP"),
    ({"app": "two\nlines"}, r"app must be 1 to 128 printable characters, got 'two\nlines'"),
    ({"app": "half \ud800"}, r"app must be 1 to 128 printable characters, got 'half \ud800'"),
    ({"app": "x" * 129}, "app must be 1 to 128 printable characters"),
    ({"app": 5}, "app must be text, got int"),
    ({"app": "a", "env": "staging"}, "env must be one of dev, preprod, prod, got 'staging'"),
    ({"app": "a", "evn": "dev"}, "unknown setting 'evn'; known are app, client_paths, critical_words, env,"),
    ({"app": "a", "fastapi_spans": "both"}, "fastapi_spans must be one of native, contrib, got 'both'"),
    ({"app": "a", "session_limit": 0}, "session_limit must be at least 1, got 0"),
    ({"app": "a", "session_limit": "many"}, "session_limit must be a whole number, got 'many'"),
    ({"app": "a", "session_limit": float("inf")}, "session_limit must be a whole number, got inf"),
    ({"app": "a", "prometheus_auth": "perhaps"}, "prometheus_auth must be true or false, got 'perhaps'"),
    ({"app": "a", "sla_uptime": 99.9}, "sla_uptime must be above 0 and at most 1, got 99.9"),
    ({"app": "a", "sla_uptime": "high"}, "sla_uptime must be a number, got 'high'"),
    (
        {"app": "a", "sla_response_ms": float("nan")},
        "sla_response_ms must be above 0 and at most 600000, got nan",
    ),
    ({"app": "a", "sla_response_share": 0}, "sla_response_share must be above 0 and at most 1, got 0.0"),
    ({"app": "a", "sla_window_days": 367}, "sla_window_days must be 1 to 366, got 367"),
    ({"app": "a", "internal_auth": 5}, "internal_auth must be text or a sequence of texts"),
    ({"app": "a", "internal_auth": [b"x"]}, "internal_auth must be text or a sequence of texts"),
    ({"app": "a", "internal_auth": "x" * 1025}, "internal_auth has an empty token or one over 1024 bytes"),
    ({"app": "a", "client_paths": "v1"}, "client_paths has 'v1'; a template starts with /"),
    ({"app": "a", "trust_incoming": "10.0.0.0/99"}, "trust_incoming has '10.0.0.0/99'; write loopback,"),
    ({"app": "a", "propagate_to": "https://x"}, "propagate_to has 'https://x'; write loopback, private,"),
    (
        {"app": "a", "store": "redis://u:hunter2@db/0?password=hunter2"},
        "store must begin with one of memory://, sqlite:///, postgresql+psycopg://, clickhouse://, got 'redis://db/0'",
    ),
    ({"app": "a", "store": "u:hunter2@db"}, "got 'db'"),
]


@pytest.mark.parametrize(("given", "message"), ERRORS)
def test_errors_name_value_and_remedy(given: dict[str, Any], message: str) -> None:
    """What cannot work is refused with the value seen and what to write, and without any secret."""
    with pytest.raises(ConfigError) as caught:
        read_settings({}, **given)
    assert message in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_errors_of_the_environment_name_the_variable() -> None:
    """A value from the environment is refused under its variable's name."""
    with pytest.raises(ConfigError, match="GENAPP_SESSION_LIMIT must be a whole number, got 'x'"):
        read_settings({"GENAPP_APP": "a", "GENAPP_SESSION_LIMIT": "x"})


OTLP_ERRORS = [
    (
        {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"},
        "OTLP protocol of traces must be http/protobuf or grpc, got 'http/json'",
    ),
    (
        {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "ftp://u:hunter2@collector"},
        "_METRICS_ENDPOINT or OTEL_EXPORTER_OTLP_ENDPOINT must be an http or https URL, got 'ftp://collector'",
    ),
]


@pytest.mark.parametrize(("environ", "message"), OTLP_ERRORS)
def test_errors_of_otlp(environ: dict[str, str], message: str) -> None:
    """An export that cannot work is refused at the start, naming its variable."""
    with pytest.raises(ConfigError) as caught:
        read_settings(environ, app="a")
    assert message in str(caught.value)
    assert "hunter2" not in str(caught.value)


OTEL = [
    ({}, OtelEnvironment()),
    ({"OTEL_SDK_DISABLED": "True"}, OtelEnvironment(disabled=True)),
    ({"OTEL_SDK_DISABLED": "1"}, OtelEnvironment()),
    (
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"},
        OtelEnvironment(
            traces_endpoint="http://c:4318", metrics_endpoint="http://c:4318", logs_endpoint="http://c:4318"
        ),
    ),
    (
        {
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318",
            "OTEL_TRACES_EXPORTER": "None",
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://m:4318",
            "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "grpc",
        },
        OtelEnvironment(
            metrics_endpoint="http://m:4318", metrics_protocol="grpc", logs_endpoint="http://c:4318"
        ),
    ),
    (
        {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_ENDPOINT": "c:4317"},
        OtelEnvironment(
            traces_endpoint="c:4317",
            metrics_endpoint="c:4317",
            logs_endpoint="c:4317",
            traces_protocol="grpc",
            metrics_protocol="grpc",
            logs_protocol="grpc",
        ),
    ),
    ({"OTEL_LOGS_EXPORTER": "console,otlp"}, OtelEnvironment(logs_wanted=True)),
    ({"OTEL_BLRP_SCHEDULE_DELAY": "250"}, OtelEnvironment(log_delay_s=0.25)),
    ({"OTEL_ATTRIBUTE_COUNT_LIMIT": "500"}, OtelEnvironment(attribute_limit_set=True)),
    ({"OTEL_BSP_MAX_QUEUE_SIZE": "100"}, OtelEnvironment(span_queue_size=100)),
    *(
        ({"OTEL_BSP_MAX_QUEUE_SIZE": text}, OtelEnvironment())
        for text in ("0", "-5", "x", "1e3", "٣", "9" * 5000, "99999999")
    ),
    (
        {"OTEL_PYTHON_SYSTEM_METRICS_EXCLUDED_METRICS": "system.*, ,process.cpu.time"},
        OtelEnvironment(excluded_system_metrics=("system.*", "process.cpu.time")),
    ),
]


@pytest.mark.parametrize(("environ", "expected"), OTEL)
def test_otel_variables(environ: dict[str, str], expected: OtelEnvironment) -> None:
    """`OTEL_*` variables keep their meaning, signal by signal; senseless numbers mean the default."""
    assert read_settings(environ, app="a").otel == expected


def test_no_secret_in_a_repr() -> None:
    """Settings can be logged: tokens and endpoints, which may hold credentials, are not in their text."""
    settings = read_settings(
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "https://u:hunter2@collector"}, app="shop", internal_auth="hunter2"
    )
    assert settings.otel.traces_endpoint == "https://u:hunter2@collector"
    assert settings.internal_auth == ("hunter2",)
    assert "hunter2" not in f"{settings!r} {settings}"
    assert "app='shop'" in repr(settings)


def test_equal_settings_are_equal() -> None:
    """The same told twice is one and the same telemetry."""
    told: dict[str, Any] = {"app": "shop", "internal_auth": ["a", "b"], "client_paths": "/x"}
    assert read_settings({}, **told) == read_settings({}, **told)
    assert read_settings({}, **told) != read_settings({}, **{**told, "internal_auth": ["a"]})


@pytest.mark.parametrize(
    ("environ", "first", "temp"),
    [
        ({"XDG_STATE_HOME": "/x", "HOME": "/h", "TMPDIR": "/t"}, "/x/otel-genapp", "/t"),
        ({"XDG_STATE_HOME": "relative", "HOME": "/h", "TEMP": "/w"}, "/h/.local/state/otel-genapp", "/w"),
        ({}, None, "/tmp"),  # noqa: S108 - the place is what is asserted
    ],
)
def test_state_home(environ: dict[str, str], first: str | None, temp: str) -> None:
    """The XDG state home first, then the home directory's, and a temp directory of the user's own."""
    found = [str(path) for path in state_home(environ)]
    assert found[:-1] == ([first] if first else [])
    assert found[-1].startswith(f"{temp}/otel-genapp-")


def test_the_users_choice_of_conventions_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stable HTTP conventions are the default, not a decision over the user's head."""
    variable = "OTEL_SEMCONV_STABILITY_OPT_IN"
    monkeypatch.delenv(variable, raising=False)
    chosen = []
    for preset in (None, "http/dup"):
        with monkeypatch.context() as patch:
            patch.setenv(variable, preset or "")
            if preset is None:
                patch.delenv(variable)
            prefer_stable_http_conventions()
            chosen.append(__import__("os").environ[variable])
    assert chosen == ["http", "http/dup"]


def test_the_tree_of_errors() -> None:
    """Every error is a GenappError and an error of its kind; a missing library names its command."""
    missing = MissingDependencyError("flask", "flask")
    assert [
        error.__mro__[1:3] for error in (ConfigError, AlreadyConfiguredError, MissingDependencyError)
    ] == [
        (GenappError, ValueError),
        (GenappError, RuntimeError),
        (GenappError, ImportError),
    ]
    assert str(missing) == "'flask' is not installed. Run: pip install 'otel-genapp[flask]'"


@pytest.mark.parametrize(
    "url",
    [
        "jaeger.example.com/{trace_id}", "ftp://jaeger/{trace_id}", "https://jaeger/trace", "https://jaeger/{trace}",
        "javascript:alert('{trace_id}')", "https://jaeger/ {trace_id}", "https://jaeger/\n{trace_id}", "https://{trace_id",
        "https://jaeger/{trace_id}" + "x" * 2048,
    ],
)  # fmt: skip
def test_a_link_that_leads_to_no_trace(url: str) -> None:
    """A template is an http or https URL with the place of the id; the error says so."""
    with pytest.raises(ConfigError, match=r"trace_url must be an http or https URL with \{trace_id\}"):
        read_settings({}, app="shop", trace_url=url)


@pytest.mark.parametrize(
    ("name", "value"),
    [("trace_days", 0), ("trace_days", 36_501), ("trace_megabytes", -1), ("trace_megabytes", "many")],
)
def test_room_for_traces_that_cannot_be(name: str, value: object) -> None:
    """The error names the setting and what it takes."""
    with pytest.raises(ConfigError, match=f"^{name} must be "):
        read_settings({}, app="shop", **{name: value})


@pytest.mark.parametrize(
    ("value", "kept"), [("true", True), ("SPAN_ONLY", True), ("event_only", False), ("", False)]
)
def test_the_switch_for_content(value: str, kept: bool) -> None:
    """OpenTelemetry's own variable decides whether prompts are kept with traces."""
    found = read_settings({"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": value}, app="shop")
    assert found.otel.capture_content is kept
