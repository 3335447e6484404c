"""The layers of the collector as their headers and README document them."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.otelcol import LAYERS, arguments, otelcol

README = LAYERS.parent / "README.md"
FILES = sorted(LAYERS.glob("*.yaml"))
SETTINGS = {
    "GENAPP_COLLECTOR_TOKEN": "token",
    "GENAPP_COLLECTOR_TOKEN_FILE": "/run/secrets/collector-tokens",
    "GENAPP_COLLECTOR_CERT": "/etc/otelcol/tls.crt",
    "GENAPP_COLLECTOR_KEY": "/etc/otelcol/tls.key",
    "GENAPP_COLLECTOR_FILES": "/tmp/telemetry",  # noqa: S108 - nothing is written there
    "GENAPP_TRACES_ENDPOINT": "http://127.0.0.1:14318",
    "GENAPP_REMOTE_WRITE_URL": "http://127.0.0.1:9090/api/v1/write",
    "GENAPP_CLICKHOUSE_ENDPOINT": "tcp://127.0.0.1:9000",
    "GENAPP_CLICKHOUSE_USER": "genapp",
    "GENAPP_CLICKHOUSE_PASSWORD": "password",
    "GENAPP_GATEWAYS": "[gateway-1:4317, gateway-2:4317]",
    "GENAPP_GATEWAY_TOKEN": "token",
}


def documented() -> list[tuple[str, ...]]:
    """The layers of every command line in the headers and in README, in order."""
    texts = [path.read_text() for path in (*FILES, *([README] if README.exists() else []))]
    commands = {line for text in texts for line in text.splitlines() if "otelcol-genapp --config" in line}
    return sorted({tuple(re.findall(r"--config (?:\S*/)?(\w+)\.yaml", command)) for command in commands})


def validate(*layers: str, without: str = "", folder: Path) -> str:
    """What the collector says about these layers with one setting missing; nothing when they are fine."""
    settings = {
        "PATH": os.environ["PATH"],
        "GENAPP_COLLECTOR_STATE_DIR": str(folder),
        **{name: value for name, value in SETTINGS.items() if name != without},
    }
    command = [str(otelcol()), "validate", *arguments(layers)]
    return subprocess.run(command, env=settings, check=False, capture_output=True, text=True).stderr


@pytest.mark.parametrize("layers", documented(), ids=" ".join)
def test_a_documented_combination_is_valid(layers: tuple[str, ...], tmp_path: Path) -> None:
    """The collector itself accepts every combination a reader is told to use."""
    assert validate(*layers, folder=tmp_path) == ""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_layer_is_in_a_documented_combination(path: Path) -> None:
    """So each of them has been validated above."""
    assert any(path.stem in layers for layers in documented())


def test_without_a_token_it_does_not_start(tmp_path: Path) -> None:
    """Nobody runs an open collector by forgetting a variable."""
    said = validate("base", "file", without="GENAPP_COLLECTOR_TOKEN", folder=tmp_path)
    assert "bearertokenauth: no bearer token provided" in said


def test_traces_without_a_backend_are_refused_at_start(tmp_path: Path) -> None:
    """The base alone would drop every span."""
    said = validate("base", "prometheus", folder=tmp_path)
    assert 'connector "forward/clean" used as exporter in [traces/in] pipeline but not used' in said


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_header_names_what_must_be_set(path: Path) -> None:
    """Every variable without a default is in the comment at the head, where it is looked for."""
    text = path.read_text()
    header = text.partition("\n\n")[0]
    needed = set(re.findall(r"\$\{env:(\w+)\}", text))
    assert {name for name in needed if name not in header} == set()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_nothing_listens_beyond_loopback_by_itself(path: Path) -> None:
    """Every default address is of this machine."""
    defaults = re.findall(r"^\s+(?:endpoint|host): \$\{env:\w+:-([^}]*)\}", path.read_text(), re.MULTILINE)
    assert [address for address in defaults if not address.startswith("127.0.0.1")] == []
