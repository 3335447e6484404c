"""A running service: whether it answers, and what its own counters say went wrong."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator

from prometheus_client.parser import text_string_to_metric_families

from otel_genapp import semconv
from otel_genapp.cli.doctor.findings import Examined, Finding
from otel_genapp.cli.sources import Service
from otel_genapp.cli.stores import SourceError
from otel_genapp.errors import ConfigError

_ANSWER_S = 10.0
_BYTES = 64 * 2**20
_TELLING = {
    semconv.TELEMETRY_DROPPED.name: ("telemetry was lost", "see the reason in README's `Nothing is lost`"),
    semconv.TELEMETRY_ERRORS.name: ("own errors were met", "look into the application's log"),
    semconv.TELEMETRY_FOLDED.name: ("label values were put together", "bind fewer different values"),
    semconv.LLM_UNKNOWN_USAGE.name: ("calls told no tokens", "use LLMHttpClient, or ask for the usage of streams"),
    semconv.LLM_UNPRICED.name: ("calls have no price", "add the model to a price file"),
}  # fmt: skip


def service(examined: Examined) -> Iterator[Finding]:
    """The service at `--url`, if that is given."""
    if not examined.url:
        return
    try:
        found = Service.of(examined.url, examined.token)
        sessions = found.sessions(by="recent", limit=1)
    except (ConfigError, SourceError) as error:
        yield Finding("service", "problem", str(error), "do as the message says")
    else:
        yield Finding("service", "ok", f"{examined.url} answers{', and has sessions' if sessions else ''}")
    if examined.url.startswith(("http://", "https://")):
        yield from _counters(examined.url.rstrip("/"))


def _counters(url: str) -> Iterator[Finding]:
    try:
        with urllib.request.urlopen(f"{url}/prometheus", timeout=_ANSWER_S) as answer:  # noqa: S310 - http or https
            text = answer.read(_BYTES).decode("utf-8", "replace")
        families = list(text_string_to_metric_families(text))
    except urllib.error.HTTPError as error:
        yield Finding(
            "service",
            "warning",
            f"{url}/prometheus answers {error.code}",
            "mount it, or let Prometheus have the token",
        )
        return
    except (OSError, ValueError) as error:
        yield Finding(
            "service", "problem", f"{url}/prometheus cannot be read: {error}", "is it this service?"
        )
        return
    for family in families:
        says = _TELLING.get(f"{family.name}_total")
        if says is None:
            continue
        for sample in family.samples:
            if sample.name.endswith("_total") and sample.value:
                of = " ".join(value for name, value in sample.labels.items() if name not in {"env", "app"})
                yield Finding("service", "warning", f"{sample.value:,.0f} {says[0]}: {of}", says[1])
