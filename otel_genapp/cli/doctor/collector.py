"""The way to the collector: what is configured, and whether somebody answers there."""

from __future__ import annotations

import importlib.util
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

from otel_genapp.bootstrap import providers
from otel_genapp.cli.doctor.finding import Finding, Inspection, ok, problem, warning
from otel_genapp.config import Settings, without_userinfo
from otel_genapp.errors import MissingDependencyError
from otel_genapp.pipeline.export.answers import Answer, Verdict
from otel_genapp.pipeline.export.packing import Parcel
from otel_genapp.pipeline.export.wire import wire_of

GRPC, HTTP = "grpc", "http/protobuf"
USUAL_PORTS = {4317: GRPC, 4318: HTTP}
_GRPC_EXPORTER = "opentelemetry.exporter.otlp.proto.grpc"
_HEADERS = "OTEL_EXPORTER_OTLP_HEADERS"
_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


def check_otlp(inspection: Inspection) -> Iterator[Finding]:
    """Whether endpoint, protocol and packages go together."""
    settings = inspection.settings
    if settings is None:
        return
    found = [finding for signal in _signals(settings) for finding in _mismatches(signal, inspection)]
    if any(protocol == GRPC for _, _, protocol in _signals(settings)) and not _has_grpc():
        error = MissingDependencyError("opentelemetry-exporter-otlp-proto-grpc", "otlp-grpc")
        found.append(
            problem(
                "the protocol is grpc and its exporter is not installed", str(error).partition("Run: ")[2]
            )
        )
    yield from dict.fromkeys(found)
    if found:
        return
    if not _signals(settings):
        yield ok(f"no OTLP endpoint is configured: nothing is exported ({_ENDPOINT})")
    for name, endpoint, protocol in _signals(settings):
        yield ok(f"{name} leave over {protocol} to {without_userinfo(endpoint)}")


def check_collector(inspection: Inspection) -> Iterator[Finding]:
    """Whether the collector can be reached and takes an empty request."""
    settings = inspection.settings
    if settings is None:
        return
    asked = set()
    for name, endpoint, protocol in _signals(settings):
        host, port = _address(endpoint, protocol)
        if (host, port, protocol) in asked:
            continue
        asked.add((host, port, protocol))
        unreachable = _unreachable(host, port, timeout_s=inspection.timeout_s / 3)
        if unreachable:
            yield problem(
                f"the collector for {name} at {host}:{port} cannot be reached: {unreachable}",
                f"start it, or correct {_ENDPOINT}; until then spans wait on disk",
            )
        elif protocol == GRPC and (not _has_grpc() or name != "traces"):
            yield ok(f"{host}:{port} takes connections for {name}")
        else:
            yield _told(
                _asked(settings, name, timeout_s=inspection.timeout_s / 2), f"{host}:{port}", name=name
            )
    if not asked:
        yield ok("no collector is configured")


def _signals(settings: Settings) -> list[tuple[str, str, str]]:
    """(signal, endpoint, protocol) of what is exported."""
    otel = settings.otel
    pairs = (
        ("traces", otel.traces_endpoint, otel.traces_protocol),
        ("metrics", otel.metrics_endpoint, otel.metrics_protocol),
    )
    return [signal for signal in pairs if signal[1]]


def _mismatches(signal: tuple[str, str, str], inspection: Inspection) -> Iterator[Finding]:
    name, endpoint, protocol = signal
    shown = without_userinfo(endpoint)
    _, port = _address(endpoint, protocol)
    usual = USUAL_PORTS.get(port)
    if usual is not None and usual != protocol:
        other = next(number for number, spoken in USUAL_PORTS.items() if spoken == protocol)
        yield problem(
            f"port {port} of {shown} speaks {usual} as a rule, and the protocol is {protocol}",
            f"use port {other}, or set OTEL_EXPORTER_OTLP_PROTOCOL={usual}",
        )
    own = inspection.environ.get(f"OTEL_EXPORTER_OTLP_{name.upper()}_ENDPOINT", "").strip()
    path = urlsplit(endpoint).path.rstrip("/")
    if protocol == HTTP and own and not path:
        yield warning(
            f"OTEL_EXPORTER_OTLP_{name.upper()}_ENDPOINT is taken as it is, and {shown} has no path",
            f"add /v1/{name}, or use {_ENDPOINT}, which gets it by itself",
        )
    if protocol == HTTP and not own and path.endswith(("/v1/traces", "/v1/metrics")):
        yield problem(
            f"{_ENDPOINT} ends in {path}, and the path of each signal is added to it",
            f"leave the path out of {_ENDPOINT}",
        )
    headers = inspection.environ.get(_HEADERS, "").strip()
    if headers and any("=" not in part for part in headers.split(",") if part.strip()):
        yield problem(
            f"{_HEADERS} has a part without =", "write name=value,name=value; spaces in values as %20"
        )


def _has_grpc() -> bool:
    try:
        return importlib.util.find_spec(_GRPC_EXPORTER) is not None
    except ModuleNotFoundError:
        return False


def _address(endpoint: str, protocol: str) -> tuple[str, int]:
    """Host and port of an endpoint; gRPC's may be without a scheme."""
    parts = urlsplit(endpoint if "://" in endpoint else f"//{endpoint}")
    try:
        port = parts.port
    except ValueError:
        port = None
    default = 4317 if protocol == GRPC else 443 if parts.scheme == "https" else 80
    return parts.hostname or "", port or default


def _unreachable(host: str, port: int, *, timeout_s: float) -> str:
    """Why nobody can be reached there; "" if somebody can."""
    try:
        socket.create_connection((host, port), timeout=timeout_s).close()
    except TimeoutError:
        return f"no answer within {timeout_s:.1f} s"
    except (OSError, UnicodeError) as error:
        return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
    return ""


def _asked(settings: Settings, name: str, *, timeout_s: float) -> Answer:
    """What the collector says to a request with nothing in it."""
    exporter = providers.span_exporter(settings) if name == "traces" else providers.metric_exporter(settings)
    wire = wire_of(exporter)
    wire.timeout_s = min(wire.timeout_s, timeout_s)
    try:
        return wire.send(Parcel(b"", 0))
    finally:
        wire.close()


def _told(answer: Answer, where: str, *, name: str) -> Finding:
    if answer.verdict is Verdict.TAKEN:
        return ok(f"the collector at {where} takes {name}")
    said = answer.said
    if any(word in said for word in ("401", "403", "UNAUTHENTICATED", "PERMISSION_DENIED")):
        return problem(
            f"the collector at {where} refuses the credentials for {name} ({said})",
            f"set {_HEADERS}, for example to Authorization=Bearer%20…; spans wait on disk until then",
        )
    if any(word in said for word in ("404", "405", "UNIMPLEMENTED")):
        return problem(
            f"{where} answers {said}: it takes no {name}",
            f"check path and port of {_ENDPOINT}, and that the collector has a receiver for otlp",
        )
    return problem(
        f"the collector at {where} does not take {name}: {said or answer.verdict.value}",
        "look into the collector's log; check protocol and TLS",
    )
