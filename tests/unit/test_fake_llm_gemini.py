"""The fake server's Gemini on the wire; Google's SDK meets it in tests/integration/test_llm_matrix.py."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
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

MODEL = "gemini-3-flash"
BODY: dict[str, Any] = {
    "contents": [{"role": "user", "parts": [{"text": "where is it"}]}],
    "labels": {"session_id": "s1"},
}
SCRIPT = Answer("It is here.", input_tokens=120, output_tokens=40, cached_tokens=100, reasoning_tokens=30)
TOLD = {"input": 120, "output": 40, "cached": 100, "reasoning": 30}
USAGE = {
    "promptTokenCount": 120,
    "candidatesTokenCount": 10,
    "cachedContentTokenCount": 100,
    "thoughtsTokenCount": 30,
    "totalTokenCount": 160,
}


@pytest.fixture
def server() -> Iterator[FakeLLMServer]:
    with FakeLLMServer() as running:
        yield running


def post(server: FakeLLMServer, verb: str, body: dict[str, Any] | None = None) -> httpx.Response:
    url = f"{server.root_url}/v1beta/models/{MODEL}:{verb}"
    return httpx.post(url, json=BODY if body is None else body, headers={"x-goog-api-key": "secret"})


def generated(**changes: Any) -> dict[str, Any]:
    return expected("gemini", MODEL, operation="generate_content", **{"session": "s1", **changes})


def chunks_of(answer: httpx.Response, *, array: bool) -> list[dict[str, Any]]:
    """The chunks of a stream, in either form."""
    if array:
        found: list[dict[str, Any]] = json.loads(answer.text)
        return found
    return [json.loads(event.removeprefix("data: ")) for event in answer.text.split("\n\n") if event]


def verb_of(array: bool) -> str:
    return "streamGenerateContent" if array else "streamGenerateContent?alt=sse"


def test_thoughts_come_on_top_of_the_candidates(server: FakeLLMServer) -> None:
    """The wire counts thoughts apart, the ledger as part of the output; the key is not kept."""
    server.script(SCRIPT)
    answer = post(server, "generateContent").json()
    [candidate] = answer["candidates"]
    assert (candidate["content"]["parts"], candidate["finishReason"]) == ([{"text": "It is here."}], "STOP")
    assert (answer["usageMetadata"], answer["modelVersion"]) == (USAGE, MODEL)
    [served] = server.ledger
    assert facts(served) == generated(**TOLD)
    assert (served.response_id, served.headers["x-goog-api-key"]) == (answer["responseId"], "[REDACTED]")


@pytest.mark.parametrize("array", [True, False])
def test_every_chunk_has_usage_and_the_last_is_right(server: FakeLLMServer, array: bool) -> None:
    """Events or the elements of an array: a word each, and a count that grows and then is replaced."""
    server.script(
        Answer("It is here.", tool_calls=(ToolCall("search", '{"q": 1}'),), input_tokens=5, output_tokens=2)
    )
    answer = post(server, verb_of(array))
    chunks = chunks_of(answer, array=array)
    assert answer.headers["content-type"].startswith("application/json" if array else "text/event-stream")
    assert [chunk["usageMetadata"]["candidatesTokenCount"] for chunk in chunks] == [1, 2, 3, 2]
    assert [chunk["candidates"][0].get("finishReason") for chunk in chunks] == [None, None, None, "STOP"]
    assert chunks[-1]["candidates"][0]["content"]["parts"] == [
        {"functionCall": {"name": "search", "args": {"q": 1}}}
    ]
    assert [facts(served) for served in server.ledger] == [
        generated(stream=True, tool_calls=("search",), input=5, output=2)
    ]


@pytest.mark.parametrize("array", [True, False])
def test_empty_answer_is_one_chunk(server: FakeLLMServer, array: bool) -> None:
    """A stream without a word still ends with a reason and its usage."""
    server.script(Answer("", finish_reason="length"))
    [chunk] = chunks_of(post(server, verb_of(array)), array=array)
    assert (chunk["candidates"][0]["finishReason"], chunk["usageMetadata"]["totalTokenCount"]) == (
        "MAX_TOKENS", 7,
    )  # fmt: skip


@pytest.mark.parametrize("array", [True, False])
@pytest.mark.parametrize("after", [0, 2, 99])
def test_error_in_a_stream_stands_for_the_rest(server: FakeLLMServer, array: bool, after: int) -> None:
    """What was told before the error stays told; an array is closed behind it."""
    server.script(Answer("It is here.", input_tokens=5, fault=ErrorInStream(after, message="busy")))
    *before, last = chunks_of(post(server, verb_of(array)), array=array)
    assert len(before) == min(after, 2)
    assert last == {"error": {"code": 503, "message": "busy", "status": "UNAVAILABLE"}}
    told = {"input": 5, "output": 2} if after else {}
    assert facts(server.ledger[0]) == generated(stream=True, outcome="error_in_stream", **told)


@pytest.mark.parametrize("array", [True, False])
def test_cut_and_malformed_streams(server: FakeLLMServer, array: bool) -> None:
    """A cut breaks the connection after its chunks, a malformed stream ends as if all were well."""
    server.script(Cut(after_chunks=1, reset=False), MalformedJSON())
    with pytest.raises(httpx.RemoteProtocolError):
        post(server, verb_of(array))
    with pytest.raises(json.JSONDecodeError):
        chunks_of(post(server, verb_of(array)), array=array)
    assert [served.outcome for served in server.ledger] == ["cut", "malformed_json"]


@pytest.mark.parametrize("verb", ["generateContent", "streamGenerateContent?alt=sse"])
def test_no_usage(server: FakeLLMServer, verb: str) -> None:
    """A complete answer without `usageMetadata`."""
    server.script(NoUsage())
    assert "usageMetadata" not in post(server, verb).text
    assert facts(server.ledger[0])["outcome"] == "no_usage"
    assert facts(server.ledger[0])["tokens"] == {}


@pytest.mark.parametrize(
    ("status", "name"), [(400, "INVALID_ARGUMENT"), (429, "RESOURCE_EXHAUSTED"), (500, "INTERNAL")]
)
def test_error_status_is_googles(server: FakeLLMServer, status: int, name: str) -> None:
    """Each status has Google's body."""
    server.script(ErrorStatus(status, message="not today"))
    answer = post(server, "generateContent")
    assert (answer.status_code, answer.json()) == (
        status, {"error": {"code": status, "message": "not today", "status": name}},
    )  # fmt: skip
    assert facts(server.ledger[0]) == generated(status=status, outcome="error")


def test_arguments_that_are_no_object_are_sent_as_text(server: FakeLLMServer) -> None:
    """A script may hold arguments that no JSON object can carry."""
    server.script(Answer(tool_calls=(ToolCall("search", "red shoes"), ToolCall("stock", "[1]"))))
    parts = post(server, "generateContent").json()["candidates"][0]["content"]["parts"]
    assert [part["functionCall"]["args"] for part in parts] == [{"text": "red shoes"}, {"text": "[1]"}]


def test_counting_is_no_call(server: FakeLLMServer) -> None:
    """Tokens of contents, or of a whole request, can be counted; other verbs are unknown."""
    whole = {"generateContentRequest": {**BODY, "systemInstruction": {"parts": [{"text": "Be brief."}]}}}
    counted = [post(server, "countTokens", body).json() for body in (BODY, whole)]
    assert counted == [{"totalTokens": 3 + 4}, {"totalTokens": 3 + 2 + 8}]
    assert post(server, "countTokens", {}).status_code == 400
    assert post(server, "predict").status_code == 404
    assert server.ledger == ()
    assert post(server, "generateContent", {}).json()["error"]["status"] == "INVALID_ARGUMENT"
