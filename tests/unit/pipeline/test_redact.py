from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from otel_genapp import semconv
from otel_genapp.pipeline import redact
from otel_genapp.pipeline.redact import CUT_MARK, TEXT_LIMIT_BYTES, clean_attributes, redacted, url_overrides
from otel_genapp.secrets import REDACTED
from tests.canary import CANARIES, HEX_KEYS, SECRETS, found_in

SECRET = SECRETS[0]
TRACE_ID = 0x4BF92F3577B34DA6A3CE929D0E0E4736
TRACE_HEX = f"{TRACE_ID:032x}"
RESOURCE = Resource({"service.name": "shop-bot", "container.id": "f0" * 32})


def span_context(*state: tuple[str, str]) -> SpanContext:
    return SpanContext(TRACE_ID, 7, is_remote=False, trace_flags=TraceFlags(1), trace_state=TraceState(state))


def span(**fields: Any) -> ReadableSpan:
    """A finished span, clean but for what is given."""
    plain: dict[str, Any] = {
        "name": "GET /items/{id}",
        "context": span_context(("vendor", "00f067aa0ba902b7")),
        "resource": RESOURCE,
        "attributes": {"url.path": "/items/12", "http.response.status_code": 200},
        "kind": SpanKind.SERVER,
        "start_time": 1,
        "end_time": 2,
    }
    return ReadableSpan(**{**plain, **fields})


def attributes_of(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def cleaned(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return attributes_of(redacted(span(attributes=attributes)))


def test_a_clean_span_is_handed_on() -> None:
    """What needs no change is the same object, exactly as an SDK made it."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("test")
    linked = Link(span_context(), {"why": "retry"})
    with tracer.start_as_current_span("chat gpt-5-mini", links=[linked]) as current:
        current.set_attributes(
            {
                "correlation.id": TRACE_HEX,
                "session.id": "550e8400-e29b-41d4-a716-446655440000",
                "gen_ai.request.model": "gpt-5-mini",
                "gen_ai.response.id": f"chatcmpl-{TRACE_HEX}",
                "gen_ai.response.finish_reasons": ["stop"],
                "gen_ai.usage.input_tokens": 12,
                "http.request.header.traceparent": [f"00-{TRACE_HEX}-00f067aa0ba902b7-01"],
                "url.full": "https://api.openai.com/v1/chat/completions",
                "flag": True,
            }
        )
        current.add_event("first token", {"after_ms": 12.5})
        current.set_status(Status(StatusCode.ERROR, "it was too long"))
    [finished] = exporter.get_finished_spans()
    provider.shutdown()
    assert redacted(finished) is finished


def test_every_part_of_a_span_is_cleaned() -> None:
    """Name, attributes, events, links, status, trace state and resource lose the secret, all else stays."""
    dirty = span(
        name=f"chat {SECRET}",
        context=span_context(("vendor", "00f067aa0ba902b7"), ("bad", SECRET)),
        parent=span_context(("bad", SECRET)),
        resource=Resource({"service.name": "shop-bot", "process.command_line": f"run --api-key={SECRET}"}),
        attributes={"n": 1, "said": f"it is {SECRET}", "list": ("a", SECRET), f"key {SECRET}": 2},
        events=[
            Event(f"event {SECRET}", {"exception.message": f"bad {SECRET}", "n": 1}, 5),
            Event("fine", {}, 6),
        ],
        links=[Link(span_context(("bad", SECRET)), {"why": SECRET})],
        status=Status(StatusCode.ERROR, f"failed: {SECRET}"),
    )
    clean = span(
        name=f"chat {REDACTED}",
        context=span_context(("vendor", "00f067aa0ba902b7")),
        parent=span_context(),
        resource=Resource({"service.name": "shop-bot", "process.command_line": f"run --api-key={REDACTED}"}),
        attributes={"n": 1, "said": f"it is {REDACTED}", "list": ("a", REDACTED), f"key {REDACTED}": 2},
        events=[
            Event(f"event {REDACTED}", {"exception.message": f"bad {REDACTED}", "n": 1}, 5),
            Event("fine", {}, 6),
        ],
        links=[Link(span_context(), {"why": REDACTED})],
        status=Status(StatusCode.ERROR, f"failed: {REDACTED}"),
    )
    assert json.loads(redacted(dirty).to_json()) == json.loads(clean.to_json())
    assert (redacted(dirty).kind, redacted(dirty).start_time, redacted(dirty).end_time) == (
        SpanKind.SERVER,
        1,
        2,
    )


PLACES: dict[str, Callable[[str], dict[str, Any]]] = {
    "name": lambda text: {"name": f"chat {text}"},
    "route name": lambda text: {"name": f"GET /v1/{text}"},
    "url.full path": lambda text: {"attributes": {"url.full": f"https://h/{text}/x"}},
    "url.full query": lambda text: {"attributes": {"url.full": f"https://h/x?a={text}"}},
    "url.full userinfo": lambda text: {"attributes": {"http.url": f"https://u:{text}@h/x"}},
    "url.query": lambda text: {"attributes": {"url.query": text, "url.fragment": text}},
    "url.path": lambda text: {"attributes": {"url.path": f"/a/{text}", "http.target": f"/a?b={text}"}},
    "header": lambda text: {"attributes": {"http.request.header.x-custom": (text,)}},
    "secret header": lambda text: {"attributes": {"http.request.header.authorization": (text,)}},
    "prompt": lambda text: {"attributes": {"gen_ai.input.messages": json.dumps([{"content": text}])}},
    "tool arguments": lambda text: {"attributes": {"gen_ai.tool.call.arguments": json.dumps({"q": text})}},
    "model": lambda text: {"attributes": {"gen_ai.request.model": text}},
    "own id": lambda text: {"attributes": {"session.id": text, "correlation.id": text, "user.id": text}},
    "bytes": lambda text: {"attributes": {"raw": f"a {text}".encode()}},
    "nested": lambda text: {"attributes": {"body": {"list": [{"deep": text}]}}},
    "exception": lambda text: {"events": [Event("exception", {"exception.stacktrace": f"a\n{text}\nb"}, 1)]},
    "status": lambda text: {"status": Status(StatusCode.ERROR, f"Unauthorized: {text}")},
    "URL in text": lambda text: {"attributes": {"note": f"GET https://h/x?a={text} failed"}},
    "link": lambda text: {"links": [Link(span_context(), {"why": text})]},
    "resource": lambda text: {"resource": Resource({"service.name": "a", "note": text})},
    "attribute key": lambda text: {"attributes": {text: 1}},
}


@pytest.mark.parametrize("place", PLACES)
def test_no_secret_leaves(place: str) -> None:
    """None of 200 secrets is in what goes to the wire, wherever in a span it was."""
    spans = [redacted(span(**PLACES[place](secret))) for secret in SECRETS]
    assert found_in(encode_spans(spans).SerializeToString()) == []


def test_no_bare_key_leaves() -> None:
    """Long hexadecimal is a secret in every place but the ids, the resource and the trace state."""
    places = {
        name: plant for name, plant in PLACES.items() if name not in {"own id", "resource", "attribute key"}
    }
    spans = [redacted(span(**plant(key))) for key in HEX_KEYS for plant in places.values()]
    assert found_in(encode_spans(spans).SerializeToString()) == []


def test_trace_state_keeps_what_is_no_secret() -> None:
    """Entries that are secrets are dropped, the others keep their order."""
    state = [("a", "1"), ("b", SECRET), ("c", TRACE_HEX)]
    clean = redacted(span(context=span_context(*state))).context
    assert clean is not None
    assert list(clean.trace_state.items()) == [("a", "1"), ("c", TRACE_HEX)]


def test_sensitive_headers_go() -> None:
    """Headers that are credentials are dropped whatever they hold, in both spellings; ids stay."""
    names = [
        "authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key", "api-key", "x-internal-auth",
        "x-auth-token", "x-amz-security-token", "x-goog-api-key", "x-csrf-token", "x-hub-signature-256",
        "ocp-apim-subscription-key", "x-telegram-bot-api-secret-token", "x_api_key", "X-Vault-Token",
    ]  # fmt: skip
    kept = {
        "http.request.header.x-request-id": (TRACE_HEX,),
        "http.request.header.accept": ("*/*",),
        "http.response.header.location": ("https://h/next",),
    }
    given = {f"http.request.header.{name}": ("plain",) for name in names} | kept
    given |= {
        "http.response.header.set-cookie": ("a=b",),
        "http.response.header.location": ("https://h/next?x=1",),
    }
    assert cleaned(given) == kept


def test_numbers_under_the_name_of_a_secret_go() -> None:
    """A PIN is a password too; numbers of tokens, and what says only whether there is one, stay."""
    stays = {"gen_ai.usage.input_tokens": 48151623, "token": 7, "password_set": 1, "db.password": True}
    found = cleaned({"password": 48151623, "db.passwd": 3.5, "user.password": (1234, 5), **stays})
    assert found == {
        "password": REDACTED,
        "db.passwd": REDACTED,
        "user.password": (REDACTED, REDACTED),
        **stays,
    }


def test_own_ids_keep_their_hexadecimal() -> None:
    """A trace id or a UUID without dashes stays in the attributes that carry ids, and only there."""
    ids = dict.fromkeys(sorted(semconv.OWN_ID_KEYS), TRACE_HEX)
    assert cleaned({**ids, "other": TRACE_HEX}) == {**ids, "other": REDACTED}


def test_urls_are_cleaned_by_their_keys() -> None:
    """URL attributes keep scheme, host and path; URLs in other text lose their query, in prompts they stay."""
    assert cleaned(
        {
            "url.full": "https://u:p@h:8443/v1/items?k=1#f",
            "http.url": "http://h/v1?k=1",
            "url.path": "/v1/items",
            "http.target": "/v1/items?k=1",
            "url.query": "k=1",
            "url.fragment": "f",
            "note": "see https://h/v1?k=1 or not",
            "gen_ai.output.messages": "see https://h/watch?v=1",
            "db.password": "x7?",
        }
    ) == {
        "url.full": "https://h:8443/v1/items",
        "http.url": "http://h/v1",
        "url.path": "/v1/items",
        "http.target": "/v1/items",
        "note": "see https://h/v1 or not",
        "gen_ai.output.messages": "see https://h/watch?v=1",
        "db.password": REDACTED,
    }


def test_text_that_cannot_be_encoded_is_repaired() -> None:
    """A lone surrogate, in a key or a value, becomes U+FFFD and the span can be exported."""
    clean = redacted(span(name="a\ud800", attributes={"k\udfff": "v\ud83d", "fine": "😀"}))
    assert (clean.name, attributes_of(clean)) == ("a\ufffd", {"k\ufffd": "v\ufffd", "fine": "😀"})
    assert encode_spans([clean]).SerializeToString()


@pytest.mark.parametrize("text", ["a" * 40_000, "é" * 20_000, "x " * 30_000, "https://h/" + "a/" * 30_000])
def test_long_text_is_cut_and_marked(text: str) -> None:
    """No text is longer than 32 KiB of UTF-8; cutting it again changes nothing."""
    for key in ("note", "url.full"):
        short = cleaned({key: text})[key]
        assert short.endswith(CUT_MARK)
        assert TEXT_LIMIT_BYTES - 3 <= len(short.encode()) <= TEXT_LIMIT_BYTES
        assert cleaned({key: short})[key] == short


def test_a_secret_at_the_cut_goes() -> None:
    """A secret that the limit would cut in two is recognised as a whole."""
    room = TEXT_LIMIT_BYTES - len(CUT_MARK.encode())
    for canary in CANARIES:
        half = canary.core[: len(canary.core) // 2]
        before = room - canary.text.index(canary.core) - len(half)
        shown = cleaned({"note": "-" * (before - 1) + " " + canary.text})["note"]
        assert half not in shown, canary


def test_nesting_has_a_bottom() -> None:
    """What is nested too deep to be looked through is replaced."""
    deep: Any = "plain"
    for _ in range(20):
        deep = {"in": deep}
    shown = cleaned({"body": deep})["body"]
    assert json.dumps(shown).count("in") == 8
    assert REDACTED in json.dumps(shown)


@pytest.mark.parametrize("secret", [SECRET, 3])
def test_counts_of_what_was_dropped_are_kept(secret: str | int) -> None:
    """A copy says as its span how many attributes, events and links were dropped, wherever the secret was."""
    exporter = InMemorySpanExporter()
    limits = SpanLimits(
        max_span_attributes=2, max_events=1, max_links=1, max_event_attributes=1, max_link_attributes=1
    )
    provider = TracerProvider(span_limits=limits, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    links = [Link(span_context(), {"a": 1, "b": SECRET}) for _ in range(3)]
    started = provider.get_tracer("test").start_span("a", links=links)
    started.set_attributes({"a": 1, "b": 2, "c": secret, "d": 4})
    for _ in range(3):
        started.add_event("e", {"a": 1, "b": SECRET})
    started.end()
    [finished] = exporter.get_finished_spans()
    provider.shutdown()

    def counts(span: ReadableSpan) -> tuple[int, ...]:
        inner = (
            *(event.dropped_attributes for event in span.events),
            *(link.dropped_attributes for link in span.links),
        )
        return (span.dropped_attributes, span.dropped_events, span.dropped_links, *inner)

    clean = redacted(finished)
    assert clean is not finished
    assert counts(clean) == counts(finished) == (2, 2, 2, 1, 1)


def test_start_attributes_are_cleaned_only_where_needed() -> None:
    """Clean ones give None; else a copy without query comes back and what was given stays as it was."""
    clean = {"http.request.method": "GET", "url.path": "/v1/items", "url.query": "", "note": SECRET}
    given = {**clean, "url.query": "k=1", "url.full": "http://u:p@h/v1?k=1", "http.target": "/v1?k=1"}
    before = dict(given)
    assert clean_attributes(clean) is None
    assert clean_attributes({}) is None
    assert clean_attributes(BoundedAttributes(attributes=given)) == {
        "http.request.method": "GET",
        "url.path": "/v1/items",
        "note": SECRET,
        "url.full": "http://h/v1",
        "http.target": "/v1",
    }
    assert url_overrides(given) == {"url.query": "", "url.full": "http://h/v1", "http.target": "/v1"}
    assert url_overrides(clean) is None
    assert given == before


def test_what_is_remembered_is_bounded_and_clean() -> None:
    """After 10,000 texts and keys a few thousand short and clean ones are known, and no secret."""
    for number in range(10_000):
        redacted(
            span(
                name=f"n{number}", attributes={f"k{number}": f"v{number} {SECRET}", "url.path": f"/{number}"}
            )
        )
    for cleaner in (redact._NAME, redact._TEXT, redact._PATH, redact._ID):
        assert len(cleaner.known) <= 4096
        assert not [text for text in cleaner.known if len(text) > 128 or found_in(text)]
    assert len(redact._RULES) <= 4096


def test_a_span_that_cannot_be_read_does_not_pass() -> None:
    """The error reaches the caller, who drops the span."""

    class Broken(ReadableSpan):
        @property
        def events(self) -> Any:
            raise RuntimeError("planted")

    with pytest.raises(RuntimeError, match="planted"):
        redacted(Broken("a"))
