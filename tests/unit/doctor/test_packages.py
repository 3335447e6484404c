"""Versions and libraries as the doctor sees them."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
from packaging.requirements import Requirement

from otel_genapp.cli.doctor import libraries, packages
from tests.unit.doctor.looks import found, levels, only, told


def wishes(*lines: str) -> list[Requirement]:
    return [Requirement(line) for line in lines]


def test_this_installation_fits() -> None:
    """What constraints.txt pins has no misfits."""
    assert levels(found("python")) == ["ok"]
    assert levels(found("packages")) == ["ok"]


def test_an_old_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Python that is too old is a problem, Windows a warning."""
    monkeypatch.setattr(sys, "version_info", (3, 10, 1))
    monkeypatch.setattr(sys, "platform", "win32")
    assert levels(found("python")) == ["problem", "warning"]


def test_what_this_package_wants() -> None:
    """Missing and unfit requirements are problems, those of extras warnings."""
    own = wishes(
        "opentelemetry-sdk>=1.45.1,<2", "wrapt>=1.16", 'fastapi>=0.115; extra == "fastapi"', "psutil"
    )
    versions = {"opentelemetry-sdk": "1.20.0", "fastapi": "0.50", "psutil": "7"}
    findings = list(packages.own_misfits(own, versions))
    assert levels(findings) == ["problem", "problem", "warning"]
    assert findings[0].finding.startswith("opentelemetry-sdk 1.20.0 does not fit otel-genapp")
    assert findings[1].remedy == "pip install 'wrapt>=1.16'"


def test_what_opentelemetry_wants_of_itself() -> None:
    """A beta beside an SDK of another release is a problem that names both."""
    wanted = {
        "opentelemetry-instrumentation-flask": wishes(
            "opentelemetry-instrumentation==0.60b0", "flask>=1", 'opentelemetry-x==1; extra == "x"'
        )
    }
    versions = {"opentelemetry-instrumentation-flask": "0.60b0", "opentelemetry-instrumentation": "0.66b1"}
    [misfit] = packages.family_misfits(wanted, versions)
    assert misfit.finding == (
        "opentelemetry-instrumentation-flask 0.60b0 wants opentelemetry-instrumentation==0.60b0, installed is 0.66b1"
    )
    assert (
        list(packages.family_misfits(wanted, {**versions, "opentelemetry-instrumentation": "0.60b0"})) == []
    )


def having(monkeypatch: pytest.MonkeyPatch, **versions: str) -> None:
    named = {name.replace("_", "-"): version for name, version in versions.items()}
    monkeypatch.setattr(libraries, "installed", lambda: (named, {}))


def test_frameworks_and_their_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    """A framework without its instrumentation is a warning with the extra; what is not there is told."""
    having(monkeypatch, flask="3.1.3", httpx="0.28.1")
    findings = found("frameworks")
    assert told(findings, "warning") == [
        (
            "flask 3.1.3 is instrumented in part or not at all: opentelemetry-instrumentation-flask is not installed",
            "pip install 'otel-genapp[flask]'",
        )
    ]
    assert told(findings, "ok")[-1] == ("not installed: fastapi, httpx2, aiohttp", "")


def test_sdks(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told of each SDK whether its calls are read, and that none is when the reading is off."""
    having(monkeypatch, openai="3.1", boto3="1.40")
    assert [text for text, _ in told(found("sdks"), "ok")] == [
        f"boto3 1.40: {libraries.SDKS['boto3']}", f"openai 3.1: {libraries.READ}",
    ]  # fmt: skip
    assert only(found("sdks", GENAPP_LLM_WIRE="false"), "warning").remedy == "unset GENAPP_LLM_WIRE"
    having(monkeypatch)
    assert levels(found("sdks")) == ["ok"]


@pytest.mark.parametrize(
    "name",
    [
        "opentelemetry-instrumentation-openai", "opentelemetry-instrumentation-openai-v2",
        "openinference-instrumentation-langchain", "traceloop-sdk", "langfuse", "openlit",
    ],
)  # fmt: skip
def test_others_that_make_llm_spans(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Each is a warning that says that calls are counted once, and how to keep one."""
    having(monkeypatch, **{name: "1.0"})
    single = only(found("doubles"), "warning")
    assert (f"{name} 1.0" in single.finding, f"pip uninstall {name}" in single.remedy) == (True, True)


def test_others_that_make_server_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    """Starlette's instrumentation beside FastAPI is a warning; FastAPI's own is used by us."""
    having(
        monkeypatch,
        fastapi="0.165", opentelemetry_instrumentation_starlette="0.66b1", opentelemetry_instrumentation_fastapi="0.66b1",
    )  # fmt: skip
    assert sorted(levels(found("doubles"))) == ["ok", "warning"]


def test_automatic_instrumentation(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is seen in the path and in the process, and its variable alone is a warning too."""
    having(monkeypatch)
    folder = "/x/opentelemetry/instrumentation/auto_instrumentation"
    disabled = "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"
    assert "is active (PYTHONPATH)" in only(found("doubles", PYTHONPATH=folder), "warning").finding
    assert "this package does not" in only(found("doubles", **{disabled: "flask"}), "warning").finding
    monkeypatch.setitem(sys.modules, "sitecustomize", SimpleNamespace(__file__=f"{folder}/sitecustomize.py"))
    assert "is active (sitecustomize)" in only(found("doubles"), "warning").finding
