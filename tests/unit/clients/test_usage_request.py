from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest

from otel_genapp.clients.usage_request import BODY_LIMIT_BYTES, USAGE_HOSTS, UsageAsking, asking_body

OPTION = b'"stream_options":{"include_usage":true}'
STREAMED = b'{"stream":true}'


def asked(url: str, content: bytes = STREAMED, *, method: str = "POST") -> bool:
    request = httpx2.Request(method, url, content=content)
    return UsageAsking(httpx2, USAGE_HOSTS).ask(request) is not None


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"stream":true}', b'{"stream":true,' + OPTION + b"}"),
        (b' {"a":"}", "stream": true }\n', b' {"a":"}", "stream": true ,' + OPTION + b"}\n"),
        (b'{"stream":true,"big":123456789012345678901234567890,"f":1.10}',
         b'{"stream":true,"big":123456789012345678901234567890,"f":1.10,' + OPTION + b"}"),
        (b'\xef\xbb\xbf{"stream":true}', b'\xef\xbb\xbf{"stream":true,' + OPTION + b"}"),
        (b'{"stream":true,"stream_options":null}', b'{"stream":true,' + OPTION + b"}"),
    ],
)  # fmt: skip
def test_the_option_is_added_and_nothing_else_changes(body: bytes, expected: bytes) -> None:
    """The body stays byte for byte what its writer made, with the option at its end."""
    assert asking_body(body) == expected


def test_the_option_joins_others() -> None:
    """Options that are there already are kept, with every other value."""
    body = {"stream": True, "stream_options": {"x": [1.5, None, "ü\ud800"]}, "n": 10**30}
    made = asking_body(json.dumps(body).encode())
    assert made is not None
    assert json.loads(made) == {
        **body,
        "stream_options": {"x": [1.5, None, "ü\ud800"], "include_usage": True},
    }


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b'{"stream":false}',
        b'{"stream":1}',
        b'{"content":"say \\"stream\\": true"}',
        b'{"inner":{"stream":true}}',
        b'[{"stream":true}]',
        b'{"stream":true',
        b'{"stream":true}\xff',
        b'{"stream":true,"stream_options":{"include_usage":false}}',
        b'{"stream":true,"stream_options":{"include_usage":null}}',
        b'{"stream":true,"stream_options":"usage"}',
        b'{"stream":true,"stream_options":{},"x":1e999}',
        b'{"stream":true,"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        '{"stream":true}'.encode("utf-16"),
    ],
)
def test_what_is_no_question_for_it_is_left_alone(body: bytes) -> None:
    """No stream, an answer given already, and what is not understood to the end."""
    assert asking_body(body) is None


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://api.openai.com/v1/chat/completions", True),
        ("https://api.openai.com/v1/completions", True),
        ("https://API.OpenAI.com./v1/chat/completions", True),
        ("https://eu.api.openai.com/v1/chat/completions", True),
        ("https://shop.openai.azure.com/openai/deployments/x/chat/completions?api-version=1", True),
        ("http://127.0.0.1:8000/v1/chat/completions", True),
        ("http://[::1]:8000/v1/chat/completions", True),
        ("http://localhost:11434/v1/chat/completions", True),
        ("http://vllm:8000/v1/chat/completions", True),
        ("http://10.1.2.3/v1/chat/completions", True),
        ("https://api.mistral.ai/v1/chat/completions", False),
        ("https://example.com/v1/chat/completions", False),
        ("https://api.openai.com.example.com/v1/chat/completions", False),
        ("https://api.openai.com/v1/responses", False),
        ("https://api.openai.com/v1/chat/completions/chatcmpl-1", False),
        ("https://api.openai.com/v1/embeddings", False),
    ],
)
def test_who_is_asked(url: str, *, expected: bool) -> None:
    """Hosts that know the option, at the two paths that have it."""
    assert (asked(url), asked(url, method="GET")) == (expected, False)


def test_a_long_body_is_not_looked_into() -> None:
    """Parsing a body of many megabytes would hold the caller up."""
    body = b'{"stream":true,"x":"' + b"x" * BODY_LIMIT_BYTES + b'"}'
    assert not asked("http://localhost/v1/completions", body)


@pytest.mark.parametrize("header", ["Content-Encoding", "content-digest", "X-Amz-Content-Sha256"])
def test_a_signed_body_is_not_changed(header: str) -> None:
    """What is compressed or has a digest in its headers stays what they say."""
    request = httpx2.Request("POST", "http://localhost/completions", content=STREAMED, headers={header: "x"})
    assert UsageAsking(httpx2, USAGE_HOSTS).ask(request) is None


def test_a_length_nobody_announced_is_not_invented() -> None:
    """A body sent in chunks stays one."""
    headers: dict[str, Any] = {"transfer-encoding": "chunked"}
    request = httpx2.Request("POST", "http://localhost/completions", content=STREAMED, headers=headers)
    found = UsageAsking(httpx2, USAGE_HOSTS).ask(request)
    assert found is not None
    assert (found.request.headers["transfer-encoding"], "content-length" in found.request.headers) == (
        "chunked",
        False,
    )
