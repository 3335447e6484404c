"""Whether secrets survive the redaction: some are planted in a span, and looked for afterwards."""

from __future__ import annotations

import base64
import secrets
import string
from collections.abc import Iterator, Mapping

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from otel_genapp.cli.doctor.finding import Finding, Inspection, ok, problem
from otel_genapp.pipeline.redact import redacted

_LETTERS = string.ascii_letters + string.digits


def check_redaction(_: Inspection) -> Iterator[Finding]:
    """Whether what must not leave is taken out of a span, wherever it stands."""
    planted = plant()
    left = survivors(planted, redacted(span_with(planted)))
    if left:
        yield problem(
            f"secrets survive the redaction: {', '.join(left)}",
            "do not export traces, and report it: this is a bug",
        )
    else:
        yield ok(f"{len(planted)} kinds of secrets were planted in a span, and none survives")


def plant() -> dict[str, tuple[str, str]]:
    """Kind -> (text with a secret in it, the part that must not be found), made anew each time."""
    value, password = _random(40), _random(20)
    user = base64.b64encode(f"anna:{password}".encode()).decode()
    return {
        "API key": (f"sk-proj-{value}", value),
        "GitHub token": (f"ghp_{value[:36]}", value[:36]),
        "AWS key": (f"AKIA{value[:16].upper()}", value[:16].upper()),
        "bearer token": (f"Authorization: Bearer {value}", value),
        "basic credentials": (f"Authorization: Basic {user}", user),
        "password in a URL": (f"postgresql://anna:{password}@db/shop", password),
        "password beside its name": (f'{{"password": "{password}"}}', password),
        "query parameter": (f"https://api.example.com/v1?api_key={value}", value),
        "Telegram token": (f"https://api.telegram.org/bot123456789:{value[:35]}/send", value[:35]),
        "cookie": (f"Cookie: session={value}", value),
    }


def span_with(planted: Mapping[str, tuple[str, str]]) -> ReadableSpan:
    """A span with every secret in its name, attributes, events, status and resource."""
    texts = [text for text, _ in planted.values()]
    attributes = {f"planted.{number}": text for number, text in enumerate(texts)}
    context = SpanContext(1, 1, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    return ReadableSpan(
        name=" ".join(texts),
        context=context,
        kind=SpanKind.INTERNAL,
        attributes={**attributes, "planted.all": texts, "http.url": texts[7]},
        events=[Event("exception", {"exception.message": "\n".join(texts)}, 1)],
        status=Status(StatusCode.ERROR, " ".join(texts)),
        resource=Resource(attributes),
        start_time=1,
        end_time=2,
    )


def survivors(planted: Mapping[str, tuple[str, str]], span: ReadableSpan) -> list[str]:
    """The kinds that can still be found in a span."""
    text = f"{span.to_json()} {span.resource.to_json()}"
    return [kind for kind, (_, core) in planted.items() if core in text]


def _random(length: int) -> str:
    """Random text with letters of both kinds and a digit in any 16 characters of it."""
    return "".join(secrets.choice(_LETTERS[place % 3 :: 3]) for place in range(length - 3)) + "aB7"
