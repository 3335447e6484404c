"""The choke point before every sink of ours: spans without secrets, whoever made them.

Upstream: finished spans of any instrumentation. Downstream: the exporters. URLs are cleaned where
they are captured too (`clean_attributes`, for the sampler), so that a foreign exporter on the same
provider does not see them; everything else is cleaned here, on a copy, because a finished span
cannot be changed and belongs to its maker.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from types import MappingProxyType
from typing import Any, Final

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util import BoundedList
from opentelemetry.trace import Link, SpanContext, Status

from otel_genapp import semconv
from otel_genapp.context import user_id_of
from otel_genapp.secrets import (
    REDACTED,
    clean_path,
    clean_url,
    clean_urls_in,
    kind_of_name,
    looks_secret,
    without_secret_value,
    without_secrets,
)

TEXT_LIMIT_BYTES: Final = 32 * 1024
CUT_MARK: Final = "…[cut]"

_MARGIN_CHARS = 4096
"""Read past the limit, so that no secret is cut in two and missed."""
_KNOWN_TEXTS, _KNOWN_CHARS = 4096, 128
_DEPTH = 8
_PLAIN = frozenset({int, float, bool, type(None)})
_NO_SECRETS = frozenset({bool, type(None)})  # not even under the name of one
_GONE: Final = object()
_SURROGATES = re.compile("[\ud800-\udfff]")
_REQUEST_LINE = re.compile(r"([A-Z]{3,10} )(/\S*)")
_HEADERS = re.compile(
    r"(?:http\.(?:request|response)\.header|rpc\.\w+\.(?:request|response)\.metadata)\.(.+)"
)
_ID_HEADERS = frozenset(
    {semconv.HEADER_CORRELATION, semconv.HEADER_REQUEST, semconv.HEADER_SESSION, "traceparent"}
)
_SIGNATURE_HEADERS = frozenset({"x-hub-signature-256", "x-forwarded-client-cert"})
_URL_HEADERS = frozenset({"content-location", "location", "referer"})
_URL_KEYS = (*semconv.URL_FULL_KEYS, *semconv.URL_TARGET_KEYS, *semconv.URL_QUERY_KEYS)


class _Cleaner:
    """One way to clean text. It remembers short texts that were clean: most values repeat.

    Only clean ones, so that no secret outlives its span here.
    """

    __slots__ = ("_clean", "_remember", "_whole", "known")

    def __init__(self, clean: Callable[[str], str], *, whole: bool = False, remember: bool = True) -> None:
        self._clean = clean
        self.known: set[str] = set()
        self._remember = remember
        self._whole = whole
        """Whether a text must be seen to its end: a URL's user information ends anywhere."""

    def __call__(self, text: str) -> str:
        if text in self.known:
            return text
        clean = encodable(text)
        if not self._whole:
            clean = clean[: TEXT_LIMIT_BYTES + _MARGIN_CHARS]
        clean = _cut(self._clean(clean))
        if clean != text:
            return clean
        if self._remember and len(text) <= _KNOWN_CHARS:
            if len(self.known) >= _KNOWN_TEXTS:
                self.known.clear()
            self.known.add(text)
        return text


def encodable(text: str) -> str:
    """`text` with U+FFFD in the place of each lone surrogate."""
    return text if text.isascii() else _SURROGATES.sub("\ufffd", text)


def _cut(text: str) -> str:
    if len(text) * 4 <= TEXT_LIMIT_BYTES:
        return text
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= TEXT_LIMIT_BYTES:
        return text
    return encoded[: TEXT_LIMIT_BYTES - len(CUT_MARK.encode())].decode("utf-8", "ignore") + CUT_MARK


def _clean_name(name: str) -> str:
    found = _REQUEST_LINE.fullmatch(name)
    return found[1] + clean_path(found[2]) if found else clean_urls_in(without_secrets(name))


_NAME = _Cleaner(_clean_name)
# URLs last: the query that goes with one may begin a secret that ends after it.
_TEXT = _Cleaner(lambda text: clean_urls_in(without_secrets(text)))
_CONTENT = _Cleaner(without_secrets)
"""Prompts and answers: the query of a URL in them is part of what was said."""
_ID = _Cleaner(lambda text: without_secrets(text, keep_hex=True) if looks_secret(text) else text)
_USER = _Cleaner(lambda text: user_id_of(_ID(text)) or "", remember=False)
_URL = _Cleaner(clean_url, whole=True)
_PATH = _Cleaner(clean_path, whole=True)


class _Rule:
    """What happens to the attributes of one key: `key` as it may be shown and the cleaner of its text."""

    __slots__ = ("clean", "keeps_key", "key", "known", "plain")

    def __init__(self, key: str, clean: _Cleaner | None, *, is_secret: bool = False) -> None:
        self.key = _ID(key)
        self.keeps_key = self.key == key
        self.clean = clean
        """None: the attribute goes."""
        self.known: AbstractSet[str] = frozenset() if clean is None else clean.known
        """Texts that are clean; as `plain`, types that stay, looked at before `value` is called."""
        self.plain = _NO_SECRETS if is_secret else _PLAIN

    def value(self, value: Any, depth: int = 0) -> Any:
        """`value` itself when there is nothing to change, else a clean copy, or `_GONE`."""
        if type(value) in self.plain:
            return value
        if self.clean is None:
            return _GONE if value else value
        if self.plain is _NO_SECRETS and isinstance(value, int | float | Mapping) and value != {}:
            return REDACTED
        if isinstance(value, str):
            return self.clean(value)
        if type(value) is tuple and all(type(item) is str and item in self.known for item in value):
            return value
        if depth >= _DEPTH:
            return REDACTED
        if isinstance(value, bytes | bytearray):
            text = value.decode("utf-8", "replace")
            clean = self.clean(text)
            return value if clean is text else clean.encode()
        if isinstance(value, Mapping):
            nested = _cleaned(value, depth + 1)
            return value if nested is None else nested
        if isinstance(value, Sequence):
            items = tuple(self.value(item, depth + 1) for item in value)
            return value if all(map(operator.is_, items, value)) else items
        return value


class _Rules(dict[str, _Rule]):
    """The rule of each key, kept for the first few thousand keys of a usual length."""

    def __missing__(self, key: str) -> _Rule:
        rule = _rule(key)
        if len(self) < _KNOWN_TEXTS and len(key) <= _KNOWN_CHARS:
            self[key] = rule
        return rule


def _rule(key: str) -> _Rule:
    if key in semconv.URL_QUERY_KEYS:
        return _Rule(key, None)
    if key in semconv.URL_FULL_KEYS:
        return _Rule(key, _URL)
    if key in semconv.URL_TARGET_KEYS:
        return _Rule(key, _PATH)
    if key == semconv.USER_ID or key in semconv.USER_ID_ALIASES:
        return _Rule(key, _USER)
    if key in semconv.OWN_ID_KEYS:
        return _Rule(key, _ID)
    header = _HEADERS.fullmatch(key)
    if header is not None:
        return _Rule(key, _header_cleaner(header[1].lower().replace("_", "-")))
    if kind := kind_of_name(key):
        beside = _Cleaner(lambda text: without_secret_value(key, text), remember=False)
        return _Rule(key, beside, is_secret=kind == "certain")
    return _Rule(key, _CONTENT if key.startswith("gen_ai.") else _TEXT)


def _header_cleaner(name: str) -> _Cleaner | None:
    if kind_of_name(name) or name in _SIGNATURE_HEADERS:
        return None
    if name in _ID_HEADERS:
        return _ID
    return _URL if name in _URL_HEADERS else _TEXT


_RULES = _Rules()


def clean_attributes(attributes: Mapping[str, Any]) -> dict[str, Any] | None:
    """Start attributes with clean URLs and without query, or None when they are clean already.

    Only the URL keys are looked at: this runs on the host's path, `redacted` sees the rest.
    """
    overrides = url_overrides(attributes)
    if overrides is None:
        return None
    clean = {**attributes, **overrides}
    for key in semconv.URL_QUERY_KEYS:
        clean.pop(key, None)
    return clean


def url_overrides(attributes: Mapping[str, Any]) -> dict[str, Any] | None:
    """The URL attributes to set on a span that has started already, or None when they are clean.

    What a running span carries cannot be taken away: query and fragment are set to "".
    """
    overrides: dict[str, Any] | None = None
    for key in _URL_KEYS:
        value = attributes.get(key)
        if not value or not isinstance(value, str):
            continue
        cleaner = _RULES[key].clean
        clean = "" if cleaner is None else cleaner(value)
        if clean != value:
            overrides = overrides or {}
            overrides[key] = clean
    return overrides


def redacted(span: ReadableSpan) -> ReadableSpan:
    """`span` itself when it holds no secret, else a copy without.

    Name, attributes, events, links, status, trace state and resource are cleaned: secrets become
    `[REDACTED]`, queries and sensitive headers go, lone surrogates become U+FFFD, text over 32 KiB
    is cut and marked. Counts of dropped attributes, events and links are kept.

    Raises:
        Exception: what a span not made by the SDK raises while it is read; such a span must not leave.
    """
    name = _NAME(span.name)
    attributes = _cleaned(_as_dict(span.attributes))
    events = _each(span.events, _clean_event)
    links = _each(span.links, _clean_link)
    status = _clean_status(span.status)
    context = _clean_context(span.context)
    parent = _clean_context(span.parent)
    resource = _RESOURCES.cleaned(span.resource)
    if (
        attributes is None
        and events is None
        and links is None
        and name is span.name
        and status is span.status
        and context is span.context
        and parent is span.parent
        and resource is span.resource
    ):
        return span
    return ReadableSpan(
        name=name,
        context=context,
        parent=parent,
        resource=resource,
        attributes=_counted(
            _as_dict(span.attributes) if attributes is None else attributes, span.dropped_attributes
        ),
        events=_counted_list(span.events if events is None else events, span.dropped_events),
        links=_counted_list(span.links if links is None else links, span.dropped_links),
        kind=span.kind,
        status=status,
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _as_dict(attributes: Mapping[str, Any] | None) -> dict[str, Any]:
    """One copy by the mapping itself: a walk through the SDK's attributes looks up each key anew."""
    return attributes.copy() if isinstance(attributes, MappingProxyType) else dict(attributes or {})


def _cleaned(attributes: Mapping[str, Any], depth: int = 0) -> dict[str, Any] | None:
    """A clean copy, or None when there is nothing to change."""
    changes: dict[str, Any] | None = None
    for key, value in attributes.items():
        rule = _RULES[key]
        kind = type(value)
        if rule.keeps_key and (kind in rule.plain or (kind is str and value in rule.known)):
            continue
        clean = rule.value(value, depth)
        if clean is not value or not rule.keeps_key:
            changes = changes or {}
            changes[key] = clean
    if changes is None:
        return None
    result: dict[str, Any] = {}
    for key, value in attributes.items():
        clean = changes.get(key, value)
        if clean is not _GONE:
            result[_RULES[key].key] = clean
    return result


def _each(items: Sequence[Any], clean: Callable[[Any], Any]) -> list[Any] | None:
    """The items cleaned, or None when all of them are clean."""
    if not items:
        return None
    cleaned = [clean(item) for item in items]
    return None if all(map(operator.is_, cleaned, items)) else cleaned


def _clean_event(event: Event) -> Event:
    name = _TEXT(event.name)
    attributes = _cleaned(event.attributes) if event.attributes else None
    if attributes is None and name is event.name:
        return event
    kept = event.attributes if attributes is None else _counted(attributes, event.dropped_attributes)
    return Event(name, kept, event.timestamp)


def _clean_link(link: Link) -> Link:
    attributes = _cleaned(link.attributes) if link.attributes else None
    context = _clean_context(link.context) or link.context
    if attributes is None and context is link.context:
        return link
    kept = link.attributes if attributes is None else _counted(attributes, link.dropped_attributes)
    return Link(context, kept)


def _clean_status(status: Status) -> Status:
    description = status.description
    if not description:
        return status
    clean = _TEXT(description)
    return status if clean is description else Status(status.status_code, clean)


def _clean_context(context: SpanContext | None) -> SpanContext | None:
    if context is None or not context.trace_state:
        return context
    state = context.trace_state
    for key, value in tuple(state.items()):
        if looks_secret(value) or looks_secret(f"{key}={value}"):
            state = state.delete(key)
    if state is context.trace_state:
        return context
    return SpanContext(context.trace_id, context.span_id, context.is_remote, context.trace_flags, state)


def _counted(attributes: dict[str, Any], dropped: int) -> Mapping[str, Any]:
    """The attributes in a shape that still says how many the SDK has dropped."""
    if not dropped:
        return attributes
    counted = BoundedAttributes(attributes=attributes)
    counted.dropped = dropped
    return counted


def _counted_list(items: Sequence[Any], dropped: int) -> Sequence[Any]:
    if not dropped:
        return items
    counted = BoundedList.from_seq(None, items)
    counted.dropped = dropped
    return counted


class _Resources:
    """Resources cleaned once each: the spans of a provider share one."""

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: tuple[tuple[Resource, Resource], ...] = ()

    def cleaned(self, resource: Resource) -> Resource:
        for original, clean in self._seen:
            if original is resource:
                return clean
        clean = _clean_resource(resource)
        self._seen = ((resource, clean), *self._seen[:7])
        return clean


def _clean_resource(resource: Resource) -> Resource:
    """Long hexadecimal stays: hosts, containers and machines are named by it."""
    attributes = {}
    for key, value in resource.attributes.items():
        rule = _RULES[key] if kind_of_name(key) else _Rule(key, _ID)
        attributes[rule.key] = rule.value(value)
    if attributes == dict(resource.attributes):
        return resource
    return Resource(attributes, resource.schema_url)


_RESOURCES = _Resources()
