"""The environment as the doctor sees it."""

from __future__ import annotations

import pytest

from tests.unit.doctor.looks import found, inspection, levels, only, told


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("GENAPP_INTERNAL_AUHT", "rename it to GENAPP_INTERNAL_AUTH"),
        ("GENAPP_STATEDIR", "rename it to GENAPP_STATE_DIR"),
        ("genapp_env", "rename it to GENAPP_ENV"),
        ("GENAPPSTORE", "rename it to GENAPP_STORE"),
    ],
)
def test_misspelt_settings(name: str, right: str) -> None:
    """A name nobody reads is a problem, with the nearest right one."""
    single = only(found("variables", **{name: "x"}), "problem")
    assert single.finding.startswith(name)
    assert single.remedy.startswith(right)


def test_names_of_nobody() -> None:
    """A name that is near to none may be the application's own, and is a warning."""
    assert only(found("variables", GENAPP_COLOUR_OF_PAGES="x"), "warning").remedy.startswith(
        "unset it, unless"
    )


def test_names_of_opentelemetry() -> None:
    """A near miss of a known name is a warning, other people's names are not."""
    single = only(found("variables", OTEL_EXPORTER_OTLP_ENDPOIT="x", OTEL_OF_SOMEBODY_ELSE="x"), "warning")
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in single.remedy


def test_right_names_are_listed() -> None:
    """All is well with names there are."""
    assert only(found("variables", GENAPP_APP="shop"), "ok").finding == "set are GENAPP_APP"


def test_settings_that_are_refused() -> None:
    """What init_telemetry would refuse is a problem in its words; other checks leave it at that."""
    seen = inspection(GENAPP_ENV="production")
    assert "env must be one of dev, preprod, prod" in only(found("settings", seen), "problem").finding
    for check in ("token", "otlp", "collector", "store"):
        assert found(check, seen) == []
    assert levels(found("settings")) == ["ok"]


def test_a_disabled_sdk() -> None:
    """OTEL_SDK_DISABLED is a problem only when it is true."""
    assert only(found("disabled", OTEL_SDK_DISABLED="TRUE"), "problem").remedy == "unset OTEL_SDK_DISABLED"
    assert levels(found("disabled", OTEL_SDK_DISABLED="false")) == ["ok"]


@pytest.mark.parametrize(
    ("name", "ratio", "level"),
    [
        ("", "", "ok"),
        ("parentbased_traceidratio", "0.1", "ok"),
        ("traceidratio", "", "ok"),
        ("traceidratio", "10%", "problem"),
        ("traceidratio", "7", "problem"),
        ("parentbased_ratio", "0.1", "problem"),
        ("always_off", "", "warning"),
    ],
)
def test_samplers(name: str, ratio: str, level: str) -> None:
    """A sampler is one of the known, and its ratio a ratio."""
    assert levels(found("sampler", OTEL_TRACES_SAMPLER=name, OTEL_TRACES_SAMPLER_ARG=ratio)) == [level]


def test_tokens() -> None:
    """Outside of dev a token is needed, and a short one is told without being shown."""
    assert levels(found("token")) == ["ok"]
    for env in ("preprod", "prod"):
        single = only(found("token", GENAPP_ENV=env), "problem")
        assert (env in single.finding, "GENAPP_INTERNAL_AUTH" in single.remedy) == (True, True)
    assert levels(found("token", GENAPP_ENV="prod", GENAPP_INTERNAL_AUTH="x" * 40)) == ["ok"]
    short = only(found("token", GENAPP_ENV="prod", GENAPP_INTERNAL_AUTH="hunter2"), "warning")
    assert "hunter2" not in short.finding + short.remedy


def test_prometheus_clients_own_processes() -> None:
    """Its variable is a warning, however it is written."""
    for name in ("PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir"):
        assert [remedy for _, remedy in told(found("multiprocess", **{name: "/x"}), "warning")] == [
            f"unset {name} unless you serve such metrics yourself"
        ]
    assert levels(found("multiprocess")) == ["ok"]
