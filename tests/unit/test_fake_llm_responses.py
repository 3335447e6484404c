"""The fake server's Responses, completions of old and Azure, as the OpenAI SDK sees them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from otel_genapp.fake_llm import (
    Answer,
    Cut,
    ErrorInStream,
    FakeLLMServer,
    MalformedJSON,
    NoUsage,
    ToolCall,
)
from tests.served_facts import expected, facts

MODEL = "gpt-5-mini"
SCRIPT = Answer(
    "It is here.",
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
def client(server: FakeLLMServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server.base_url, api_key="sk-any", max_retries=0) as made:
        yield made


def ask(client: openai.OpenAI, **more: Any) -> Any:
    return client.responses.create(model=MODEL, input="where is it", **more)


def response(**changes: Any) -> dict[str, Any]:
    return expected("responses", MODEL, **changes)


def test_response_says_its_tokens(server: FakeLLMServer, client: openai.OpenAI) -> None:
    """A whole response has the scripted text and every number of the script."""
    server.script(SCRIPT)
    answer = ask(client, user="u7")
    assert (answer.output_text, answer.status, answer.usage.model_dump(exclude_none=True)) == (
        "It is here.",
        "completed",
        {
            "input_tokens": 120,
            "input_tokens_details": {"cached_tokens": 100, "cache_write_tokens": 7},
            "output_tokens": 40,
            "output_tokens_details": {"reasoning_tokens": 30},
            "total_tokens": 160,
        },
    )
    [served] = server.ledger
    assert facts(served) == response(session="u7", **TOLD)
    assert (served.response_id, served.request_id) == (answer.id, answer._request_id)


def test_instructions_and_items_are_counted(server: FakeLLMServer, client: openai.OpenAI) -> None:
    """Input may be a list of messages; the last of the user comes back, all of them count."""
    items: Any = [
        {"role": "user", "content": [{"type": "input_text", "text": "one two"}]},
        {"role": "assistant", "content": "three"},
        {"role": "user", "content": "four"},
    ]
    answer = client.responses.create(model=MODEL, input=items, instructions="Be brief.")
    assert answer.output_text == "You said: four"
    assert facts(server.ledger[0])["tokens"]["input"] == 2 + 2 + 1 + 1 + 4 * 4


def test_response_stream_ends_with_the_whole_response(server: FakeLLMServer, client: openai.OpenAI) -> None:
    """Typed events are numbered, the deltas are the text, and only the last event says the usage."""
    server.script(Answer("It is here.", tool_calls=(ToolCall("search", '{"q": 1}'),), input_tokens=5))
    events = list(ask(client, stream=True))
    usages = [event.response.usage for event in events if hasattr(event, "response")]
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    arguments = [event.delta for event in events if event.type == "response.function_call_arguments.delta"]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert ("".join(deltas), "".join(arguments)) == ("It is here.", '{"q": 1}')
    assert [event.type for event in (*events[:2], events[-1])] == [
        "response.created", "response.in_progress", "response.completed",
    ]  # fmt: skip
    assert [usage and usage.input_tokens for usage in usages] == [None, None, 5]
    assert [item.type for item in events[-1].response.output] == ["message", "function_call"]
    told = {"input": 5, "output": 6, "cached": 0, "cache_write": 0, "reasoning": 0}
    assert facts(server.ledger[0]) == response(stream=True, tool_calls=("search",), **told)


@pytest.mark.parametrize(("finish", "status"), [("length", "incomplete"), ("error", "failed")])
@pytest.mark.parametrize("stream", [True, False])
def test_response_that_ends_otherwise_says_its_tokens_too(
    server: FakeLLMServer, client: openai.OpenAI, finish: str, status: str, stream: bool
) -> None:
    """Incomplete and failed responses are terminal events, or statuses, with usage."""
    server.script(Answer("It", finish_reason=finish, input_tokens=5, output_tokens=6))
    answer = ask(client, stream=stream)
    if stream:
        *_, last = answer
        assert last.type == f"response.{status}"
        answer = last.response
    assert (answer.status, answer.usage.total_tokens) == (status, 11)
    assert (answer.error is None, answer.incomplete_details is None) == (
        finish == "length",
        finish == "error",
    )
    assert server.ledger[0].outcome == "ok"


def test_error_in_a_response(server: FakeLLMServer, client: openai.OpenAI) -> None:
    """A stream breaks off with an error event; without a stream the body says `failed`."""
    fault = ErrorInStream(after_chunks=4, message="overloaded")
    server.script(fault, fault)
    *before, last = ask(client, stream=True)
    whole = ask(client)
    assert (len(before), last.type, last.message, last.sequence_number) == (4, "error", "overloaded", 4)
    assert (whole.status, whole.error.message, whole.usage) == ("failed", "overloaded", None)
    assert [facts(served) for served in server.ledger] == [
        response(stream=True, outcome="error_in_stream"),
        response(outcome="error_in_stream"),
    ]


def test_stored_response_is_no_call(server: FakeLLMServer, client: openai.OpenAI) -> None:
    """A response asked for again has its usage once more, and the ledger stays as it was."""
    server.script(SCRIPT)
    made, forgotten = ask(client), ask(client, store=False)
    again = client.responses.retrieve(made.id)
    counted = client.responses.input_tokens.count(model=MODEL, input="one two")
    assert (again.usage, again.output_text) == (made.usage, made.output_text)
    assert counted.input_tokens == 2 + 4
    for response_id in (forgotten.id, "resp_unknown"):
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(response_id)
    assert len(server.ledger) == 2


@pytest.mark.parametrize("stream", [True, False])
def test_responses_without_usage_and_broken(
    server: FakeLLMServer, client: openai.OpenAI, stream: bool
) -> None:
    """Faults are what they are elsewhere: no usage, a cut, JSON that ends too early."""
    server.script(NoUsage(), Cut(after_chunks=3), MalformedJSON())
    answer = ask(client, stream=stream)
    last = list(answer)[-1].response if stream else answer
    assert last.usage is None
    with pytest.raises(openai.APIConnectionError):
        list(ask(client, stream=stream))
    with pytest.raises(ValueError, match=r"Unterminated|Expecting|delimiter"):
        list(ask(client, stream=stream))
    assert [facts(served) for served in server.ledger] == [
        response(stream=stream, outcome=outcome) for outcome in ("no_usage", "cut", "malformed_json")
    ]


def test_completion_has_a_text_for_each_prompt(server: FakeLLMServer, client: openai.OpenAI) -> None:
    """Prompts times alternatives make the choices; the usage has no details."""
    answer = client.completions.create(model=MODEL, prompt=["one", "two words"], n=2)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert answer.choices[0].text == "You said: two words"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.prompt_tokens_details) == (3, None)
    assert [facts(served) for served in server.ledger] == [
        expected("completions", MODEL, operation="text_completion", input=3, output=16)
    ]


@pytest.mark.parametrize("asked", [True, False])
def test_completion_stream_tells_usage_when_asked(
    server: FakeLLMServer, client: openai.OpenAI, asked: bool
) -> None:
    """Text comes word by word, the usage last and only where it was asked for."""
    server.script(Answer("It is here.", input_tokens=5, tool_calls=("search",)))
    options: Any = {"stream_options": {"include_usage": True}} if asked else {}
    chunks = list(client.completions.create(model=MODEL, prompt="where", stream=True, **options))
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == "It is here."
    assert [chunk.usage.prompt_tokens for chunk in chunks if chunk.usage] == ([5] if asked else [])
    told: dict[str, Any] = {"input": 5, "output": 3} if asked else {"outcome": "no_usage"}
    assert [facts(served) for served in server.ledger] == [
        expected("completions", MODEL, operation="text_completion", stream=True, **told)
    ]


def test_written_cache_is_said_where_there_is_any(server: FakeLLMServer, client: openai.OpenAI) -> None:
    """A chat completion has `cache_write_tokens` among the details of its prompt."""
    server.script(SCRIPT, Answer())
    both = [
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "hi"}])
        for _ in range(2)
    ]
    details = [one.usage.prompt_tokens_details for one in both if one.usage]
    assert [one.cache_write_tokens for one in details if one] == [7, None]
    assert facts(server.ledger[0]) == expected("chat", MODEL, **TOLD)
    assert server.ledger[1].cache_write_tokens is None


@pytest.mark.parametrize("stream", [True, False])
def test_azure_filters_first(server: FakeLLMServer, stream: bool) -> None:
    """The deployment is the model, and what the filters made of the prompt comes before the answer."""
    options: Any = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    server.script(Answer("Here.", input_tokens=5, output_tokens=6))
    with openai.AzureOpenAI(
        azure_endpoint=server.root_url, api_key="any", api_version="2024-10-21", azure_deployment="my gpt"
    ) as client:
        answer: Any = client.chat.completions.create(
            model="my gpt", messages=[{"role": "user", "content": "hi"}], **options
        )
        if stream:
            first, *_, last = answer
            assert (first.choices, first.model, last.usage.total_tokens) == ([], "", 11)
            answer = first
    assert answer.prompt_filter_results[0]["prompt_index"] == 0
    [served] = server.ledger
    told = {"input": 5, "output": 6, "cached": 0, "reasoning": 0}
    assert facts(served) == expected("azure", "my gpt", stream=stream, **told)
    assert served.headers["api-key"] == "[REDACTED]"


def test_azure_takes_the_deployment_for_the_model(server: FakeLLMServer) -> None:
    """A body need not name the model, but the address must name the version of the API."""
    deployment = f"{server.root_url}/openai/deployments/d/"
    version = {"api-version": "2024-10-21"}
    bodies = {
        "chat/completions": {"messages": [{"role": "user", "content": "hi"}]},
        "completions": {"prompt": "hi"},
        "embeddings": {"input": "hi"},
    }
    answers = [
        httpx.post(deployment + path, params=version, json=body).json()["model"]
        for path, body in bodies.items()
    ]
    assert answers == ["d", "d", "d"]
    assert [(served.protocol, served.model) for served in server.ledger] == [
        ("azure", "d"), ("completions", "d"), ("embeddings", "d"),
    ]  # fmt: skip
    assert httpx.post(f"{deployment}embeddings", json=bodies["embeddings"]).status_code == 404
