"""The fake server's Messages as Anthropic's SDK sees them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import httpx2
import pytest

from otel_genapp.fake_llm import (
    Answer,
    Cut,
    ErrorInStream,
    ErrorStatus,
    FakeLLMServer,
    MalformedJSON,
    NoUsage,
    ToolCall,
)
from tests.served_facts import expected, facts

MODEL = "claude-fake"
SCRIPT = Answer(
    "It is here.",
    tool_calls=(ToolCall("search", '{"query": "red shoes"}'),),
    input_tokens=120,
    output_tokens=40,
    cached_tokens=100,
    cache_write_tokens=7,
    reasoning_tokens=30,
)
TOLD = {"input": 120, "output": 40, "cached": 100, "cache_write": 7, "reasoning": 30}


@pytest.fixture
def server() -> Iterator[FakeLLMServer]:
    with FakeLLMServer() as running:
        yield running


@pytest.fixture
def client(server: FakeLLMServer) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=server.root_url, api_key="any", max_retries=0) as made:
        yield made


def ask(client: anthropic.Anthropic, **more: Any) -> Any:
    messages: Any = [{"role": "user", "content": "where is it"}]
    return client.messages.create(model=MODEL, max_tokens=100, messages=messages, **more)


def message(**changes: Any) -> dict[str, Any]:
    return expected("anthropic", MODEL, **changes)


def counts(usage: Any) -> tuple[int | None, ...]:
    return (
        usage.input_tokens,
        usage.cache_read_input_tokens,
        usage.cache_creation_input_tokens,
        usage.output_tokens,
    )


def test_input_leaves_out_the_cache(server: FakeLLMServer, client: anthropic.Anthropic) -> None:
    """The wire counts the cache apart, the ledger as part of the input."""
    server.script(SCRIPT)
    answer = ask(client, system="Be brief.", metadata={"user_id": "u7"})
    text, tool = answer.content
    assert (text.text, tool.name, tool.input, answer.stop_reason) == (
        "It is here.", "search", {"query": "red shoes"}, "tool_use",
    )  # fmt: skip
    assert counts(answer.usage) == (13, 100, 7, 40)
    assert answer.usage.output_tokens_details.thinking_tokens == 30
    [served] = server.ledger
    assert facts(served) == message(session="u7", tool_calls=("search",), **TOLD)
    assert (served.response_id, served.request_id) == (answer.id, answer._request_id)


def test_default_answer_counts_the_system_prompt(server: FakeLLMServer, client: anthropic.Anthropic) -> None:
    """Without a script the last message comes back, and every message has its tokens."""
    answer = ask(client, system=[{"type": "text", "text": "Be brief."}])
    assert (answer.content[0].text, answer.stop_reason) == ("You said: where is it", "end_turn")
    assert facts(server.ledger[0])["tokens"] == {
        "input": 2 + 3 + 8, "output": 5, "cached": 0, "cache_write": 0, "reasoning": 0,
    }  # fmt: skip


def test_stream_overrides_the_usage_it_began_with(server: FakeLLMServer, client: anthropic.Anthropic) -> None:
    """The start knows nothing of what is written to the cache; the end says it all."""
    server.script(SCRIPT)
    events = list(ask(client, stream=True))
    names = [event.type for event in events]
    assert names[:3] == ["message_start", "content_block_start", "content_block_delta"]
    assert names[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert counts(events[0].message.usage) == (13, 100, 0, 1)
    assert counts(events[-2].usage) == (13, 100, 7, 40)
    assert facts(server.ledger[0]) == message(stream=True, tool_calls=("search",), **TOLD)


def test_managed_stream_puts_the_message_together(server: FakeLLMServer, client: anthropic.Anthropic) -> None:
    """The SDK's own accumulator arrives at the scripted message."""
    server.script(SCRIPT)
    messages: Any = [{"role": "user", "content": "where"}]
    with client.messages.stream(model=MODEL, max_tokens=100, messages=messages) as stream:
        answer = stream.get_final_message()
    text, tool = answer.content
    assert (text.type, tool.type, counts(answer.usage)) == ("text", "tool_use", (13, 100, 7, 40))
    assert tool.type == "tool_use"
    assert tool.input == {"query": "red shoes"}


async def test_async_client_streams(server: FakeLLMServer) -> None:
    """The async SDK gets its stream over a kept-alive connection."""
    server.script(Answer("It is here."))
    async with anthropic.AsyncAnthropic(base_url=server.root_url, api_key="any") as client:
        messages: Any = [{"role": "user", "content": "where"}]
        stream = await client.messages.create(model=MODEL, max_tokens=100, messages=messages, stream=True)
        words = [event.delta.text async for event in stream if event.type == "content_block_delta"]  # type: ignore[union-attr]
    assert words == ["It", " is", " here."]


def test_cut_stream_has_told_what_it_began_with(server: FakeLLMServer, client: anthropic.Anthropic) -> None:
    """Of a stream cut in the middle, the client knows the start's usage, and so does the ledger."""
    server.script(Answer("It is here.", input_tokens=20, cached_tokens=5, fault=Cut(after_chunks=4)))
    stream = ask(client, stream=True)
    with pytest.raises(httpx2.HTTPError):
        list(stream)
    told = {"input": 20, "output": 1, "cached": 5, "cache_write": 0}
    assert facts(server.ledger[0]) == message(stream=True, outcome="cut", **told)


def test_overload_in_mid_stream(server: FakeLLMServer, client: anthropic.Anthropic) -> None:
    """An error event raises in the SDK with the message of the script."""
    server.script(Answer("one two", fault=ErrorInStream(after_chunks=3, message="Overloaded")))
    with pytest.raises(anthropic.APIStatusError, match="Overloaded") as raised:
        list(ask(client, stream=True))
    assert raised.value.body == {
        "type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"},
    }  # fmt: skip
    assert facts(server.ledger[0])["outcome"] == "error_in_stream"


@pytest.mark.parametrize(
    ("status", "kind", "error"),
    [
        (400, "invalid_request_error", anthropic.BadRequestError),
        (401, "authentication_error", anthropic.AuthenticationError),
        (429, "rate_limit_error", anthropic.RateLimitError),
        (500, "api_error", anthropic.InternalServerError),
        (529, "overloaded_error", anthropic.InternalServerError),
    ],
)
def test_error_status_is_anthropics(
    server: FakeLLMServer,
    client: anthropic.Anthropic,
    status: int,
    kind: str,
    error: type[anthropic.APIStatusError],
) -> None:
    """Each status has the body and the exception of Anthropic."""
    server.script(ErrorStatus(status, message="not today"))
    with pytest.raises(error, match="not today") as raised:
        ask(client)
    assert raised.value.body == {"type": "error", "error": {"type": kind, "message": "not today"}}
    assert facts(server.ledger[0]) == message(status=status, outcome="error")


def test_refused_request_is_retried_at_once(server: FakeLLMServer) -> None:
    """After 429 with a wait of 0 the SDK's retry finds the next answer of the script."""
    server.script(ErrorStatus(429, retry_after_s=0), Answer("ok"))
    with anthropic.Anthropic(base_url=server.root_url, api_key="any") as client:
        ask(client)
    assert [(served.attempt, served.outcome) for served in server.ledger] == [(1, "error"), (2, "ok")]
    assert server.ledger[1].ended_s - server.ledger[0].started_s < 0.4  # its own back-off is longer


@pytest.mark.parametrize("stream", [True, False])
def test_faults_are_what_they_are_elsewhere(
    server: FakeLLMServer, client: anthropic.Anthropic, stream: bool
) -> None:
    """No usage at all, and JSON that ends too early."""
    server.script(NoUsage(), MalformedJSON())
    answer = ask(client, stream=stream)
    said = list(answer)[0].message if stream else answer  # noqa: RUF015 - read to its end
    assert getattr(said, "usage", None) is None
    with pytest.raises(ValueError, match=r"Unterminated|Expecting|delimiter|EOF|parse"):
        list(ask(client, stream=stream))
    assert [served.outcome for served in server.ledger] == ["no_usage", "malformed_json"]


def test_counting_is_no_call(server: FakeLLMServer, client: anthropic.Anthropic) -> None:
    """Tokens can be counted, and a request that breaks the rules is refused in Anthropic's words."""
    messages: Any = [{"role": "user", "content": "one two"}]
    counted = client.messages.count_tokens(model=MODEL, messages=messages, system="three")
    assert (counted.input_tokens, server.ledger) == (2 + 1 + 8, ())
    with pytest.raises(anthropic.BadRequestError, match="messages"):
        client.messages.count_tokens(model=MODEL, messages=[])
    body: Any = {"model": MODEL, "messages": messages}
    with pytest.raises(anthropic.BadRequestError, match="max_tokens: Field required"):
        client.post("/v1/messages", body=body, cast_to=object)
    assert [facts(served) for served in server.ledger] == [
        expected("anthropic", "", status=400, outcome="error")
    ]
