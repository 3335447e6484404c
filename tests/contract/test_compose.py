"""docker-compose.yml: what it mounts is there, images are pinned, ports are local, and no secret has a default."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from tests.contract.source import ROOT

TEXT = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
SHELLLESS = frozenset({"otel/opentelemetry-collector-contrib", "jaegertracing/jaeger"})
"""Images without a program that could ask for their health."""
PROBES = {
    "prom/prometheus": "wget", "prom/alertmanager": "wget", "grafana/grafana": "wget",
    "clickhouse/clickhouse-server": "wget", "postgres": "pg_isready",
}  # fmt: skip
SECRET = re.compile(r"TOKEN|PASSWORD|AUTH|SECRET")
OPTIONAL = frozenset({"POSTGRES_PASSWORD", "CLICKHOUSE_PASSWORD"})
"""Of services in a profile: asked for by every `up` otherwise. Empty they keep the server from starting."""
each_service = pytest.mark.parametrize("name", SERVICES)


def variables(text: str) -> dict[str, str]:
    """The variables compose fills in -> what follows the name, `:?…`, `:-…` or nothing."""
    return dict(re.findall(r"(?<!\$)\$\{([A-Z_]+)(:[-?][^}]*)?\}", text))


@each_service
def test_what_is_mounted_is_there(name: str) -> None:
    """Every file and folder of the repository that a service gets exists, and it cannot write to it."""
    for mount in SERVICES[name].get("volumes", ()):
        source, _, options = mount.split(":") if mount.count(":") == 2 else (*mount.split(":"), "")
        if source.startswith("./"):
            assert (ROOT / source).exists(), source
            assert options == "ro"
        else:
            assert source in COMPOSE["volumes"]


@each_service
def test_images_are_pinned(name: str) -> None:
    """An image has a tag that says which one it is; what is built here is built from a file that is there."""
    service = SERVICES[name]
    if "build" in service:
        text = (ROOT / service["build"]["dockerfile"]).read_text(encoding="utf-8")
        images = re.findall(r"^FROM (\S+)", text, re.MULTILINE)
        for copied in re.findall(r"^COPY (.+) \S+$", text, re.MULTILINE):
            assert all((ROOT / path).exists() for path in copied.split())
    else:
        images = [service["image"]]
    assert images
    assert all(re.fullmatch(r"[^:]+:v?\d+\.\d+[\w.-]*", image) for image in images)


@each_service
def test_ports_are_local(name: str) -> None:
    """No port is open to another machine."""
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", ()))


@each_service
def test_health_checks_can_work(name: str) -> None:
    """A service is asked by a program its image has; what its image cannot do it is not asked."""
    service = SERVICES[name]
    image = service.get("image", "").partition(":")[0]
    if image in SHELLLESS:
        assert "healthcheck" not in service
        return
    command = service["healthcheck"]["test"]
    assert command[:2] == ["CMD", PROBES.get(image, "python")]


@each_service
def test_services_are_bounded(name: str) -> None:
    """Memory and logs have limits."""
    assert {"mem_limit", "logging", "restart"} <= SERVICES[name].keys()


def test_no_secret_has_a_default() -> None:
    """What is secret is asked for by name; nothing secret is written down."""
    found = variables(TEXT)
    assert {
        name for name, rest in found.items() if SECRET.search(name) and not rest.startswith(":?")
    } == OPTIONAL
    assert all(found[name] == ":-" for name in OPTIONAL)
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            assert not SECRET.search(name) or "${" in str(value)


def test_the_example_names_every_variable() -> None:
    """`.env.example` has all of them, and sets none."""
    lines = (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()
    named = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    secrets = {one["environment"] for one in COMPOSE["secrets"].values()}
    assert named.keys() == variables(TEXT).keys() | secrets
    assert set(named.values()) == {""}


def test_names_agree_with_the_other_files() -> None:
    """Prometheus, Grafana and the layers of the collector speak of services there are."""
    texts = [
        path.read_text(encoding="utf-8")
        for path in (
            ROOT / "collector" / "prometheus" / "prometheus.yml",
            *(ROOT / "collector" / "grafana" / "provisioning").rglob("*.yaml"),
        )
    ]
    hosts = {host for text in texts for host in re.findall(r"['/]([a-z]+):\d{4,5}", text)} - {"localhost"}
    assert hosts <= SERVICES.keys()
    assert hosts >= {"demo", "collector", "alertmanager", "prometheus", "jaeger"}
