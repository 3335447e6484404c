"""Asking an OpenAI-compatible server for the usage of a stream, where the caller did not.

Such servers tell a stream's usage only to those who set `stream_options.include_usage` (OpenAI and
Azure never do otherwise); SDKs and langchain leave that out as soon as they are given a client.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from types import ModuleType
from typing import Any

from otel_genapp import foreign_json
from otel_genapp.clients.streams import Streams, streams_of
from otel_genapp.clients.usage_event import UsageEventFilter
from otel_genapp.network import HostRule
from otel_genapp.quiet import logger, quiet

USAGE_HOSTS = (
    "loopback", "private",
    "api.openai.com", "*.api.openai.com",
    "*.openai.azure.com", "*.cognitiveservices.azure.com",
    "dashscope.aliyuncs.com", "dashscope-intl.aliyuncs.com",
)  # fmt: skip
"""The hosts that are asked: where the option is documented and usage does not come without it.

Local ones, because vLLM, SGLang, Ollama, LM Studio, llama.cpp and the gateways in front of others
know it. Mistral, Groq, DeepSeek, Together and OpenRouter tell usage unasked."""

BODY_LIMIT_BYTES = 8 * 1024 * 1024
"""A longer body is not looked into: parsing it would hold the caller up."""
REFUSAL_LIMIT_BYTES = 64 * 1024
_REFUSALS = frozenset({400, 422})
_REFUSED_LIMIT = 256
_MARK = "otel_genapp.asked_for_usage"
"""In a request's extensions, which redirects carry along."""

_STREAM = re.compile(rb'"stream"\s*:\s*true')
_OPTION = b"stream_options"
_ASKING = b'"stream_options":{"include_usage":true}'
_DIGESTS = (
    "content-encoding", "content-digest", "content-md5", "digest", "repr-digest", "signature",
    "x-amz-content-sha256",
)  # fmt: skip
"""A body under one of these is compressed or signed, and stays as it is."""

_guarded = quiet("capture")


class UsageAsking:
    """Which requests of one client are made to ask; `ask` never raises."""

    __slots__ = ("_hosts", "_library", "_refused", "_streams")

    def __init__(self, library: ModuleType, hosts: str | Iterable[str]) -> None:
        text = hosts if isinstance(hosts, str) else ",".join(hosts)
        self._hosts = HostRule(text, "usage_hosts")
        self._library = library
        self._streams = streams_of(library)
        self._refused: set[str] = set()

    def ask(self, request: Any) -> AskedRequest | None:
        """A copy of `request` that asks, or None: it asks already, or is not one to be touched."""
        with _guarded:
            if request.method != "POST" or not request.url.path.endswith("/completions"):
                return None
            if _MARK in request.extensions:  # a redirect that the caller follows by hand
                return AskedRequest(request, self._streams, may_be_repeated=False)
            host = request.url.raw_host.decode("ascii").rstrip(".")
            if host in self._refused or host not in self._hosts:
                return None
            body = self._asking_body(request)
            if body is not None:
                return AskedRequest(self._copy(request, body), self._streams)
        return None

    def refused(self, asked: AskedRequest) -> None:
        """Remember that a host does not know the option: it is not asked any more."""
        with _guarded:
            host = asked.request.url.raw_host.decode("ascii").rstrip(".")
            if host not in self._refused and len(self._refused) < _REFUSED_LIMIT:
                self._refused.add(host)
                logger.warning(
                    "%s refuses stream_options: this client does not ask it for the usage of streams "
                    "any more, and without being asked it may not tell",
                    host,
                )

    def _asking_body(self, request: Any) -> bytes | None:
        try:
            body: bytes = request.content
        except self._library.RequestNotRead:
            return None
        headers = request.headers
        if len(body) > BODY_LIMIT_BYTES or any(name in headers for name in _DIGESTS):
            return None
        return asking_body(body)

    def _copy(self, request: Any, body: bytes) -> Any:
        # The caller's own stays as it is: it may be sent again, by another client.
        headers = request.headers.copy()
        if "content-length" in headers:
            headers["content-length"] = str(len(body))
        headers["accept-encoding"] = "identity"  # so that the event is found in plain bytes
        return self._library.Request(
            request.method,
            request.url,
            headers=headers,
            content=body,
            extensions={**request.extensions, _MARK: True},
        )


class AskedRequest:
    """A request that asks for usage, and what its answer must be freed of."""

    __slots__ = ("_may_be_repeated", "_streams", "request")

    def __init__(self, request: Any, streams: Streams, *, may_be_repeated: bool = True) -> None:
        self.request = request
        self._streams = streams
        self._may_be_repeated = may_be_repeated

    def is_refusal(self, response: Any) -> bool:
        """Whether the answer says that it does not know the option: without it, all may be well.

        What is read of the answer is put back.
        """
        if not self._may_be_refusal(response):
            return False
        if response.is_stream_consumed:
            return _OPTION in response.content
        begun: list[bytes] = []
        chunks = iter(response.stream)
        for chunk in chunks:
            begun.append(chunk)
            if sum(map(len, begun)) > REFUSAL_LIMIT_BYTES:
                break
        response.stream = self._streams.resumed(response.stream, begun=begun, chunks=chunks)
        return _OPTION in b"".join(begun)

    async def is_refusal_async(self, response: Any) -> bool:
        """As `is_refusal`."""
        if not self._may_be_refusal(response):
            return False
        if response.is_stream_consumed:
            return _OPTION in response.content
        begun: list[bytes] = []
        chunks = aiter(response.stream)
        async for chunk in chunks:
            begun.append(chunk)
            if sum(map(len, begun)) > REFUSAL_LIMIT_BYTES:
                break
        response.stream = self._streams.resumed_async(response.stream, begun=begun, chunks=chunks)
        return _OPTION in b"".join(begun)

    def clean(self, response: Any) -> None:
        """Have the event that was caused here taken out of the answer.

        A server that compresses although asked not to is passed on as it is.
        """
        with _guarded:
            if response.is_stream_consumed:
                _clean_content(response)
            elif isinstance(response.stream, self._streams.kind):
                response.stream = self._streams.filtered(response.stream)
            elif isinstance(response.stream, self._streams.kind_async):
                response.stream = self._streams.filtered_async(response.stream)

    def _may_be_refusal(self, response: Any) -> bool:
        return self._may_be_repeated and response.status_code in _REFUSALS


def asking_body(body: bytes) -> bytes | None:
    """`body` with the option set, and nothing else changed; None where it is not to be set."""
    if _STREAM.search(body) is None:
        return None
    try:
        said = foreign_json.loads(body)
        if not isinstance(said, dict) or said.get("stream") is not True:
            return None
        if "stream_options" not in said:
            # Not written anew: numbers and texts stay as their writer had them.
            end = body.rindex(b"}")
            return body[:end] + b"," + _ASKING + body[end:]
        options = {} if said["stream_options"] is None else said["stream_options"]
        if not isinstance(options, dict) or "include_usage" in options:
            return None
        said["stream_options"] = {**options, "include_usage": True}
        return json.dumps(said, separators=(",", ":"), allow_nan=False).encode("ascii")
    except (ValueError, RecursionError):
        return None


def _clean_content(response: Any) -> None:
    """Take the event out of an answer that a hook or an authentication has read already."""
    event_filter = UsageEventFilter()
    kept = event_filter.feed(response.content)
    response._content = kept + event_filter.end()  # noqa: SLF001 - nothing public sets what was read
