"""Where things go: the state directory, the store, the collector, the price tables, and what must not go anywhere."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import stat
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_genapp.cli.doctor.findings import Examined, Finding
from otel_genapp.cli.stores import NOT_THERE, missing, said_by, within
from otel_genapp.config import ENVIRONMENT, Settings, state_home, without_userinfo
from otel_genapp.errors import GenappError
from otel_genapp.ledger.opening import open_store
from otel_genapp.pipeline.pricing import Prices
from otel_genapp.pipeline.redact import redacted
from otel_genapp.state_directory import StateDirectory, directory_name

ANSWER_S = 8.0
_LEAST_FREE_BYTES = 200 * 2**20
_SECRETS = {
    "an OpenAI key": "sk-proj-" + "a1B2c3D4" * 6, "a bearer token": "Bearer " + "eyJhbGciOiJIUzI1NiJ9." * 2 + "abc",
    "an AWS key": "AKIA" + "ABCDEFGH12345678", "a password in a URL": "https://user:hunter2secret@db.example.com/x",
    "a bot token": "123456789:AA" + "bCdEfGhIjKlMnOpQrStUvWxYz0123456",
}  # fmt: skip
_HIDDEN = ("a1B2c3D4a1B2", "eyJhbGciOiJIUzI1NiJ9.eyJ", "ABCDEFGH12345678", "hunter2secret", "bCdEfGhIjKlMnOp")


def state_directory(examined: Examined) -> Iterator[Finding]:
    """Ours alone, with room, and nothing set aside."""
    if examined.settings is None:
        return
    path = _path_of(examined.settings)
    if not os.path.lexists(path):
        base = next((one for one in path.parents if one.exists()), path)
        if not os.access(base, os.W_OK):
            yield _bad_place(f"{base} is not writable, and {path} is not there")
        else:
            yield Finding("state directory", "ok", f"{path} will be made")
        return
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        yield _bad_place(f"{path} is a symbolic link, which is refused")
    elif not stat.S_ISDIR(status.st_mode):
        yield _bad_place(f"{path} is no directory")
    elif hasattr(os, "geteuid") and status.st_uid != os.geteuid():
        yield _bad_place(f"{path} belongs to user {status.st_uid}")
    elif stat.S_IMODE(status.st_mode) & 0o077:
        yield Finding("state directory", "problem", f"{path} may be read by others", f"chmod 700 {path}")
    elif not os.access(path, os.W_OK | os.X_OK):
        yield _bad_place(f"{path} is not writable")
    else:
        yield Finding("state directory", "ok", str(path))
        yield from _inside(path)


def store(examined: Examined) -> Iterator[Finding]:
    """It answers, and knows this version's tables."""
    settings = examined.settings
    if settings is None or settings.otel.disabled:
        return
    path = _path_of(settings)
    if not settings.store and not path.is_dir():
        yield Finding("store", "ok", "a SQLite file will be made in the state directory")
        return
    shown = without_userinfo(settings.store) or "SQLite in the state directory"

    def ask() -> int | str:
        opened = open_store(settings, StateDirectory(path if path.is_dir() else None), on_evict=lambda: None)
        if opened.path is not None and missing(opened.path) == NOT_THERE and not opened.see_problem():
            return f"{opened.path} will be made"
        try:
            return opened.store.sessions(limit=1, cursor=None).total
        finally:
            opened.store.close()

    answer = within(ANSWER_S, ask)
    if isinstance(answer, int):
        yield Finding("store", "ok", f"{shown}: {answer:,} sessions")
    elif isinstance(answer, str):
        yield Finding("store", "ok", answer)
    elif answer is None:
        yield Finding(
            "store", "problem", f"{shown} does not answer within {ANSWER_S:g} s",
            f"start it, or correct {ENVIRONMENT['store']}; calls wait in the journal meanwhile",
        )  # fmt: skip
    else:
        remedy = (
            "do as the message says"
            if isinstance(answer, GenappError)
            else f"correct {ENVIRONMENT['store']}, or start it"
        )
        yield Finding("store", "problem", f"{shown}: {said_by(answer)}", remedy)


def collector(examined: Examined) -> Iterator[Finding]:
    """The endpoint fits its protocol, and takes spans."""
    settings = examined.settings
    if settings is None:
        return
    endpoint, protocol = settings.otel.traces_endpoint, settings.otel.traces_protocol
    if not endpoint and settings.store.startswith("clickhouse"):
        yield Finding(
            "collector", "warning", "no OTLP endpoint is set, and ClickHouse has traces from a collector only",
            "set OTEL_EXPORTER_OTLP_ENDPOINT to a collector that has clickhouse.yaml; sessions need none",
        )  # fmt: skip
        return
    if not endpoint:
        yield Finding("collector", "ok", "no OTLP endpoint is set: spans stay in the store")
        return
    place = urlsplit(endpoint if "://" in endpoint else f"http://{endpoint}")
    port = place.port or (443 if place.scheme == "https" else 80)
    wrong = {4317: "http/protobuf", 4318: "grpc"}.get(port)
    if protocol == wrong:
        right = "grpc" if wrong == "http/protobuf" else "http/protobuf"
        yield Finding(
            "collector", "problem", f"port {port} of {without_userinfo(endpoint)} speaks {right}, and {protocol} is set",
            f"set OTEL_EXPORTER_OTLP_PROTOCOL={right}, or the other port",
        )  # fmt: skip
    elif protocol == "grpc" and importlib.util.find_spec("opentelemetry.exporter.otlp.proto.grpc") is None:
        yield Finding(
            "collector",
            "problem",
            "OTLP over grpc is set and its exporter is not installed",
            "pip install 'otel-genapp[otlp-grpc]'",
        )
    elif protocol == "grpc":
        yield _reached(place.hostname or "", port, shown=without_userinfo(endpoint))
    else:
        yield _asked(examined, endpoint)


def prices(examined: Examined) -> Iterator[Finding]:
    """The tables, and the price file if there is one."""
    path = examined.settings.prices if examined.settings is not None else ""
    try:
        tables = Prices(path)
    except GenappError as error:
        yield Finding(
            "prices", "problem", str(error), "correct the file; `otel-genapp prices check` shows what it says"
        )
        return
    tables.prepare()
    if tables.problem:
        yield Finding("prices", "warning", tables.problem, "pip install 'otel-genapp[cost]', or a price file")
    else:
        yield Finding("prices", "ok", ", ".join(str(one) for one in tables.tables()))


def redaction(_examined: Examined) -> Iterator[Finding]:
    """Secrets in every place of a span do not pass the point through which all sinks are fed."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    for name, secret in _SECRETS.items():
        span = provider.get_tracer("doctor").start_span(
            f"to {secret}", attributes={"note": secret, "list": [secret]}
        )
        span.add_event("said", {"text": f"{name}: {secret}"})
        span.end()
    said = " ".join(redacted(span).to_json() for span in exporter.get_finished_spans())
    passed = [name for name, hidden in zip(_SECRETS, _HIDDEN, strict=True) if hidden in said]
    if passed:
        yield Finding(
            "redaction",
            "problem",
            f"{', '.join(passed)} would leave",
            "tell the maintainers: this must not be",
        )
    else:
        yield Finding(
            "redaction", "ok", f"{len(_SECRETS)} kinds of secrets in every place of a span: none passes"
        )


def _path_of(settings: Settings) -> Path:
    base = Path(settings.state_dir).expanduser() if settings.state_dir else state_home()[0]
    return base.absolute() / directory_name(settings.app, settings.env)


def _bad_place(found: str) -> Finding:
    return Finding(
        "state directory", "problem", found, f"set {ENVIRONMENT['state_dir']} to a directory of the app's own"
    )


def _inside(path: Path) -> Iterator[Finding]:
    names = [one.name for one in path.iterdir()]
    free = shutil.disk_usage(path).free
    if free < _LEAST_FREE_BYTES:
        yield Finding(
            "state directory",
            "problem",
            f"{free / 1e6:.0f} MB are free on its disk",
            "make room: journals need it",
        )
    aside = [name for name in names if name.endswith(".bad") or ".damaged-" in name]
    if aside:
        yield Finding(
            "state directory", "warning", f"set aside as damaged: {', '.join(sorted(aside)[:5])}",
            "look at the disk; remove them when they are of no more use",
        )  # fmt: skip


def _reached(host: str, port: int, *, shown: str) -> Finding:
    try:
        with socket.create_connection((host, port), timeout=ANSWER_S):
            return Finding("collector", "ok", f"{shown} takes connections")
    except OSError as error:
        return _unreached(shown, error)


def _unreached(shown: str, error: OSError) -> Finding:
    return Finding(
        "collector", "problem", f"{shown} cannot be reached: {getattr(error, 'reason', error)}",
        "start it, or correct OTEL_EXPORTER_OTLP_ENDPOINT; spans wait on disk meanwhile",
    )  # fmt: skip


def _asked(examined: Examined, endpoint: str) -> Finding:
    """An empty export, with the headers that are set."""
    own = examined.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "").strip()
    url = own or f"{endpoint.rstrip('/')}/v1/traces"
    headers = {"content-type": "application/x-protobuf"}
    for pair in examined.environ.get("OTEL_EXPORTER_OTLP_HEADERS", "").split(","):
        name, _, value = pair.partition("=")
        if name.strip() and value:
            headers[name.strip()] = value.strip()
    shown = without_userinfo(url)
    try:
        asked = urllib.request.Request(url, data=b"", headers=headers, method="POST")  # noqa: S310 - checked below
        if not url.startswith(("http://", "https://")):
            return Finding(
                "collector", "problem", f"{shown} is no http address", "begin it with http:// or https://"
            )
        with urllib.request.urlopen(asked, timeout=ANSWER_S) as answer:  # noqa: S310 - http or https
            return Finding("collector", "ok", f"{shown} answers {answer.status}")
    except urllib.error.HTTPError as error:
        with suppress(OSError):
            error.read(1000)
        remedy = "correct OTEL_EXPORTER_OTLP_HEADERS" if error.code in {401, 403} else "look into its log"
        return Finding("collector", "problem", f"{shown} answers {error.code} {error.reason}", remedy)
    except (OSError, ValueError) as error:
        return _unreached(shown, error if isinstance(error, OSError) else OSError(str(error)))
